//! The task that starts commands. The modules beside it decide; this one does the I/O.

use std::collections::HashMap;
use std::path::PathBuf;

use escher_launcher::ipc::exit_record;
use escher_launcher::ipc::shim_socket;
use escher_launcher::ipc::wire::{ExecutionFiles, FIRST_ATTEMPT, LauncherRequest, ToShim};
use escher_protocol::{ExecutionId, Leftovers, Timestamp};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tracing::{Instrument, debug, debug_span, error, info, warn};

use super::adoption::Adoption;
use super::file_tasks::{FileTask, FileTasks};
use super::launcher::{LauncherConnection, LauncherEvent, LauncherSettings, LauncherState};
use super::launcher_link::{LauncherLink, LinkEvent, sleep_until_some};
use super::pool::{ShimPool, WaitingLaunch};
use super::shim::{self, DisconnectedShim, RelayEnd, Shim};
use super::shim_deaths::{Decision, ShimDeaths};
use crate::execution::Loss;
use crate::scheduler::{Effect, Scheduler, SchedulerHandle};

struct Dispatcher {
    scheduler: SchedulerHandle,
    /// Directory of the exit records.
    exit_records: PathBuf,
    /// Directory of the shims' sockets.
    shim_sockets: PathBuf,
    link: LauncherLink,
    pool: ShimPool<Shim>,
    /// For each shim that has an execution, the messages to its [`shim::relay`].
    relays: HashMap<ExecutionId, mpsc::UnboundedSender<ToShim>>,
    deaths: ShimDeaths,
    file_tasks: FileTasks,
    /// Unbounded: each shim has at most one relay.
    relay_ends: mpsc::UnboundedSender<RelayEnd>,
    /// Calls of the scheduler, in order. Unbounded: each answers an effect, or an event of the launcher.
    calls: mpsc::UnboundedSender<SchedulerCall>,
}

type SchedulerCall = Box<dyn FnOnce(&mut Scheduler) + Send>;

/// Carries out `effects` until the scheduler stops, and then closes the connection to the launcher.
/// Without a `connection`, commands wait for the first launcher, which has to be root's. `state`
/// shows the launcher that is connected.
pub async fn run(
    settings: LauncherSettings,
    connection: Option<LauncherConnection>,
    adoption: Adoption,
    scheduler: SchedulerHandle,
    mut effects: mpsc::UnboundedReceiver<Effect>,
    state: watch::Sender<Option<LauncherState>>,
) {
    let (relay_ends, mut ended_relays) = mpsc::unbounded_channel();
    let pool = ShimPool::new(settings.warm_shims);
    let exit_records = settings.state_dir.join(exit_record::DIRECTORY);
    let shim_sockets = settings.runtime_dir.join(shim_socket::DIRECTORY);
    let link = LauncherLink::new(settings, connection, state);
    let (calls, queued_calls) = mpsc::unbounded_channel();
    tokio::spawn(forward_calls(queued_calls, scheduler.clone()));
    let mut dispatcher = Dispatcher {
        scheduler,
        exit_records,
        shim_sockets,
        pool,
        relays: HashMap::new(),
        deaths: ShimDeaths::new(link.has_cgroups()),
        link,
        file_tasks: FileTasks::default(),
        relay_ends,
        calls,
    };
    for (shim, state) in adoption.adopted {
        dispatcher.start_relay(state.id, shim, Vec::new());
    }
    for (shim, id) in adoption.silent {
        dispatcher.start_relay(id, shim, Vec::new());
    }
    loop {
        dispatcher.request_shims();
        dispatcher.request_file_task();
        tokio::select! {
            effect = effects.recv() => match effect {
                Some(effect) => dispatcher.carry_out(effect),
                None => break,
            },
            Some(end) = ended_relays.recv() => dispatcher.on_relay_end(end),
            event = dispatcher.link.next_event() => dispatcher.on_link_event(event),
            () = sleep_until_some(dispatcher.pool.trim_at()) => dispatcher.trim(),
            () = sleep_until_some(dispatcher.file_tasks.retry_at()) => dispatcher.file_tasks.retry(),
            () = sleep_until_some(dispatcher.deaths.deadline()) => dispatcher.on_death_deadline(),
        }
    }
    // Ready shims end now; shims with a command go on alone.
    dispatcher.pool.clear_ready();
    dispatcher.link.close().await;
}

impl Dispatcher {
    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Launch(assignment) => {
                self.pool.queue_launch(WaitingLaunch::new(assignment));
                self.launch_waiting();
            }
            Effect::DeleteFiles(files, ids) => self.file_tasks.add(FileTask::Delete(files), ids),
            Effect::RevokeRead { uid, ids } => {
                self.file_tasks.add(FileTask::RevokeRead { uid }, ids);
            }
            // Never arrives: `scheduler::handle` passes it to the store.
            Effect::Commit(_) => {}
            Effect::Withdraw(id) => {
                let is_withdrawn = self.pool.withdraw(id);
                self.post(move |scheduler| {
                    scheduler.on_withdrawal(id, is_withdrawn, Timestamp::now());
                });
            }
            Effect::Send(id, message) => self.send_to_shim(id, message),
        }
    }

    fn send_to_shim(&mut self, id: ExecutionId, message: ToShim) {
        if let Some(messages) = self.relays.get(&id) {
            // Fails if the relay has just ended because the shim has died.
            let _ = messages.send(message);
        } else if let Some(launch) = self.pool.waiting_launch_mut(id) {
            launch.messages.push(message);
        } else if message == ToShim::Recorded {
            // The shim died after it had sent its exit report, and left its claim.
            self.remove_claim(id);
        }
    }

    /// Launches waiting commands, as long as there are ready shims.
    fn launch_waiting(&mut self) {
        while let Some((mut shim, launch)) = self.pool.next_launch() {
            let id = launch.id();
            match shim.launch(&launch.assignment) {
                Ok(()) => {
                    debug!(execution = %id, shim = shim.pid(), "launch sent to a ready shim");
                    self.start_relay(id, shim, launch.messages);
                }
                Err(error) => {
                    // It died while it was ready, and has not seen the launch.
                    let pid = shim.pid();
                    warn!(execution = %id, shim = pid, %error, "a ready shim is dead; taking another");
                    self.pool.requeue_launch(launch);
                    self.forget_ready_shim(&shim);
                }
            }
        }
    }

    fn start_relay(&mut self, id: ExecutionId, shim: Shim, first_messages: Vec<ToShim>) {
        let (sender, messages) = mpsc::unbounded_channel();
        for message in first_messages {
            let _ = sender.send(message);
        }
        self.relays.insert(id, sender);
        let (scheduler, ends) = (self.scheduler.clone(), self.relay_ends.clone());
        let span = debug_span!("execution", %id, shim = shim.pid());
        tokio::spawn(shim::relay(id, shim, messages, scheduler, ends).instrument(span));
    }

    fn on_relay_end(&mut self, end: RelayEnd) {
        match end {
            RelayEnd::Ready(shim) => {
                if let Some(id) = shim.last_execution() {
                    self.relays.remove(&id);
                }
                // It died after its execution was over, and the launcher's notice came before.
                if self.deaths.has_notice(shim.pid()) {
                    self.forget_ready_shim(&shim);
                } else {
                    self.pool.on_returned(shim);
                    self.launch_waiting();
                }
            }
            RelayEnd::Left { id, pid } => {
                self.relays.remove(&id);
                self.deaths.forget(pid);
            }
            RelayEnd::Disconnected(shim) => {
                self.relays.remove(&shim.id);
                self.on_disconnected(&shim);
            }
        }
        if self.pool.needs_trim() {
            self.pool.schedule_trim(Instant::now());
        }
    }

    /// Handles the end of a connection: a shim that lives on is adopted anew.
    fn on_disconnected(&mut self, disconnected: &DisconnectedShim) {
        let is_dead = self.deaths.has_notice(disconnected.pid);
        if !is_dead && let Ok(shim) = disconnected.reconnect(&self.shim_sockets) {
            info!(execution = %disconnected.id, shim = disconnected.pid, "reconnected to a shim that had disconnected");
            self.start_relay(disconnected.id, shim, Vec::new());
        } else if !is_dead && disconnected.has_left_processes(&self.shim_sockets) {
            // It has written an exit record before.
            self.deaths.forget(disconnected.pid);
            self.conclude(disconnected.id, Leftovers::Unknown);
        } else {
            let now = Instant::now();
            let decision = self
                .deaths
                .on_shim_death(disconnected.id, disconnected.pid, now);
            self.apply(decision);
        }
    }

    fn trim(&mut self) {
        for shim in self.pool.trim() {
            self.deaths.forget(shim.pid());
        }
    }

    fn on_link_event(&mut self, event: LinkEvent) {
        match event {
            LinkEvent::Launcher(event) => self.on_launcher_event(event),
            LinkEvent::Connected(abilities) => {
                let has_cgroups = abilities.cgroups.is_some();
                self.post(move |scheduler| scheduler.on_launcher_connected(&abilities));
                let decisions = self.deaths.on_connected(has_cgroups, Instant::now());
                self.apply(decisions);
            }
            LinkEvent::Disconnected => {
                self.post(Scheduler::on_launcher_disconnected);
                self.pool.on_launcher_disconnected();
                self.file_tasks.on_launcher_disconnected();
                let decisions = self.deaths.on_disconnected(Instant::now());
                self.apply(decisions);
            }
            // The loop requests what is missing.
            LinkEvent::Resumed => {}
        }
    }

    fn on_launcher_event(&mut self, event: LauncherEvent) {
        match event {
            LauncherEvent::Forked(shim) => {
                self.deaths.on_forked(shim.pid());
                self.pool.on_forked(shim);
                self.launch_waiting();
            }
            LauncherEvent::ForkFailed(error) => {
                error!(%error, "the launcher cannot fork a shim");
                self.pool.on_fork_failed();
                self.link.on_fork_failed();
            }
            LauncherEvent::ShimDied { pid, leftovers } => self.on_death_notice(pid, leftovers),
            LauncherEvent::CgroupKilled { id, leftovers } => {
                let decision = self.deaths.on_cgroup_killed(id, leftovers);
                self.apply(decision);
            }
            LauncherEvent::FilesDeleted { files, ids } => {
                self.file_tasks.on_done(&ids, Instant::now());
                self.post(move |scheduler| scheduler.on_deleted(files, ids));
            }
            LauncherEvent::ReadRevoked { ids } => self.file_tasks.on_done(&ids, Instant::now()),
            // The link handles it.
            LauncherEvent::Disconnected(_) => {}
        }
    }

    fn on_death_notice(&mut self, pid: u32, leftovers: Leftovers) {
        let ready = if self.deaths.is_forked(pid) {
            self.pool.remove_ready(|shim| shim.pid() == pid)
        } else {
            None
        };
        if let Some(shim) = ready {
            warn!(shim = pid, "a ready shim has died");
            self.forget_ready_shim(&shim);
        } else {
            let decision = self.deaths.on_death_notice(pid, leftovers, Instant::now());
            self.apply(decision);
        }
    }

    fn on_death_deadline(&mut self) {
        let decisions = self.deaths.on_deadline(Instant::now());
        self.apply(decisions);
    }

    fn apply(&mut self, decisions: impl IntoIterator<Item = Decision>) {
        for decision in decisions {
            match decision {
                Decision::KillCgroup(id) => {
                    // If it cannot be sent the launcher is about to end; the next one is asked again.
                    let _ = self.link.send(&LauncherRequest::KillCgroup { id });
                }
                Decision::Conclude(id, leftovers) => self.conclude(id, leftovers),
            }
        }
    }

    /// Finishes an execution whose shim is dead: with its exit record, or else as lost.
    fn conclude(&self, id: ExecutionId, leftovers: Leftovers) {
        let path = exit_record::file_name(id, FIRST_ATTEMPT);
        let path = self.exit_records.join(path);
        let scheduler = self.scheduler.clone();
        tokio::spawn(async move {
            let read = tokio::task::spawn_blocking(move || exit_record::read(&path));
            let report = match read.await {
                Ok(Ok(report)) => Some(report),
                Ok(Err(problem)) if problem.is_of_another_version() => {
                    error!("{problem}; it is left for an escherd that understands it");
                    return;
                }
                Ok(Err(_)) | Err(_) => None,
            };
            let finish = move |scheduler: &mut Scheduler| match report {
                Some(report) => scheduler.on_exit_record(Box::new(report), Timestamp::now()),
                None => scheduler.on_shim_death(id, Loss::ShimDied(leftovers), Timestamp::now()),
            };
            let _ = scheduler.post(finish).await;
        });
    }

    /// Forgets a dead shim that had no execution. It may still have the claim of its last one.
    fn forget_ready_shim(&mut self, shim: &Shim) {
        self.deaths.forget(shim.pid());
        if let Some(id) = shim.last_execution() {
            self.remove_claim(id);
        }
    }

    fn remove_claim(&mut self, id: ExecutionId) {
        let attempt = FIRST_ATTEMPT;
        let claim = FileTask::Delete(ExecutionFiles::Claim { attempt });
        self.file_tasks.add(claim, vec![id]);
    }

    fn request_shims(&mut self) {
        let count = self.pool.shims_to_request();
        if count > 0 && self.link.can_request_shims() && self.link.request_shims(count) {
            self.pool.on_requested(count);
        }
    }

    fn request_file_task(&mut self) {
        if self.link.is_connected()
            && let Some((task, ids)) = self.file_tasks.next_request()
            && let Err(error) = self.link.send(&task.request(ids))
        {
            warn!(%error, "cannot have the launcher delete or close files");
            self.file_tasks.on_send_failed(Instant::now());
        }
    }

    /// Calls the scheduler from another task, so that this one does not wait while its queue is full.
    fn post(&self, call: impl FnOnce(&mut Scheduler) + Send + 'static) {
        // Fails only while escherd is stopping.
        let _ = self.calls.send(Box::new(call));
    }
}

/// Makes the calls of the scheduler that the dispatcher has posted.
async fn forward_calls(
    mut calls: mpsc::UnboundedReceiver<SchedulerCall>,
    scheduler: SchedulerHandle,
) {
    while let Some(call) = calls.recv().await {
        if scheduler.post(call).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::launch::launcher::LauncherSource;
    use escher_launcher::ipc::packet::PacketSocket;
    use escher_launcher::ipc::shim_socket::SocketName;
    use escher_launcher::ipc::wire::{
        ExitReport, FromShim, InputState, ShimPhase, ShimState, WIRE_VERSION,
    };
    use escher_protocol::{Blob, Exit, SentSignals, codec};
    use nix::sys::socket::{
        AddressFamily, Backlog, MsgFlags, SockFlag, SockType, UnixAddr, accept, bind, listen, recv,
        send, setsockopt, socket, sockopt,
    };
    use nix::sys::time::TimeVal;
    use std::os::fd::AsRawFd;

    const ID: ExecutionId = ExecutionId::from_bytes([7; 16]);

    /// A shim that was connected, has disconnected, and listens as living shims do.
    fn state() -> ShimState {
        ShimState {
            version: WIRE_VERSION,
            pid: 1,
            id: ID,
            attempt: FIRST_ATTEMPT,
            submission_backup: Blob::default(),
            phase: ShimPhase::Over,
            is_paused: false,
            log_bytes: 0,
            log_budget: 1,
            input: InputState::default(),
            signals: SentSignals::default(),
        }
    }

    /// Its execution was concluded as lost, while the command ran on.
    #[tokio::test]
    async fn a_living_shim_that_has_disconnected_is_adopted_anew() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name| directory.path().join(name);
        let sockets = path("run").join(shim_socket::DIRECTORY);
        std::fs::create_dir_all(&sockets).unwrap();
        let (id, attempt) = (ID, FIRST_ATTEMPT);
        let claim = sockets.join(SocketName::Claim { id, attempt }.to_string());
        let flags = SockFlag::SOCK_CLOEXEC;
        let listener = socket(AddressFamily::Unix, SockType::SeqPacket, flags, None).unwrap();
        bind(listener.as_raw_fd(), &UnixAddr::new(&claim).unwrap()).unwrap();
        listen(&listener, Backlog::new(1).unwrap()).unwrap();
        // For accept(2), too.
        setsockopt(&listener, sockopt::ReceiveTimeout, &TimeVal::new(60, 0)).unwrap();

        let (here, there) = PacketSocket::pair().unwrap();
        let mut adoption = Adoption::default();
        let shim = Shim::new(here, 1).unwrap();
        adoption.adopted.push((shim, state()));
        let (_, outcomes) = mpsc::unbounded_channel();
        let scheduler = Scheduler::new(crate::scheduler::testbed::settings(1));
        let (scheduler, effects) =
            crate::scheduler::start(scheduler, outcomes, crate::store::Intake::into_nothing());
        let settings = LauncherSettings {
            source: LauncherSource::Socket(path("none")),
            log_dir: path("log"),
            state_dir: path("state"),
            runtime_dir: path("run"),
            warm_shims: 0,
        };
        let (launcher_state, _) = watch::channel(None);
        let dispatcher = run(settings, None, adoption, scheduler, effects, launcher_state);
        let dispatcher = tokio::spawn(dispatcher);
        drop(there);

        let answer = tokio::task::spawn_blocking(move || {
            let connection = accept(listener.as_raw_fd()).expect("no connection");
            let report = ExitReport::new(ID, attempt, Exit::Code(0), Timestamp::from_micros(2));
            for message in [
                FromShim::Adoptable(Box::new(state())),
                FromShim::Exited(Box::new(report)),
            ] {
                let message = codec::encode(&message).unwrap();
                send(connection, &message, MsgFlags::empty()).unwrap();
            }
            let mut buffer = [0; 64];
            let length = recv(connection, &mut buffer, MsgFlags::empty()).unwrap();
            let _ = nix::unistd::close(connection);
            codec::decode::<ToShim>(&buffer[..length]).unwrap()
        });
        // The scheduler does not know the execution, and needs no report of it.
        assert_eq!(answer.await.unwrap(), ToShim::Recorded);
        dispatcher.abort();
    }
}
