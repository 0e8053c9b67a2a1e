//! Signals that clients send to executions.

use serde::{Deserialize, Serialize};

use crate::blob::bounded_list;
use crate::id::ClientId;
use crate::time::Timestamp;
use crate::user::User;

/// The processes that get a signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum SignalRecipients {
    /// The main process, while it lives.
    MainProcess,
    /// The process group of the main process, as from a terminal. A paused command is resumed first.
    /// Where the program does not run yet, or the main process has ended, the execution is cancelled
    /// instead ([`SignalAnswer::Cancelled`]).
    ProcessGroup,
    /// All processes, also those that the main process has left behind and that still have time to end.
    Tree,
}

/// Identifies a signal, so that it acts once however often it is sent: a command's shim remembers the
/// last [`MAX_REMEMBERED_SIGNALS`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignalSerial {
    /// The client that sends it.
    pub client: ClientId,
    /// A number that the client uses for no other signal.
    pub number: u64,
}

impl SignalSerial {
    /// Returns a serial that no other signal has.
    #[must_use]
    pub fn unique() -> Self {
        SignalSerial {
            client: ClientId::generate(),
            number: 1,
        }
    }
}

/// How many signals of a command are remembered. The repetition of an older one acts again.
pub const MAX_REMEMBERED_SIGNALS: usize = 64;

/// The answer to a signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum SignalAnswer {
    /// The recipients got it, as far as there were any.
    Sent,
    /// There was no process group to get it, so the execution was cancelled.
    Cancelled,
}

/// Signals of one number from one user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SentSignal {
    /// The signal's number.
    pub signal: i32,
    /// Who sent them.
    pub by: User,
    /// How many they were.
    pub times: u64,
    /// When the last one was sent.
    pub last_at: Timestamp,
}

/// Most elements of [`SentSignals`].
pub const MAX_SENT_SIGNALS: usize = 8;

/// Who sent which signals to an execution, in the order of the last ones: the latest
/// [`MAX_SENT_SIGNALS`] pairs of number and user.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SentSignals(#[serde(deserialize_with = "bounded_list")] Vec<SentSignal>);

impl SentSignals {
    /// Adds a signal, and drops the oldest pair if they become too many.
    pub fn add(&mut self, signal: i32, by: User, at: Timestamp) {
        let mut sent = SentSignal {
            signal,
            by,
            times: 1,
            last_at: at,
        };
        let is_same = |other: &SentSignal| (other.signal, &other.by) == (sent.signal, &sent.by);
        if let Some(index) = self.0.iter().position(is_same) {
            sent.times += self.0.remove(index).times;
        } else if self.0.len() == MAX_SENT_SIGNALS {
            self.0.remove(0);
        }
        self.0.push(sent);
    }

    /// Returns the signals.
    pub fn iter(&self) -> std::slice::Iter<'_, SentSignal> {
        self.0.iter()
    }
}

impl<'a> IntoIterator for &'a SentSignals {
    type Item = &'a SentSignal;
    type IntoIter = std::slice::Iter<'a, SentSignal>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(uid: u32) -> User {
        User { uid, name: None }
    }

    fn added(signals: &[(i32, u32)]) -> Vec<(i32, u32, u64, i64)> {
        let mut sent = SentSignals::default();
        for ((signal, uid), at) in signals.iter().zip(1..) {
            sent.add(*signal, user(*uid), Timestamp::from_micros(at));
        }
        sent.iter()
            .map(|sent| {
                let at = sent.last_at.as_micros();
                (sent.signal, sent.by.uid, sent.times, at)
            })
            .collect()
    }

    #[test]
    fn signals_of_one_number_and_user_are_counted_together() {
        assert_eq!(
            added(&[(2, 1), (15, 1), (2, 7), (2, 1)]),
            [(15, 1, 1, 2), (2, 7, 1, 3), (2, 1, 2, 4)]
        );
    }

    #[test]
    fn the_latest_pairs_are_kept() {
        let many: Vec<(i32, u32)> = (1..=9).map(|signal| (signal, 1)).collect();
        assert_eq!(added(&many[..MAX_SENT_SIGNALS])[0], (1, 1, 1, 1));
        let kept = added(&many);
        assert_eq!(kept.len(), MAX_SENT_SIGNALS);
        assert_eq!((kept[0], kept[7]), ((2, 1, 1, 2), (9, 1, 1, 9)));
    }
}
