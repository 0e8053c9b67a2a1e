//! One attacker: what a user can do to escherd who has read its protocol and means harm.

use std::collections::BTreeMap;
use std::io::{Read, Write, stdin, stdout};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use escher_protocol::id::MAX_REFERENCE_BYTES;
use escher_protocol::message::{
    EventsRequest, EventsStart, ListFilter, MAX_STDIN_BYTES, OutputRequest, Response, Selection,
};
use escher_protocol::{
    CancelMode, Command, ErrorCode, ExecutionRequest, OutputStart, Request, ServerFrame,
    SignalRecipients, SignalSerial, StreamSelection, Target, Timeout,
};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::{Random, RawPeer, largest};

/// An attack with its name.
type NamedAttack = (&'static str, fn(&mut Attacker));

const ATTACKS: [NamedAttack; 12] = [
    ("flood of commands", Attacker::flood),
    ("loud command", Attacker::run_loud_command),
    ("tree of processes", Attacker::run_tree),
    ("half frame", Attacker::send_half_frame),
    ("garbage", Attacker::send_garbage),
    ("flipped bit", Attacker::flip_bits),
    ("abandoned request", Attacker::abandon),
    ("unread stream", Attacker::leave_unread),
    ("largest submission", Attacker::submit_the_largest),
    ("largest filter", Attacker::filter_by_the_largest),
    ("grasp at others", Attacker::grasp_at_others),
    ("idle connections", Attacker::connect_often),
];

/// Connections that it keeps open, so that others are in their way.
const MAX_HELD: usize = 60;

/// Attacks escherd at `socket` until standard input ends. Prints `ready` before the first attack, and at the end
/// the number of attacks of each kind.
pub fn attack_until_stdin_ends(socket: &Path, seed: u64) {
    let mut attacker = Attacker {
        socket: socket.to_owned(),
        random: Random::new(seed),
        held: Vec::new(),
    };
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    print_line("ready", 0);
    while !has_stdin_ended() {
        let which = attacker.random.below(ATTACKS.len() as u64);
        let (kind, attack) = ATTACKS[usize::try_from(which).unwrap()];
        attack(&mut attacker);
        *counts.entry(kind).or_default() += 1;
    }
    for (kind, count) in counts {
        print_line(&kind.replace(' ', "-"), count);
    }
}

fn print_line(word: &str, count: u64) {
    let mut stdout = stdout().lock();
    writeln!(stdout, "{word} {count}")
        .and_then(|()| stdout.flush())
        .expect("somebody reads it");
}

fn has_stdin_ended() -> bool {
    let stdin = stdin();
    let mut ready = [PollFd::new(stdin.as_fd(), PollFlags::POLLIN)];
    poll(&mut ready, PollTimeout::ZERO).expect("standard input") > 0
        && stdin.lock().read(&mut [0]).expect("standard input") == 0
}

struct Attacker {
    socket: PathBuf,
    random: Random,
    /// Connections that stay open for a while.
    held: Vec<RawPeer>,
}

impl Attacker {
    /// Connects; `None` where escherd has had enough of this user.
    fn connect(&mut self) -> Option<RawPeer> {
        RawPeer::connect_to(&self.socket).ok()
    }

    /// Connects and sends a greeting. Requests may follow at once.
    fn greet(&mut self) -> Option<RawPeer> {
        let mut peer = self.connect()?;
        peer.send(&RawPeer::hello_frame());
        Some(peer)
    }

    /// Sends these requests at once, and waits for an answer to the last.
    fn request(&mut self, requests: Vec<Request>) -> Option<ServerFrame> {
        let mut peer = self.greet()?;
        let last = requests.len() as u64;
        let frames: Vec<u8> = (1..)
            .zip(requests)
            .flat_map(|(id, request)| RawPeer::request_frame(id, request))
            .collect();
        peer.send(&frames);
        peer.receive_hello_reply()?;
        loop {
            let frame = peer.receive_frame()?;
            let id = match &frame {
                ServerFrame::Reply { id, .. } | ServerFrame::End { id, .. } => id.0,
                ServerFrame::Item { .. } => 0,
            };
            if id == last {
                return Some(frame);
            }
        }
    }

    /// Keeps a connection open, and closes another one instead if there are too many.
    fn hold(&mut self, peer: RawPeer) {
        if self.held.len() >= MAX_HELD {
            let index = self.random.below(self.held.len() as u64);
            self.held.swap_remove(usize::try_from(index).unwrap());
        }
        self.held.push(peer);
    }

    fn flood(&mut self) {
        let submissions = (0..100).map(|_| submit(shell("exec sleep 1")));
        self.request(submissions.collect());
    }

    fn run_loud_command(&mut self) {
        // More than a log takes, and more than a pipe does.
        self.request(vec![submit(shell("yes | head -c 3000000; yes >&2"))]);
    }

    fn run_tree(&mut self) {
        // Each ignores SIGTERM, is in a session of its own, and holds the pipes.
        let script = "trap '' TERM; for i in 1 2 3 4 5; do setsid sleep 600 & done; wait";
        self.request(vec![submit(shell(script))]);
    }

    fn send_half_frame(&mut self) {
        let Some(mut peer) = self.greet() else { return };
        let frame = RawPeer::request_frame(1, largest_submission(&mut self.random));
        let length = self.random.below(frame.len() as u64);
        peer.send(&frame[..usize::try_from(length).unwrap()]);
        self.hold(peer);
    }

    fn send_garbage(&mut self) {
        let greets = self.random.once_in(2);
        let peer = if greets { self.greet() } else { self.connect() };
        let Some(mut peer) = peer else { return };
        let bytes: Vec<u8> = (0..64)
            .flat_map(|_| self.random.number().to_le_bytes())
            .collect();
        peer.send(&bytes);
        peer.finish_sending();
        // It is refused or awaited, and then dropped.
        peer.read_to_end();
    }

    fn flip_bits(&mut self) {
        let Some(mut peer) = self.greet() else { return };
        let request = match self.random.below(4) {
            0 => submit(shell("true")),
            1 => Request::List(largest::selection()),
            2 => read_output(Target::Reference("1".into()), false),
            _ => Request::Events(EventsRequest {
                start: EventsStart::After(0),
                follow: false,
                ..EventsRequest::default()
            }),
        };
        let mut frame = RawPeer::request_frame(1, request);
        // Behind the length, which others falsify.
        let bit = 32 + self.random.below(8 * (frame.len() as u64 - 4));
        frame[usize::try_from(bit / 8).unwrap()] ^= 1 << (bit % 8);
        peer.send(&frame);
        peer.finish_sending();
        peer.read_to_end();
    }

    fn abandon(&mut self) {
        let Some(mut peer) = self.greet() else { return };
        for id in 1..50 {
            let request = match id % 4 {
                0 => Request::List(Selection {
                    filter: ListFilter {
                        all: true,
                        ..ListFilter::default()
                    },
                    ..Selection::default()
                }),
                1 => read_output(Target::Reference("1".into()), true),
                2 => Request::Wait(Target::Reference("1".into())),
                _ => Request::Diagnose,
            };
            peer.send(&RawPeer::request_frame(id, request));
        }
        // Dropped: all of them are abandoned.
    }

    fn leave_unread(&mut self) {
        let Some(mut peer) = self.greet() else { return };
        for id in 1..20 {
            let request = Request::Events(EventsRequest {
                start: EventsStart::After(0),
                follow: true,
                ..EventsRequest::default()
            });
            peer.send(&RawPeer::request_frame(id, request));
        }
        self.hold(peer);
    }

    fn submit_the_largest(&mut self) {
        let request = largest_submission(&mut self.random);
        self.request(vec![request]);
    }

    fn filter_by_the_largest(&mut self) {
        let reference = Target::Reference("x".repeat(MAX_REFERENCE_BYTES).into());
        let data = vec![0; MAX_STDIN_BYTES].into();
        let write = Request::WriteStdin {
            target: reference.clone(),
            offset: 0,
            data,
            end: true,
        };
        self.request(vec![
            Request::List(largest::selection()),
            Request::Prune {
                selection: largest::selection(),
                dry_run: true,
            },
            Request::Status(reference),
            write,
        ]);
    }

    /// Tries to read, end and remove executions of others, whose numbers are easily guessed.
    fn grasp_at_others(&mut self) {
        for name in ["good-0", "61000/good-0", "61000/sleeper-0"] {
            let target = Target::Reference(name.into());
            let cancel = Request::Cancel {
                target: target.clone(),
                mode: CancelMode::Kill,
            };
            let attempts = [
                Request::Status(target.clone()),
                Request::Result(target.clone()),
                read_output(target.clone(), false),
                cancel,
                Request::Signal {
                    target: target.clone(),
                    signal: 9,
                    recipients: SignalRecipients::Tree,
                    serial: SignalSerial::unique(),
                },
                Request::Remove(target),
            ];
            for attempt in attempts {
                match self.request(vec![attempt]) {
                    // It may have too many connections.
                    None => {}
                    Some(ServerFrame::Reply { result, .. }) => assert_refused(result),
                    Some(ServerFrame::End { result, .. }) => {
                        assert_refused(result.map(|()| Response::Done))
                    }
                    Some(item) => panic!("{item:?}"),
                }
            }
        }
    }

    fn connect_often(&mut self) {
        for _ in 0..20 {
            if let Some(peer) = self.connect() {
                self.hold(peer);
            }
        }
    }
}

/// Fails if a request for somebody else's execution was carried out. It may have been refused for the load.
fn assert_refused(result: Result<Response, escher_protocol::ApiError>) {
    let error = result.expect_err("it belongs to somebody else");
    let overload = [
        ErrorCode::TOO_MANY_CONNECTIONS,
        ErrorCode::TOO_MANY_REQUESTS,
        ErrorCode::OVERLOADED,
    ];
    assert!(
        error.code == ErrorCode::NOT_FOUND || overload.contains(&error.code),
        "{error:?}"
    );
}

fn shell(text: &str) -> ExecutionRequest {
    ExecutionRequest {
        command: Command::Shell {
            text: text.into(),
            shell: None,
        },
        working_dir: Some("/".into()),
        timeout: Timeout::After { ms: 2_000 },
        kill_grace_ms: Some(500),
        ..ExecutionRequest::default()
    }
}

fn submit(request: ExecutionRequest) -> Request {
    Request::Submit(Box::new(request))
}

fn read_output(target: Target, follow: bool) -> Request {
    Request::ReadOutput(OutputRequest {
        target,
        streams: StreamSelection::Both,
        start: OutputStart::LastLines(u64::MAX),
        length: None,
        since: None,
        until: None,
        follow,
    })
}

/// Everything at its limit, so that it is accepted; now and then one more, so that it is refused.
fn largest_submission(random: &mut Random) -> Request {
    let mut request = largest::submission(format!("{}", random.number()));
    if random.once_in(4) {
        request
            .environment
            .push(("one too many".into(), "v".into()));
    }
    submit(request)
}
