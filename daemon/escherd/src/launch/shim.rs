//! One shim, from escherd's side.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::os::fd::AsFd;

use escher_launcher::ipc::packet::PacketSocket;
use escher_launcher::ipc::wire::{FromShim, MAX_PACKET_BYTES, ShimState, ToShim, WIRE_VERSION};
use escher_protocol::{ExecutionId, Leftovers, Timestamp, codec};
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use serde::Serialize;
use tokio::sync::mpsc;
use tracing::{debug, warn};

use super::packets::Packets;
use crate::scheduler::{Launch, Scheduler, SchedulerHandle};

/// The version from which on shims have cgroups for their commands, where there are any.
const FIRST_WITH_CGROUPS: u16 = 4;

/// A shim.
#[derive(Debug)]
pub(super) struct Shim {
    packets: Packets,
    pid: u32,
    /// The version that it speaks.
    version: u16,
    /// The execution that it has, or had last.
    last: Option<ExecutionId>,
    /// The limit of output of its command, if it is too old to keep to that: the command then runs to its end,
    /// and its report is held to the limit here. Not in a shim that was adopted: nobody has noted it.
    unkept_output_limit: Option<u64>,
    /// Longest packet that is expected of it, in bytes.
    longest_news: usize,
}

/// A shim that is done with an execution.
pub(super) struct Returned {
    pub(super) id: ExecutionId,
    pub(super) pid: u32,
    /// `None` if it is gone.
    pub(super) shim: Option<Shim>,
}

impl Shim {
    /// A shim that was forked and has no command yet.
    pub(super) fn new(socket: PacketSocket, pid: u32, version: u16) -> io::Result<Self> {
        let packets = Packets::new(socket)?;
        Ok(Shim {
            packets,
            pid,
            version,
            last: None,
            unkept_output_limit: None,
            longest_news: NEWS_BYTES,
        })
    }

    /// A shim that was found, and said so.
    pub(super) fn adopted(packets: Packets, state: &ShimState) -> Self {
        Shim {
            packets,
            pid: state.pid,
            version: state.version,
            last: Some(state.id),
            unkept_output_limit: None,
            longest_news: NEWS_BYTES,
        }
    }

    /// A shim that was found to have an execution, and has not said anything. It will say
    /// [`FromShim::Adoptable`] first.
    pub(super) fn silent(packets: Packets, id: ExecutionId) -> Self {
        Shim {
            packets,
            pid: 0,
            version: WIRE_VERSION,
            last: Some(id),
            unkept_output_limit: None,
            longest_news: MAX_PACKET_BYTES,
        }
    }

    pub(super) fn pid(&self) -> u32 {
        self.pid
    }

    pub(super) fn version(&self) -> u16 {
        self.version
    }

    pub(super) fn last(&self) -> Option<ExecutionId> {
        self.last
    }

    /// Whether it can hold a command to what `launch` says that it may use.
    pub(super) fn can_limit(&self, launch: &Launch) -> bool {
        launch.limits.is_unlimited() || self.version >= FIRST_WITH_CGROUPS
    }

    /// Gives it a command, to which it [can keep](Shim::can_limit). On an error it has not seen it.
    pub(super) fn launch(&mut self, launch: &Launch) -> io::Result<()> {
        let Launch {
            assignment,
            output_limit,
            limits,
        } = launch;
        self.last = Some(assignment.spec.id);
        match output_limit {
            Some(bytes) if self.version >= 3 => {
                let limit = codec::encode(&ToShim::LimitOutput { bytes: *bytes });
                self.packets
                    .send_now(&limit.map_err(io::Error::other)?, None)?;
            }
            limit => self.unkept_output_limit = *limit,
        }
        if !limits.is_unlimited() {
            let limits = codec::encode(&ToShim::LimitResources(*limits));
            self.packets
                .send_now(&limits.map_err(io::Error::other)?, None)?;
        }
        if self.version < 2 {
            let spec = &assignment.spec;
            return self.hand(
                &ToShim::Launch(Box::new(spec.clone())),
                &ToShim::LaunchFromMemory,
                spec,
            );
        }
        let whole = ToShim::Assign(Box::new(assignment.clone()));
        self.hand(&whole, &ToShim::AssignFromMemory, assignment)
    }

    fn make_up_for_its_age(&self, news: &mut FromShim) {
        if let FromShim::Exited(report) = news
            && let Some(limit) = self.unkept_output_limit
        {
            report.hold_to(limit);
        }
    }

    /// Sends `whole` if it fits into a packet; else `by_memory`, with `body` in memory beside it.
    fn hand(&self, whole: &ToShim, by_memory: &ToShim, body: &impl Serialize) -> io::Result<()> {
        let bytes = codec::encode(whole).map_err(io::Error::other)?;
        if bytes.len() <= MAX_PACKET_BYTES {
            return self.packets.send_now(&bytes, None);
        }
        let memory = sealed_memory(&codec::encode(body).map_err(io::Error::other)?)?;
        let bytes = codec::encode(by_memory).map_err(io::Error::other)?;
        self.packets.send_now(&bytes, Some(memory.as_fd()))
    }
}

/// Memory that holds `bytes` and that nobody can change any more (memfd_create(2), F_ADD_SEALS in fcntl(2)).
fn sealed_memory(bytes: &[u8]) -> io::Result<std::fs::File> {
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    let mut memory = std::fs::File::from(memfd_create(c"escher-launch", flags)?);
    memory.write_all(bytes)?;
    let seals = SealFlag::F_SEAL_WRITE
        | SealFlag::F_SEAL_SHRINK
        | SealFlag::F_SEAL_GROW
        | SealFlag::F_SEAL_SEAL;
    fcntl(&memory, FcntlArg::F_ADD_SEALS(seals))?;
    Ok(memory)
}

/// Carries orders to the shim that runs `id`, and its news to the engine, until the result is safe or the
/// shim is gone.
pub(super) async fn attend(
    id: ExecutionId,
    shim: Shim,
    orders: mpsc::UnboundedReceiver<ToShim>,
    engine: SchedulerHandle,
    returns: mpsc::UnboundedSender<Returned>,
) {
    let pid = shim.pid;
    let shim = match converse(id, &shim, orders, &engine).await {
        Ok(version) => Some(Shim { version, ..shim }),
        Err(error) => {
            debug!(execution = %id, shim = pid, %error, "the shim is gone");
            None
        }
    };
    let _ = returns.send(Returned { id, pid, shim });
}

/// Returns the version that the shim speaks: one that was silent says it only now.
async fn converse(
    id: ExecutionId,
    shim: &Shim,
    mut orders: mpsc::UnboundedReceiver<ToShim>,
    engine: &SchedulerHandle,
) -> io::Result<u16> {
    // Bounded by what the engine sends ahead: see `INPUT_WINDOW` and the like in `wire`.
    let mut outgoing: VecDeque<Vec<u8>> = VecDeque::new();
    let mut buffer = vec![0; shim.longest_news];
    let mut over = false;
    let mut version = shim.version;
    loop {
        tokio::select! {
            packet = shim.packets.receive(&mut buffer) => {
                let packet = packet?.ok_or(io::ErrorKind::UnexpectedEof)?;
                let mut message =
                    codec::decode(&buffer[..packet.length]).map_err(io::Error::other)?;
                shim.make_up_for_its_age(&mut message);
                warn_of_leftovers(&message);
                if let FromShim::Adoptable(state) = &message {
                    version = state.version;
                }
                let tell = move |engine: &mut Scheduler| {
                    engine.shim_news(id, message, Timestamp::now());
                };
                engine.post(tell).await.map_err(io::Error::other)?;
            }
            order = orders.recv() => {
                let order = order.ok_or(io::ErrorKind::ConnectionAborted)?;
                if matches!(order, ToShim::Pause | ToShim::Resume) && version < FIRST_WITH_CGROUPS {
                    let refuse = move |engine: &mut Scheduler| engine.pause_refused(id);
                    engine.post(refuse).await.map_err(io::Error::other)?;
                    continue;
                }
                over |= order == ToShim::Recorded;
                outgoing.push_back(codec::encode(&order).map_err(io::Error::other)?);
            }
            sent = send_first(shim, &outgoing), if !outgoing.is_empty() => {
                if sent.is_err() {
                    // It is gone, but what it said last may still be there to be read.
                    outgoing.clear();
                    continue;
                }
                outgoing.pop_front();
                if over && outgoing.is_empty() {
                    return Ok(version);
                }
            }
        }
    }
}

/// Longest packet that a shim sends after its first: a report, with a user's name in it.
const NEWS_BYTES: usize = 4096;

async fn send_first(shim: &Shim, outgoing: &VecDeque<Vec<u8>>) -> io::Result<()> {
    match outgoing.front() {
        Some(bytes) => shim.packets.send(bytes).await,
        None => Ok(()),
    }
}

fn warn_of_leftovers(news: &FromShim) {
    if let FromShim::Exited(report) = news
        && report.leftovers == Leftovers::Unkillable
    {
        warn!(execution = %report.id, "processes are left that SIGKILL does not end");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use escher_launcher::ipc::packet::Waiting;
    use escher_launcher::ipc::wire::{Assignment, EndCause, ExitReport, LaunchSpec, LogLimits};
    use escher_protocol::{Blob, Exit, OutputTotals, ResourceLimits, Usage};

    const ID: ExecutionId = ExecutionId::from_bytes([7; 16]);

    fn launch(argument: Blob, output_limit: Option<u64>) -> Launch {
        let spec = LaunchSpec {
            id: ID,
            argv: vec!["true".into(), argument],
            environment: Vec::new(),
            working_dir: "/".into(),
            or_root: false,
            identity: None,
            stdin: false,
            timeout_ms: None,
            kill_grace_ms: 1,
        };
        Launch {
            assignment: Assignment {
                spec,
                memo: Blob::default(),
                log_limits: LogLimits::default(),
            },
            output_limit,
            limits: ResourceLimits::default(),
        }
    }

    /// What a shim of `version` hears of a launch, and the shim.
    fn heard(version: u16, launch: &Launch) -> (Vec<ToShim>, Shim) {
        let (here, there) = PacketSocket::pair().unwrap();
        let mut shim = Shim::new(here, 1, version).unwrap();
        shim.launch(launch).unwrap();
        let mut buffer = vec![0; MAX_PACKET_BYTES];
        let mut heard = Vec::new();
        while let Ok(Some(packet)) = there.receive(&mut buffer, Waiting::Never) {
            heard.push(codec::decode(&buffer[..packet.length]).unwrap());
        }
        (heard, shim)
    }

    #[tokio::test]
    async fn a_limit_of_output_goes_ahead_of_the_launch_if_the_shim_knows_of_it() {
        let limit = || ToShim::LimitOutput { bytes: 10 };
        let short = launch("x".into(), Some(10));
        let assign = || ToShim::Assign(Box::new(short.assignment.clone()));
        let old = ToShim::Launch(Box::new(short.assignment.spec.clone()));
        assert_eq!(heard(1, &short).0, [old]);
        assert_eq!(heard(2, &short).0, [assign()]);
        assert_eq!(heard(3, &short).0, [limit(), assign()]);
        let long = launch(vec![b'x'; MAX_PACKET_BYTES].into(), Some(10));
        assert_eq!(heard(3, &long).0, [limit(), ToShim::AssignFromMemory]);
        let unlimited = launch("x".into(), None);
        let assign = ToShim::Assign(Box::new(unlimited.assignment.clone()));
        assert_eq!(heard(3, &unlimited).0, [assign]);
    }

    #[tokio::test]
    async fn limits_go_ahead_of_the_launch_to_shims_that_know_of_them() {
        let limits = ResourceLimits {
            tasks_max: Some(5),
            ..ResourceLimits::default()
        };
        let limited = Launch {
            limits,
            ..launch("x".into(), None)
        };
        let assign = || ToShim::Assign(Box::new(limited.assignment.clone()));
        let (heard_of_limits, shim) = heard(4, &limited);
        assert_eq!(heard_of_limits, [ToShim::LimitResources(limits), assign()]);
        assert!(shim.can_limit(&limited));
        let unlimited = launch("x".into(), None);
        let (heard, old) = heard(3, &unlimited);
        assert_eq!(heard, [assign()]);
        assert!(old.can_limit(&unlimited) && !old.can_limit(&limited));
    }

    #[tokio::test]
    async fn a_shim_of_before_cgroups_is_not_asked_to_pause() {
        let orders = || [ToShim::Pause, ToShim::Resume, ToShim::Recorded];
        for (version, expected) in [(3, &[ToShim::Recorded][..]), (4, &orders())] {
            let (here, there) = PacketSocket::pair().unwrap();
            let shim = Shim::new(here, 1, version).unwrap();
            let (_, verdicts) = mpsc::unbounded_channel();
            let engine = Scheduler::new(crate::scheduler::testbed::settings(1));
            let (engine, _effects) = crate::scheduler::start(engine, verdicts, |_| {});
            let (sender, carried) = mpsc::unbounded_channel();
            for order in orders() {
                sender.send(order).unwrap();
            }
            let spoken = converse(ID, &shim, carried, &engine).await.unwrap();
            assert_eq!(spoken, version);
            let mut buffer = vec![0; MAX_PACKET_BYTES];
            let mut heard: Vec<ToShim> = Vec::new();
            while let Ok(Some(packet)) = there.receive(&mut buffer, Waiting::Never) {
                heard.push(codec::decode(&buffer[..packet.length]).unwrap());
            }
            assert_eq!(heard, expected);
        }
    }

    #[tokio::test]
    async fn the_report_of_a_shim_that_knows_no_limit_is_held_to_it() {
        let cause = |version, output_limit| {
            let (_, shim) = heard(version, &launch("x".into(), output_limit));
            let mut news = FromShim::Exited(Box::new(ExitReport {
                id: ID,
                exit: Exit::Code(0),
                cause: EndCause::Itself,
                ended_by_signal: None,
                started_at: None,
                ended_at: Timestamp::from_micros(2),
                duration_us: 1,
                usage: Usage::default(),
                output: OutputTotals {
                    stderr_bytes: 11,
                    ..OutputTotals::default()
                },
                leftovers: Leftovers::None,
            }));
            shim.make_up_for_its_age(&mut news);
            match news {
                FromShim::Exited(report) => report.cause,
                other => panic!("{other:?}"),
            }
        };
        for version in [1, 2] {
            assert_eq!(cause(version, Some(10)), EndCause::OversizedOutput);
            assert_eq!(cause(version, Some(11)), EndCause::Itself);
            assert_eq!(cause(version, None), EndCause::Itself);
        }
        // A shim that knows of limits has judged for itself.
        assert_eq!(cause(3, Some(10)), EndCause::Itself);
    }
}
