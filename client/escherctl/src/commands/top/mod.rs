//! `top`: shows what runs and waits, with what it uses at the moment.
//!
//! [`model`] is what is shown and how it changes, without input or output; [`view`] draws it, by the layout of
//! [`columns`]. [`sources`] are the tasks that ask escherd and read the keyboard, and [`screen`] is the terminal. Where
//! there is none, [`once`] prints one table.

mod bindings;
mod columns;
mod figures;
mod keys;
mod log_tail;
mod model;
mod once;
mod rows;
#[cfg(test)]
mod samples;
mod screen;
mod sources;
mod view;

use std::io::{self, IsTerminal};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::{Signal, raise};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use crate::args::verbs::TopArgs;
use crate::context::Context;
use crate::exit_status::ProcessEnd;
use crate::failure::Failure;
use crate::signals::CaughtSignals;
use model::{Effect, Model, Update};
use screen::Screen;
use sources::Sources;

/// The signals that `top` catches: those that end it, once the terminal is restored, and those that a terminal sends.
const SIGNALS: [Signal; 6] = [
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGTERM,
    Signal::SIGHUP,
    Signal::SIGTSTP,
    Signal::SIGWINCH,
];

/// The least time between two drawings. However much a command writes, nobody reads faster.
const FRAME_TIME: Duration = Duration::from_millis(50);

pub(super) async fn top(context: &Context, args: TopArgs) -> Result<ProcessEnd, Failure> {
    if args.once || context.json || !has_screen() {
        let client = context.connect().await?;
        return once::print_once(context, &client)
            .await
            .map(ProcessEnd::from);
    }
    let mut signals = CaughtSignals::catch(&SIGNALS)?;
    let client = tokio::select! {
        client = context.connect_silently() => client?,
        signal = next_end(&mut signals) => return Ok(ProcessEnd::Signal(signal)),
    };
    let (sources, updates) = Sources::start(client, args.interval.0, context.watch_outage())
        .map_err(|error| Failure::system("cannot read the keyboard", error))?;
    let top = Top {
        model: Model::new(),
        screen: Screen::enter().map_err(screen_failure)?,
        sources,
        next_frame: Instant::now(),
    };
    top.run(signals, updates).await
}

/// Whether a person sees the output and can press keys, at a terminal that can do more than print lines.
fn has_screen() -> bool {
    let is_dumb = std::env::var_os("TERM").is_none_or(|term| term.is_empty() || term == "dumb");
    io::stdin().is_terminal() && io::stdout().is_terminal() && !is_dumb
}

/// Waits for a signal that ends `top`.
async fn next_end(signals: &mut CaughtSignals) -> Signal {
    loop {
        match signals.next().await {
            Signal::SIGTSTP | Signal::SIGWINCH => {}
            signal => return signal,
        }
    }
}

fn screen_failure(error: io::Error) -> Failure {
    let errno = error.raw_os_error().map(Errno::from_raw);
    match errno {
        Some(Errno::EIO | Errno::ENXIO) => Failure::TerminalGone,
        _ => Failure::system("cannot use the terminal", error),
    }
}

/// A `top` with a screen.
struct Top {
    model: Model,
    screen: Screen,
    sources: Sources,
    /// The earliest time for the next drawing.
    next_frame: Instant,
}

impl Top {
    /// Runs until it is left, or something ends it. The terminal is restored then.
    async fn run(
        mut self,
        mut signals: CaughtSignals,
        mut updates: mpsc::Receiver<Result<Update, Failure>>,
    ) -> Result<ProcessEnd, Failure> {
        let mut has_changed = true;
        loop {
            tokio::select! {
                signal = signals.next() => match signal {
                    Signal::SIGWINCH => self.screen.clear().map_err(screen_failure)?,
                    Signal::SIGTSTP => self.suspend()?,
                    signal => return Ok(ProcessEnd::Signal(signal)),
                },
                () = sleep_until(self.next_frame), if has_changed => {
                    self.screen.draw(&mut self.model).map_err(screen_failure)?;
                    self.next_frame = Instant::now() + FRAME_TIME;
                    has_changed = false;
                    continue;
                }
                Some(update) = updates.recv() => {
                    for effect in self.model.apply(update?) {
                        if effect == Effect::Quit {
                            return Ok(ProcessEnd::Status(0));
                        }
                        self.perform(effect)?;
                    }
                }
            }
            has_changed = true;
        }
    }

    fn perform(&mut self, effect: Effect) -> Result<(), Failure> {
        match effect {
            Effect::Follow(id) => self.sources.follow(id),
            Effect::LookUp(id) => self.sources.look_up(id),
            Effect::Act(action, id, number) => self.sources.act(action, id, number),
            Effect::Redraw => self.screen.clear().map_err(screen_failure)?,
            Effect::Suspend => self.suspend()?,
            Effect::Quit => {}
        }
        Ok(())
    }

    /// Stops, as a shell's job, until it is continued.
    fn suspend(&mut self) -> Result<(), Failure> {
        // SIGTSTP itself is blocked, and this cannot be.
        let stop = || {
            let _ = raise(Signal::SIGSTOP);
        };
        self.screen.while_left(stop).map_err(screen_failure)
    }
}
