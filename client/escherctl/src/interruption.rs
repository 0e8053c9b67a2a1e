//! What a signal to `run` leads to.

use escher_client::CancelMode;
use nix::sys::signal::Signal;

/// The signals that `run` catches.
pub(crate) const SIGNALS: [Signal; 6] = [
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGTERM,
    Signal::SIGHUP,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
];

/// What to do about a signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reaction {
    /// Send it to the command's process group, as from the command's own terminal.
    Interrupt(Signal),
    /// Send it to the command's main process.
    Forward(Signal),
    Cancel(CancelMode),
    /// Exit; the command goes on.
    Leave,
}

/// The signals that `run` has received.
#[derive(Debug, Default)]
pub(crate) struct Interruption {
    interrupts: u32,
    received: Vec<Signal>,
}

impl Interruption {
    /// Returns the reaction to `signal`. `is_unanswered`: whether escherd has not answered for so long that
    /// nobody wants to wait for it.
    pub(crate) fn react(&mut self, signal: Signal, is_unanswered: bool) -> Reaction {
        self.received.push(signal);
        match signal {
            Signal::SIGHUP => return Reaction::Leave,
            Signal::SIGUSR1 | Signal::SIGUSR2 => return Reaction::Forward(signal),
            _ if is_unanswered => return Reaction::Leave,
            Signal::SIGTERM => return Reaction::Cancel(CancelMode::Graceful),
            Signal::SIGINT => self.interrupts += 1,
            _ => return Reaction::Interrupt(signal),
        }
        match self.interrupts {
            1 => Reaction::Interrupt(signal),
            2 => Reaction::Cancel(CancelMode::Graceful),
            3 => Reaction::Cancel(CancelMode::Kill),
            _ => Reaction::Leave,
        }
    }

    /// Whether this signal was received.
    pub(crate) fn has_received(&self, signal: i32) -> bool {
        self.received.iter().any(|other| *other as i32 == signal)
    }

    /// Says what the next Ctrl-C will do.
    pub(crate) fn next_step(&self) -> &'static str {
        match self.interrupts {
            0 => "Ctrl-C interrupts it",
            1 => "Ctrl-C again cancels it",
            2 => "Ctrl-C again kills it",
            _ => "Ctrl-C again leaves it running",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Reaction::{Cancel, Forward, Interrupt, Leave};
    use Signal::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2};

    const CANCEL: Reaction = Cancel(CancelMode::Graceful);
    const KILL: Reaction = Cancel(CancelMode::Kill);

    fn reactions(signals: &[Signal]) -> Vec<Reaction> {
        let mut interruption = Interruption::default();
        let react = |signal: &Signal| interruption.react(*signal, false);
        signals.iter().map(react).collect()
    }

    #[test]
    fn ctrl_c_interrupts_then_cancels_then_kills_then_leaves() {
        assert_eq!(
            reactions(&[SIGINT; 5]),
            [Interrupt(SIGINT), CANCEL, KILL, Leave, Leave]
        );
    }

    /// timeout(1) signals the program, and then its process group: the program gets it twice.
    #[test]
    fn sigterm_cancels_however_often_it_comes() {
        assert_eq!(reactions(&[SIGTERM; 3]), [CANCEL; 3]);
    }

    #[test]
    fn other_signals_do_not_count_as_ctrl_c() {
        assert_eq!(
            reactions(&[
                SIGQUIT, SIGQUIT, SIGUSR1, SIGUSR2, SIGTERM, SIGINT, SIGQUIT, SIGINT
            ]),
            [
                Interrupt(SIGQUIT),
                Interrupt(SIGQUIT),
                Forward(SIGUSR1),
                Forward(SIGUSR2),
                CANCEL,
                Interrupt(SIGINT),
                Interrupt(SIGQUIT),
                CANCEL,
            ]
        );
        assert_eq!(reactions(&[SIGHUP]), [Leave]);
    }

    #[test]
    fn any_that_would_end_the_command_leaves_once_escherd_does_not_answer() {
        for (signal, expected) in [
            (SIGINT, Leave),
            (SIGQUIT, Leave),
            (SIGTERM, Leave),
            (SIGHUP, Leave),
            (SIGUSR1, Forward(SIGUSR1)),
            (SIGUSR2, Forward(SIGUSR2)),
        ] {
            let mut interruption = Interruption::default();
            assert_eq!(interruption.react(signal, true), expected);
            assert!(interruption.has_received(signal as i32));
        }
    }
}
