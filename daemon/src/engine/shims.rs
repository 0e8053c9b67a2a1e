//! What comes from the shims, and what follows from it.

use escher_launcher::wire::{FromShim, ToShim};
use escher_protocol::message::EventKind;
use escher_protocol::{ExecutionId, Timestamp};

use super::{Effect, Engine};
use crate::execution::Event;

impl Engine {
    /// A shim has something to tell.
    pub fn shim_news(&mut self, id: ExecutionId, news: FromShim, now: Timestamp) {
        let Some(number) = self.numbers.get(&id).copied() else {
            return;
        };
        match news {
            FromShim::Started { pid, at } => {
                if self
                    .transition(number, Event::Started { pid, at })
                    .is_some()
                {
                    self.tell(number, at, EventKind::Started);
                }
            }
            FromShim::InputAccepted => {
                if let Some(entry) = self.entries.get_mut(&number)
                    && let Some((reply, sender)) = entry.execution.stdin.accepted()
                {
                    let _ = sender.send(reply);
                }
                self.feed(number);
            }
            FromShim::InputClosed => self.close_stdin(number),
            FromShim::LogGrew { log_bytes } => {
                if let Some(entry) = self.entries.get(&number)
                    && let Some(progress) = &entry.progress
                {
                    progress.send_modify(|progress| progress.log_bytes = log_bytes);
                }
            }
            FromShim::Adoptable(_) => {}
            FromShim::Exited(report) => {
                if self.transition(number, Event::Exited(report)).is_some() {
                    self.launched -= 1;
                    self.finished(number, now);
                }
                self.effects.push(Effect::Order(id, ToShim::Recorded));
                self.admit();
            }
        }
    }

    /// The shim of `id` is gone. After its report it may go as it likes.
    pub fn shim_lost(&mut self, id: ExecutionId, now: Timestamp) {
        let Some(number) = self.numbers.get(&id).copied() else {
            return;
        };
        if self.launched_entry(id).is_some()
            && self.transition(number, Event::Lost { at: now }).is_some()
        {
            self.launched -= 1;
            self.finished(number, now);
            self.admit();
        }
    }

    /// Everything that follows from the end of an execution.
    pub(super) fn finished(&mut self, number: u64, now: Timestamp) {
        self.close_stdin(number);
        let Some(entry) = self.entries.get_mut(&number) else {
            return;
        };
        let waiters = std::mem::take(&mut entry.waiters);
        for waiter in waiters {
            let _ = waiter.send(entry.execution.record());
        }
        let progress = entry.progress_now();
        if let Some(sender) = entry.progress.take() {
            sender.send_replace(progress);
        }
        let status = entry.execution.state.status();
        self.tell(number, now, EventKind::Finished(status));
    }

    pub(super) fn close_stdin(&mut self, number: u64) {
        if let Some(entry) = self.entries.get_mut(&number) {
            for (reply, sender) in entry.execution.stdin.close() {
                let _ = sender.send(reply);
            }
        }
    }
}
