//! One execution, from its spec to its report: the shim's loop.
//!
//! Every wait is one poll(2) over the link, the signals, the pipes and the nearest deadline; whatever it
//! reports is dealt with, and then the loop asks whether all is over.

use std::collections::BTreeSet;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use escher_protocol::{Exit, Leftovers, Measurements, OutputStream, Parts, Timestamp};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::freezer::Pause;
use super::kill_ladder::{Ladder, Step};
use super::link::Link;
use super::log::Log;
use super::process_tree::Tree;
use super::report::{Ended, asked_for};
use super::spawn::{Setup, SetupEnd, Started};
use super::start::claim_and_start;
use super::stdin::{Fed, Input};
use super::{Workshop, host_stops};
use crate::ipc::wire::{
    Assignment, EndCause, ExitReport, FromShim, InputState, KNOWN_PARTS, ShimPhase, ShimState,
    ToShim, WIRE_VERSION, exceeds,
};
use crate::os::cgroup::Cgroup;
use crate::os::deadline;
use crate::sys::memory::forget;

/// How long the set-up of a child may take, from its making to execve(2). It takes microseconds; only a
/// user who stops its own process can make it longer.
const SETUP_DEADLINE: Duration = Duration::from_secs(10);

/// How long after the end of the main process the rest of its tree, and whoever holds its pipes, may
/// take to end by themselves.
const DRAIN: Duration = Duration::from_secs(2);

/// Longest time between SIGTERM and SIGKILL when the host or the service stops, whatever the command was given: a host
/// that goes down waits for it, though not for ever (`TimeoutStopSec=` of the unit).
const MAX_GRACE_AT_STOP: Duration = Duration::from_secs(60);

/// Runs the command of `assignment` to its end. A command with a part that is not understood is neither
/// claimed nor started.
pub(super) fn run(mut assignment: Assignment, link: &mut Link, workshop: &mut Workshop) -> Ended {
    let (id, attempt) = (assignment.spec.id, assignment.spec.attempt);
    let start = (Timestamp::now(), Instant::now());
    if let Err(part) = assignment.parts.ensure_understood(KNOWN_PARTS) {
        let report = ExitReport::unsupported(id, attempt, part, start.0);
        return Ended::without_a_start(assignment, report);
    }
    let (started, cgroup) = match claim_and_start(&mut assignment, link, workshop) {
        Ok(started) => started,
        Err(exit) => {
            let report = ExitReport::new(id, attempt, exit, Timestamp::now());
            return Ended::without_a_start(assignment, report);
        }
    };
    let mut buffer = std::mem::take(&mut workshop.buffer);
    let execution = Execution::new(&assignment, start, started, cgroup.as_ref(), link, workshop);
    let (report, input) = execution.run(&mut buffer);
    workshop.buffer = buffer;
    Ended {
        report,
        submission_backup: assignment.submission_backup,
        input,
    }
}

struct Execution<'a> {
    assignment: &'a Assignment,
    start: (Timestamp, Instant),
    link: &'a mut Link,
    workshop: &'a Workshop,
    tree: Tree,
    cgroup: Option<&'a Cgroup>,
    /// Whether a part of its figures is missing.
    controllers_were_off: bool,
    pause: Pause<'a>,
    ladder: Ladder,
    log: Log<'a>,
    input: Input,
    stdout: Option<OwnedFd>,
    stderr: Option<OwnedFd>,
    setup: Setup,
    /// How the set-up ended, once that is known.
    setup_end: Option<SetupEnd>,
    setup_overdue: bool,
    timeout_at: Option<Instant>,
    /// When the main process was reaped.
    main_ended: Option<Instant>,
    /// The last signal of the ladder that the main process lived to see.
    ladder_signal: Option<i32>,
    leftovers: Leftovers,
    /// Whether the command was ended for what it wrote.
    ended_for_output: bool,
    /// The lengths of the log that escherd wants to hear of exceeding: one for each place where somebody
    /// follows.
    watched: BTreeSet<u64>,
}

/// What poll(2) has found.
#[derive(Default)]
struct Ready {
    link: bool,
    signals: bool,
    stdout: bool,
    stderr: bool,
    input: bool,
    setup: bool,
    cgroup: bool,
}

impl<'a> Execution<'a> {
    fn new(
        assignment: &'a Assignment,
        start: (Timestamp, Instant),
        started: Started,
        cgroup: Option<&'a Cgroup>,
        link: &'a mut Link,
        workshop: &'a Workshop,
    ) -> Self {
        let spec = &assignment.spec;
        let after = |ms| start.1.checked_add(Duration::from_millis(ms));
        Execution {
            tree: Tree::new(started.pid),
            ladder: Ladder::new(Duration::from_millis(spec.kill_grace_ms)),
            log: Log::new(
                workshop.directories.logs.as_fd(),
                spec.id,
                start,
                assignment.log_limits,
            ),
            input: Input::new(started.stdin),
            stdout: Some(started.stdout),
            stderr: Some(started.stderr),
            setup: started.setup,
            setup_end: None,
            setup_overdue: false,
            timeout_at: spec.timeout_ms.and_then(after),
            main_ended: None,
            ladder_signal: None,
            leftovers: Leftovers::None,
            ended_for_output: false,
            watched: BTreeSet::new(),
            assignment,
            start,
            link,
            workshop,
            cgroup,
            controllers_were_off: false,
            pause: Pause::new(cgroup),
        }
    }

    fn run(mut self, buffer: &mut [u8]) -> (ExitReport, InputState) {
        while !self.is_over() {
            let ready = self.wait();
            if ready.setup {
                self.note_setup();
            }
            if ready.stdout {
                self.read(OutputStream::Stdout, buffer);
            }
            if ready.stderr {
                self.read(OutputStream::Stderr, buffer);
            }
            if ready.signals {
                self.take_signals();
            }
            if ready.link {
                if self.link.is_alone() {
                    self.let_in();
                } else {
                    self.take_messages();
                }
            }
            if ready.input {
                let fed = self.input.feed();
                self.answer_input(&fed);
            }
            if ready.cgroup {
                self.tell_pause();
            }
            self.tell_growth();
            self.keep_deadlines();
        }
        self.read_the_rest(buffer);
        let input = self.input.state();
        (self.report(), input)
    }

    fn measure(&self) -> Option<Measurements> {
        let measured = self.cgroup?.measure();
        Some(if !self.controllers_were_off {
            measured
        } else {
            Measurements {
                user_us: measured.user_us,
                system_us: measured.system_us,
                ..Measurements::default()
            }
        })
    }

    /// Nothing more can come: the tree is gone and the pipes are at their end, or this was waited for long
    /// enough.
    fn is_over(&self) -> bool {
        let pipes_ended = self.stdout.is_none() && self.stderr.is_none();
        let swept = self.ladder.is_killing() && self.drain_is_over(Instant::now());
        self.ladder.has_given_up() || (self.tree.is_empty() && (pipes_ended || swept))
    }

    /// The nearest of all deadlines.
    fn deadline(&self) -> Option<Instant> {
        let setup = if self.setup_end.is_none() && !self.setup_overdue {
            Some(self.start.1 + SETUP_DEADLINE)
        } else {
            None
        };
        // Once SIGKILL is under way, what counts is that processes go, which signals tell.
        let drain = if self.ladder.is_killing() && !self.tree.is_empty() {
            None
        } else {
            self.main_ended.map(|ended| ended + DRAIN)
        };
        let timeout = self.timeout_at.filter(|_| self.main_ended.is_none());
        let (ladder, link) = (self.ladder.deadline(), self.link.deadline());
        let pause = self.pause.deadline();
        [setup, drain, timeout, ladder, link, pause]
            .into_iter()
            .flatten()
            .min()
    }

    fn drain_is_over(&self, now: Instant) -> bool {
        self.main_ended.is_some_and(|ended| now >= ended + DRAIN)
    }

    fn wait(&self) -> Ready {
        type Mark = fn(&mut Ready) -> &mut bool;
        let mut polled: [(Option<BorrowedFd<'_>>, PollFlags, Mark); 7] = [
            (self.link.awaited(), PollFlags::POLLIN, |r| &mut r.link),
            (
                Some(self.workshop.signals.as_fd()),
                PollFlags::POLLIN,
                |r| &mut r.signals,
            ),
            (
                self.stdout.as_ref().map(AsFd::as_fd),
                PollFlags::POLLIN,
                |r| &mut r.stdout,
            ),
            (
                self.stderr.as_ref().map(AsFd::as_fd),
                PollFlags::POLLIN,
                |r| &mut r.stderr,
            ),
            (self.input.waits_for(), PollFlags::POLLOUT, |r| &mut r.input),
            (None, PollFlags::POLLIN, |r| &mut r.setup),
            (self.pause.awaited(), PollFlags::POLLPRI, |r| &mut r.cgroup),
        ];
        if self.setup_end.is_none() {
            polled[5].0 = Some(self.setup.descriptor());
        }
        let mut marks = Vec::with_capacity(polled.len());
        let mut descriptors = Vec::with_capacity(polled.len());
        for (descriptor, events, mark) in polled {
            if let Some(descriptor) = descriptor {
                descriptors.push(PollFd::new(descriptor, events));
                marks.push(mark);
            }
        }
        let mut ready = Ready::default();
        if poll(&mut descriptors, deadline::timeout(self.deadline())).is_ok() {
            for (descriptor, mark) in descriptors.iter().zip(marks) {
                *mark(&mut ready) = descriptor.any().unwrap_or(true);
            }
        }
        ready
    }

    /// The child has executed its program, or never will.
    fn note_setup(&mut self) {
        let end = self.setup.end();
        self.setup_end = Some(end);
        if end == SetupEnd::Executed {
            self.link.send(&FromShim::Started {
                pid: self.tree.main().as_raw().unsigned_abs(),
                at: self.start.0,
            });
        }
    }

    /// Takes what one pipe has.
    fn read(&mut self, stream: OutputStream, buffer: &mut [u8]) {
        let pipe = match stream {
            OutputStream::Stdout => &mut self.stdout,
            OutputStream::Stderr => &mut self.stderr,
        };
        let Some(descriptor) = pipe else { return };
        match nix::unistd::read(descriptor, buffer) {
            Ok(0) => *pipe = None,
            Ok(count) => {
                self.log.append(stream, &buffer[..count]);
                self.heed_output();
            }
            Err(Errno::EINTR | Errno::EAGAIN) => {}
            Err(_) => *pipe = None,
        }
    }

    /// Ends the command where it has written more than its log takes, or than it may.
    fn heed_output(&mut self) {
        if self.ended_for_output {
            return;
        }
        let is_over = |limit| exceeds(&self.log.totals(), limit);
        let cause = if self.log.ends_command() {
            EndCause::LogFull
        } else if self.assignment.output_limit.is_some_and(is_over) {
            EndCause::OversizedOutput
        } else {
            return;
        };
        self.ended_for_output = true;
        self.end(cause, false);
    }

    fn take_signals(&mut self) {
        let heard = self.workshop.take_signals();
        if heard.child {
            self.tree.reap();
            if self.tree.main_exit().is_some() && self.main_ended.is_none() {
                self.main_ended = Some(Instant::now());
                self.input.close();
            }
            if self.ladder.is_killing() {
                // Children of those that have just died are the shim's now.
                self.tree.signal_all(&[libc::SIGKILL]);
            }
        }
        // A keeper that was killed is followed by another, for which the controllers had to be off for a while.
        if heard.hangup
            && let Some(cgroup) = self.cgroup
        {
            self.controllers_were_off = true;
            // Where that fails they are not there any more, and there is nothing to be done.
            let _ = cgroup.limit(&self.assignment.limits);
        }
        if heard.term {
            self.end(host_stops(), false);
            self.ladder.kill_within(MAX_GRACE_AT_STOP, Instant::now());
        }
    }

    /// Another escherd takes the execution over.
    fn let_in(&mut self) {
        if !self.link.let_in() {
            return;
        }
        self.watched.clear();
        let shim = self.workshop.pid;
        let pid = self.tree.main().as_raw().unsigned_abs();
        let state = ShimState {
            version: WIRE_VERSION,
            pid: shim.as_raw().unsigned_abs(),
            id: self.assignment.spec.id,
            attempt: self.assignment.spec.attempt,
            submission_backup: self.assignment.submission_backup.clone(),
            phase: match self.setup_end {
                Some(SetupEnd::Executed) => ShimPhase::Running {
                    pid,
                    at: self.start.0,
                },
                _ => ShimPhase::Starting,
            },
            ending: asked_for(self.ladder.cause()),
            log_bytes: self.log.totals().log_bytes,
            input: self.input.state(),
        };
        self.link.send(&FromShim::Adoptable(Box::new(state)));
        if self.pause.is_told() {
            self.link.send(&FromShim::Paused(true));
        }
    }

    fn take_messages(&mut self) {
        while let Some((message, _)) = self.link.receive() {
            match message {
                ToShim::Input { data, end } => {
                    let fed = self.input.take(data, end);
                    self.answer_input(&fed);
                }
                ToShim::Cancel { by, kill } => self.end(EndCause::Cancelled(by), kill),
                ToShim::Signal { signal } => self.tree.signal_main(signal),
                ToShim::Watch { seen } => drop(self.watched.insert(seen)),
                ToShim::Pause => self.pause(true),
                ToShim::Resume => self.pause(false),
                // Not in the middle of an execution: nothing to be done with it.
                ToShim::Assign(_) | ToShim::AssignFromMemory | ToShim::Recorded => {}
            }
        }
    }

    /// Stops the command, or lets it go on. Not once its end is under way, for which it must be able to run.
    fn pause(&mut self, on: bool) {
        let is_allowed = !on || !self.ladder.has_begun();
        let is_asked = is_allowed && self.pause.ask(on, Instant::now());
        if on && !is_asked {
            // It cannot be done, and somebody waits for an answer.
            self.link.send(&FromShim::Paused(false));
        }
        self.tell_pause();
    }

    /// Tells whether the command is stopped, if that has changed.
    fn tell_pause(&mut self) {
        if let Some(is_on) = self.pause.changed() {
            self.link.send(&FromShim::Paused(is_on));
        }
    }

    fn answer_input(&mut self, fed: &Fed) {
        for _ in 0..fed.accepted {
            self.link.send(&FromShim::InputAccepted);
        }
        if fed.refused {
            self.link.send(&FromShim::InputClosed);
        }
    }

    fn tell_growth(&mut self) {
        let log_bytes = self.log.totals().log_bytes;
        let waiting = self.watched.split_off(&log_bytes);
        let exceeded = std::mem::replace(&mut self.watched, waiting);
        if !exceeded.is_empty() {
            self.link.send(&FromShim::LogGrew { log_bytes });
        }
    }

    /// Somebody wants the end. Once the main process has ended by itself, that is no longer what ended
    /// it; what it has left behind goes at once.
    fn end(&mut self, cause: EndCause, kill: bool) {
        let now = Instant::now();
        let step = match self.main_ended {
            Some(_) => self.sweep(now),
            None => self.ladder.begin(cause, kill, now),
        };
        self.take(step);
    }

    fn keep_deadlines(&mut self) {
        let now = Instant::now();
        if self.main_ended.is_none() && self.timeout_at.is_some_and(|at| now >= at) {
            self.timeout_at = None;
            let step = self.ladder.begin(EndCause::TimedOut, false, now);
            self.take(step);
        }
        if self.pause.is_overdue(now) {
            self.pause(false);
            self.link.send(&FromShim::Paused(false));
        }
        if self.setup_end.is_none() && !self.setup_overdue && now >= self.start.1 + SETUP_DEADLINE {
            self.setup_overdue = true;
            let step = self.ladder.begin(EndCause::Itself, true, now);
            self.take(step);
        }
        if self.drain_is_over(now) {
            let step = self.sweep(now);
            self.take(step);
        }
        let step = self.ladder.due(now);
        self.take(step);
    }

    fn sweep(&mut self, now: Instant) -> Option<Step> {
        let step = self.ladder.sweep(now);
        if step.is_some() && !self.tree.is_empty() {
            self.leftovers = Leftovers::Killed;
        }
        step
    }

    fn take(&mut self, step: Option<Step>) {
        let signals: &[i32] = match step {
            None => return,
            Some(Step::Terminate) => &[libc::SIGTERM, libc::SIGCONT],
            Some(Step::Kill) => &[libc::SIGKILL],
            Some(Step::GiveUp) => {
                self.leftovers = Leftovers::Unkillable;
                return;
            }
        };
        if self.main_ended.is_none() {
            self.ladder_signal = signals.first().copied();
        }
        if self.pause.is_asked() {
            self.pause(false);
        }
        self.tree.signal_all(signals);
        // It gets what forks faster than a look at the tree, too.
        if let Some(cgroup) = self.cgroup
            && step == Some(Step::Kill)
        {
            let _ = cgroup.kill();
        }
    }

    /// What is in the pipes now, without waiting for more: whoever still holds them is not part of the
    /// execution, or cannot be ended.
    fn read_the_rest(&mut self, buffer: &mut [u8]) {
        for stream in [OutputStream::Stdout, OutputStream::Stderr] {
            while self.has_output(stream) {
                self.read(stream, buffer);
            }
        }
        if self.log.totals().log_bytes > 0 {
            forget(buffer);
        }
    }

    fn has_output(&self, stream: OutputStream) -> bool {
        let pipe = match stream {
            OutputStream::Stdout => &self.stdout,
            OutputStream::Stderr => &self.stderr,
        };
        let Some(pipe) = pipe else { return false };
        let mut one = [PollFd::new(pipe.as_fd(), PollFlags::POLLIN)];
        matches!(poll(&mut one, PollTimeout::ZERO), Ok(count) if count > 0)
    }

    fn report(self) -> ExitReport {
        let ended = self.main_ended.unwrap_or_else(Instant::now);
        let duration = ended.saturating_duration_since(self.start.1);
        let (exit, measured) = (self.exit(), self.measure());
        if self.tree.main_exit().is_none() {
            // A child that cannot be killed may still be reading its plan.
            std::mem::forget(self.setup);
        }
        let mut report = ExitReport {
            id: self.assignment.spec.id,
            attempt: self.assignment.spec.attempt,
            exit,
            cause: self.ladder.cause().clone(),
            ended_by_signal: self.ladder_signal,
            started_at: Some(self.start.0),
            ended_at: Timestamp::now(),
            duration_us: u64::try_from(duration.as_micros()).unwrap_or(u64::MAX),
            usage: self.tree.usage(),
            output: self.log.totals(),
            leftovers: self.leftovers,
            measured,
            parts: Parts::new(),
        };
        // It may have ended before its last bytes were read.
        if let Some(limit) = self.assignment.output_limit {
            report.enforce_output_limit(limit);
        }
        report
    }

    fn exit(&self) -> Exit {
        let Some(exit) = self.tree.main_exit() else {
            return Exit::Unknown;
        };
        match self.setup_end.unwrap_or_else(|| self.setup.end()) {
            SetupEnd::Failed(stage, errno) => Exit::NotStarted { stage, errno },
            SetupEnd::Interrupted(stage) if self.setup_overdue => Exit::NotStarted {
                stage,
                errno: libc::ETIMEDOUT,
            },
            SetupEnd::Interrupted(_) | SetupEnd::Executed => exit,
        }
    }
}
