//! The signals that a shim has sent for clients: which, so that each acts once, and by whom.

use std::collections::VecDeque;

use escher_protocol::signal::{MAX_REMEMBERED_SIGNALS, SentSignals};
use escher_protocol::{SignalAnswer, SignalSerial, Timestamp};

use crate::ipc::wire::SignalOrder;

/// The signals of one command.
#[derive(Default)]
pub(super) struct SignalHistory {
    /// The last serials with their answers, the oldest first.
    answered: VecDeque<(SignalSerial, SignalAnswer)>,
    sent: SentSignals,
}

impl SignalHistory {
    /// Returns the answer to a signal that was sent already.
    pub(super) fn earlier_answer(&self, serial: SignalSerial) -> Option<SignalAnswer> {
        let mut answered = self.answered.iter();
        let earlier = answered.find(|(other, _)| *other == serial);
        earlier.map(|(_, answer)| *answer)
    }

    /// Notes that a signal was sent at this time.
    pub(super) fn add(&mut self, order: SignalOrder, answer: SignalAnswer, at: Timestamp) {
        if self.answered.len() == MAX_REMEMBERED_SIGNALS {
            self.answered.pop_front();
        }
        self.answered.push_back((order.serial, answer));
        self.sent.add(order.signal, order.by, at);
    }

    /// Returns who sent which signals.
    pub(super) fn sent(&self) -> &SentSignals {
        &self.sent
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use escher_protocol::{ClientId, SignalRecipients, User};

    fn order(client: u8, number: u64) -> SignalOrder {
        SignalOrder {
            signal: 2,
            recipients: SignalRecipients::ProcessGroup,
            by: User { uid: 1, name: None },
            serial: SignalSerial {
                client: ClientId::from_bytes([client; 16]),
                number,
            },
        }
    }

    #[test]
    fn the_last_signals_are_remembered_whatever_their_order_and_client() {
        let mut history = SignalHistory::default();
        let most = MAX_REMEMBERED_SIGNALS as u64;
        let at = Timestamp::from_micros(1);
        history.add(order(7, 2), SignalAnswer::Cancelled, at);
        for number in (2..=most).rev() {
            history.add(order(8, number), SignalAnswer::Sent, at);
        }
        let answer = |history: &SignalHistory, client, number| {
            history.earlier_answer(order(client, number).serial)
        };
        assert_eq!(answer(&history, 7, 2), Some(SignalAnswer::Cancelled));
        assert_eq!(answer(&history, 7, 1), None);
        assert_eq!(answer(&history, 8, most), Some(SignalAnswer::Sent));
        history.add(order(8, 1), SignalAnswer::Sent, at);
        assert_eq!(answer(&history, 7, 2), None, "one more than are remembered");
        assert_eq!(answer(&history, 8, most), Some(SignalAnswer::Sent));
        let sent = history.sent().iter().next().unwrap();
        assert_eq!(sent.times, most + 1);
    }
}
