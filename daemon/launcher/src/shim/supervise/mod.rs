//! One execution, from its assignment to its exit report: the shim's loop.
//!
//! Every wait is one poll(2) over the link, the signals, the pipes and the nearest deadline
//! ([`waiting`]). The loop handles what is ready, and ends once the execution is over. In one turn it
//! takes a bounded part of each: however much comes from a pipe, messages, signals and deadlines
//! have their turn, too. [`messages`]
//! exchanges messages with escherd, [`ending`] ends the command and makes the exit report, and
//! [`leaving`] goes on with what a command leaves that may leave processes.

mod ending;
mod leaving;
mod messages;
mod waiting;

use std::collections::BTreeSet;
use std::io;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use escher_protocol::{CancelMode, Leftovers, OutputStream, Timestamp};

use super::ShimContext;
use super::freezer::Freezer;
use super::kill_ladder::KillLadder;
use super::link::Link;
use super::log::CommandLog;
use super::output_pipe::{OutputPipe, PipeRead};
use super::process_tree::ProcessTree;
use super::report::FinishedExecution;
use super::sent_signals::SignalHistory;
use super::spawn::{ChildSetup, SetupResult, SpawnedCommand, StartTime, claim_and_spawn};
use super::stdin::StdinFeeder;
use crate::ipc::wire::{Assignment, EndCause, ExitReport, FromShim, KNOWN_PARTS, exceeds_limit};
use crate::os::cgroup::Cgroup;
use leaving::Leaving;

/// How long a child may take from clone(2) to execve(2). It takes microseconds; only a user who
/// stops its own process can delay it.
const SETUP_TIMEOUT: Duration = Duration::from_secs(10);

/// Longest time between SIGTERM and SIGKILL when the host or the service stops, whatever the
/// command's own grace period: a host that shuts down waits for it, but not without end
/// (`TimeoutStopSec=` of the unit).
pub(crate) const MAX_GRACE_AT_STOP: Duration = Duration::from_secs(60);

/// What the caller of [`run`] has to know of a command that is over.
pub(super) struct CommandEnd {
    /// Whether the assignment was refused: nothing was claimed.
    pub(super) was_refused: bool,
    /// Whether processes may be there that would count as part of the next command.
    pub(super) has_processes: bool,
}

/// Runs the command of `assignment` to its end, and delivers its exit report; then to the end of what
/// it has left, if it may leave processes. A command whose assignment has a part that is not
/// understood is neither claimed nor started.
///
/// # Errors
/// As [`FinishedExecution::deliver`].
pub(super) fn run(
    mut assignment: Assignment,
    link: &mut Link,
    context: &mut ShimContext,
) -> io::Result<CommandEnd> {
    let (id, attempt) = (assignment.spec.id, assignment.spec.attempt);
    let start = StartTime::now();
    if let Err(part) = assignment.parts.ensure_understood(KNOWN_PARTS) {
        let report = ExitReport::unsupported(id, attempt, part, start.time);
        FinishedExecution::never_started(&assignment, report).deliver(link, context)?;
        return Ok(CommandEnd {
            was_refused: true,
            has_processes: false,
        });
    }
    let (command, cgroup) = match claim_and_spawn(&mut assignment, link, context) {
        Ok(spawned) => spawned,
        Err(exit) => {
            let report = ExitReport::new(id, attempt, exit, Timestamp::now());
            FinishedExecution::never_started(&assignment, report).deliver(link, context)?;
            return Ok(CommandEnd {
                was_refused: false,
                has_processes: false,
            });
        }
    };
    let mut buffer = std::mem::take(&mut context.buffer);
    let cgroup = cgroup.as_ref();
    let supervisor = Supervisor::new(&assignment, start, command, cgroup, link, context);
    let result = supervisor.run(&mut buffer);
    context.buffer = buffer;
    let leftovers = result?;
    Ok(CommandEnd {
        was_refused: false,
        has_processes: matches!(leftovers, Leftovers::Left | Leftovers::Unkillable),
    })
}

struct Supervisor<'a> {
    assignment: &'a Assignment,
    start: StartTime,
    link: &'a mut Link,
    context: &'a ShimContext,
    tree: ProcessTree,
    cgroup: Option<&'a Cgroup>,
    /// Whether the cgroup has missed a part of what there was to measure.
    controllers_were_off: bool,
    freezer: Freezer<'a>,
    signals: SignalHistory,
    ladder: KillLadder,
    log: CommandLog<'a>,
    stdin: StdinFeeder,
    stdout: Option<OutputPipe>,
    stderr: Option<OutputPipe>,
    /// The stream from which output was read last.
    last_read: OutputStream,
    setup: ChildSetup,
    /// `None` while the set-up is not over.
    setup_result: Option<SetupResult>,
    setup_timed_out: bool,
    timeout_at: Option<Instant>,
    /// When the main process was reaped.
    main_ended: Option<Instant>,
    /// The last signal of the ladder that was sent while the main process lived.
    ladder_signal: Option<i32>,
    leftovers: Leftovers,
    leaving: Leaving,
    /// Whether the command was ended because of its output.
    ended_for_output: bool,
    /// The log lengths beyond which escherd is to be notified: one for each position from which a
    /// client follows the log.
    watched_lengths: BTreeSet<u64>,
}

impl<'a> Supervisor<'a> {
    fn new(
        assignment: &'a Assignment,
        start: StartTime,
        command: SpawnedCommand,
        cgroup: Option<&'a Cgroup>,
        link: &'a mut Link,
        context: &'a ShimContext,
    ) -> Self {
        let spec = &assignment.spec;
        let after = |ms| start.instant.checked_add(Duration::from_millis(ms));
        Supervisor {
            tree: ProcessTree::new(command.pid),
            ladder: KillLadder::new(Duration::from_millis(spec.kill_grace_ms)),
            log: CommandLog::new(
                context.directories.logs.as_fd(),
                spec.id,
                spec.submitter_uid,
                start,
                assignment.log_limits,
                assignment.log_budget,
            ),
            stdin: StdinFeeder::new(command.stdin),
            stdout: Some(command.stdout),
            stderr: command.stderr,
            last_read: OutputStream::Stderr,
            setup: command.setup,
            setup_result: None,
            setup_timed_out: false,
            timeout_at: spec.timeout_ms.and_then(after),
            main_ended: None,
            ladder_signal: None,
            leftovers: Leftovers::None,
            leaving: Leaving::No,
            ended_for_output: false,
            watched_lengths: BTreeSet::new(),
            assignment,
            start,
            link,
            context,
            cgroup,
            controllers_were_off: false,
            freezer: Freezer::new(cgroup),
            signals: SignalHistory::default(),
        }
    }

    /// Runs the command, and returns what has become of processes that it left behind.
    fn run(mut self, buffer: &mut [u8]) -> io::Result<Leftovers> {
        self.supervise(buffer);
        if self.leaving == Leaving::Reporting {
            self.log.reserve_rest();
        }
        let finished = self.finished();
        let leftovers = finished.report.leftovers;
        finished.deliver(self.link, self.context)?;
        if self.leaving == Leaving::Reporting {
            self.go_on_with_rest();
            self.supervise(buffer);
        }
        if self.tree.main_exit().is_none() {
            // A child that cannot be killed may still read its plan, so that is never freed.
            std::mem::forget(self.setup);
        }
        Ok(leftovers)
    }

    /// Handles events until the execution is over.
    fn supervise(&mut self, buffer: &mut [u8]) {
        while !self.is_over() {
            let ready = self.wait();
            if ready.setup {
                self.finish_setup();
            }
            for stream in self.streams_in_turn() {
                let is_ready = match stream {
                    OutputStream::Stdout => ready.stdout,
                    OutputStream::Stderr => ready.stderr,
                };
                if is_ready {
                    self.read(stream, buffer);
                }
            }
            if ready.signals {
                self.handle_signals();
            }
            if ready.link {
                if self.link.is_connected() {
                    self.handle_messages();
                } else {
                    self.accept_escherd();
                }
            }
            if ready.stdin {
                let progress = self.stdin.write_pending();
                self.answer_input(&progress);
            }
            if ready.cgroup {
                self.report_pause();
            }
            self.request_log_budget();
            self.report_growth();
            self.handle_deadlines();
        }
        self.read_remaining(buffer);
    }

    /// Returns the execution with its exit report.
    fn finished(&self) -> FinishedExecution<'a> {
        FinishedExecution {
            report: self.report(),
            submission_backup: &self.assignment.submission_backup,
            log_budget: self.log.budget().bytes(),
            input: self.stdin.state(),
        }
    }

    /// Handles the end of the child's set-up.
    fn finish_setup(&mut self) {
        let result = self.setup.result();
        self.setup_result = Some(result);
        self.setup.drop_plan();
        if result == SetupResult::Executed {
            self.link.send(&FromShim::Started {
                pid: self.tree.main().as_raw().unsigned_abs(),
                at: self.start.time,
            });
        }
    }

    /// Returns the streams in the order in which to read them: the one that was read last comes last.
    /// Which of two pipes was written first, nobody can tell.
    fn streams_in_turn(&self) -> [OutputStream; 2] {
        match self.last_read {
            OutputStream::Stdout => [OutputStream::Stderr, OutputStream::Stdout],
            OutputStream::Stderr => [OutputStream::Stdout, OutputStream::Stderr],
        }
    }

    /// Reads from a pipe once, and appends the bytes to the log, unless its budget has to be decided
    /// first.
    fn read(&mut self, stream: OutputStream, buffer: &mut [u8]) {
        self.request_log_budget();
        if self.must_wait_for_log_budget() {
            return;
        }
        let pipe = match stream {
            OutputStream::Stdout => &mut self.stdout,
            OutputStream::Stderr => &mut self.stderr,
        };
        let Some(output) = pipe else { return };
        match output.read(buffer) {
            PipeRead::Bytes(count) => {
                self.last_read = stream;
                // With the execution, which is over, its log may be removed at any time.
                if self.leaving == Leaving::Left && self.log.is_deleted() {
                    return;
                }
                self.log.append(stream, &buffer[..count]);
                self.enforce_output_limits();
            }
            PipeRead::Nothing => {}
            PipeRead::Ended => *pipe = None,
        }
    }

    /// Ends a command that has written more than its log or its output limit allows.
    fn enforce_output_limits(&mut self) {
        if self.ended_for_output {
            return;
        }
        let is_exceeded = |limit| exceeds_limit(&self.log.totals(), limit);
        let cause = if self.log.ends_command() {
            EndCause::LogFull
        } else if self.assignment.output_limit.is_some_and(is_exceeded) {
            EndCause::OversizedOutput
        } else {
            return;
        };
        self.ended_for_output = true;
        self.end(cause, CancelMode::Graceful);
    }
}
