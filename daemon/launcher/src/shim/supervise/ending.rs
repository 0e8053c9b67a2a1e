//! Ending a command, and its report.

use std::time::Instant;

use escher_protocol::{
    CancelMode, Canceller, CurrentUsage, Exit, Leftovers, Measurements, OutputStream, Parts,
    SignalAnswer, SignalRecipients, Timestamp,
};

use super::Supervisor;
use crate::ipc::wire::{EndCause, ExitReport, SignalOrder};
use crate::os::cgroup::Cgroup;
use crate::shim::kill_ladder::Step;
use crate::shim::log_budget::LogBudget;
use crate::shim::spawn::SetupResult;
use crate::sys::memory::release_pages;

impl Supervisor<'_> {
    /// Ends the command for `cause`, or kills what its main process has left behind.
    pub(super) fn end(&mut self, cause: EndCause, mode: CancelMode) {
        let step = self.ladder.begin(cause, mode, Instant::now());
        self.carry_out(step);
    }

    /// Sends a signal for a client, which does not begin the kill ladder. But where no program runs whose
    /// process group could get it, the command is ended.
    pub(super) fn signal(&mut self, order: SignalOrder) -> SignalAnswer {
        let signal = order.signal;
        let mut answer = SignalAnswer::Sent;
        match order.recipients {
            SignalRecipients::MainProcess => self.tree.signal_main(signal),
            SignalRecipients::ProcessGroup if self.runs_program() => {
                self.resume();
                self.tree.signal_group(signal);
            }
            SignalRecipients::ProcessGroup => {
                let by = Canceller::User(order.by.clone());
                self.end(EndCause::Cancelled(by), CancelMode::Graceful);
                answer = SignalAnswer::Cancelled;
            }
            SignalRecipients::Tree => {
                self.tree.signal_all(&[signal]);
                if signal == libc::SIGKILL {
                    self.kill_cgroup();
                }
            }
        }
        self.signals.add(order, answer, Timestamp::now());
        answer
    }

    /// Whether the main process executes its program. Its end of the set-up is noticed before a message
    /// that was sent later.
    fn runs_program(&self) -> bool {
        self.setup_result == Some(SetupResult::Executed) && self.main_ended.is_none()
    }

    /// Kills what is in the cgroup of the command, if it has one: even processes that fork faster
    /// than the tree can be searched.
    fn kill_cgroup(&self) {
        if let Some(cgroup) = self.cgroup {
            // The tree was signalled in any case.
            let _ = cgroup.kill();
        }
    }

    /// Carries out a step of the kill ladder.
    pub(super) fn carry_out(&mut self, step: Option<Step>) {
        let signals: &[i32] = match step {
            None => return,
            Some(Step::Signal(signal)) => &[signal, libc::SIGCONT],
            Some(Step::Kill) => &[libc::SIGKILL],
            Some(Step::GiveUp) => {
                self.leftovers = Leftovers::Unkillable;
                return;
            }
        };
        if self.main_ended.is_none() {
            self.ladder_signal = signals.first().copied();
        } else if !self.tree.is_empty() {
            self.leftovers = Leftovers::Killed;
        }
        self.resume();
        self.tree.signal_all(signals);
        if step == Some(Step::Kill) {
            self.kill_cgroup();
        }
    }

    /// Reads what is in the pipes at this moment and no more: their remaining holders are not part
    /// of the execution, cannot be killed, or go on without it.
    pub(super) fn read_remaining(&mut self, buffer: &mut [u8]) {
        if self.log.budget().deadline().is_some() {
            self.log.change_budget(LogBudget::do_without_answer);
        }
        let pipes = [
            (OutputStream::Stdout, &self.stdout),
            (OutputStream::Stderr, &self.stderr),
        ];
        for (stream, pipe) in pipes {
            if let Some(pipe) = pipe {
                pipe.read_buffered(buffer, |bytes| self.log.append(stream, bytes));
            }
        }
        if self.log.totals().log_bytes > 0 {
            release_pages(buffer);
        }
    }

    pub(super) fn report(&self) -> ExitReport {
        let ended = self.main_ended.unwrap_or_else(Instant::now);
        let duration = ended.saturating_duration_since(self.start.instant);
        let (exit, measured) = (self.exit(), self.measure());
        let mut report = ExitReport {
            id: self.assignment.spec.id,
            attempt: self.assignment.spec.attempt,
            exit,
            missing_interpreter: self.setup.missing_interpreter(),
            cause: self.ladder.cause().clone(),
            ladder_signal: self.ladder_signal,
            signals: self.signals.sent().clone(),
            started_at: Some(self.start.time),
            ended_at: Timestamp::now(),
            duration_us: u64::try_from(duration.as_micros()).unwrap_or(u64::MAX),
            usage: self.tree.usage(),
            output: self.log.totals(),
            leftovers: self.leftovers,
            measured,
            parts: Parts::new(),
        };
        // A command may have ended before its last output was read.
        if let Some(limit) = self.assignment.output_limit {
            report.enforce_output_limit(limit);
        }
        report
    }

    fn exit(&self) -> Exit {
        let Some(exit) = self.tree.main_exit() else {
            return Exit::Unknown;
        };
        match self.setup_result.unwrap_or_else(|| self.setup.result()) {
            SetupResult::Failed(stage, errno) => Exit::NotStarted { stage, errno },
            SetupResult::Unfinished(stage) if self.setup_timed_out => Exit::NotStarted {
                stage,
                errno: libc::ETIMEDOUT,
            },
            SetupResult::Unfinished(_) | SetupResult::Executed => exit,
        }
    }

    /// Returns what the kernel has counted for the cgroup. CPU time needs no controller; the rest
    /// is incomplete if the controllers were off for a while.
    fn measure(&self) -> Option<Measurements> {
        let measured = self.cgroup?.measure();
        if !self.controllers_were_off {
            return Some(measured);
        }
        Some(Measurements {
            user_us: measured.user_us,
            system_us: measured.system_us,
            ..Measurements::default()
        })
    }

    /// Returns what is used in the cgroup at the moment, as far as it is counted. Without a cgroup
    /// nothing is: what the main process alone uses says little about the command.
    pub(super) fn current_usage(&self) -> CurrentUsage {
        let usage = self.cgroup.map(Cgroup::current_usage).unwrap_or_default();
        if !self.controllers_were_off {
            return usage;
        }
        CurrentUsage {
            user_us: usage.user_us,
            system_us: usage.system_us,
            ..CurrentUsage::default()
        }
    }
}
