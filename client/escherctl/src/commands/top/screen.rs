//! The terminal while `top` has it: its alternate screen, in raw mode.

use std::io::{self, Write};
use std::mem::ManuallyDrop;
use std::sync::Once;

use escher_client::Timestamp;
use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::cursor::{Hide, Show};
use ratatui::crossterm::execute;
use ratatui::crossterm::terminal::{
    EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode, size,
};
use ratatui::layout::Rect;
use ratatui::{Terminal, TerminalOptions, Viewport};

use super::model::Model;
use super::view::{self, Palette};
use crate::stdio::unbuffered::write_all;

/// The size of a terminal that does not know it, such as a serial line.
const DEFAULT_SIZE: (u16, u16) = (80, 24);

/// The terminal. Dropping it restores what was there before.
pub(super) struct Screen {
    /// Never dropped: it would show the cursor a second time, and panic where the terminal is gone.
    terminal: ManuallyDrop<Terminal<CrosstermBackend<BufferedOutput>>>,
    palette: Palette,
}

impl Screen {
    /// Takes the terminal. A panic restores it, too, before it is reported.
    pub(super) fn enter() -> io::Result<Self> {
        static RESTORE_ON_PANIC: Once = Once::new();
        RESTORE_ON_PANIC.call_once(|| before_panics(restore));
        take().inspect_err(|_| restore())?;
        let options = TerminalOptions {
            viewport: Viewport::Fixed(area()),
        };
        let backend = CrosstermBackend::new(BufferedOutput::default());
        let terminal = Terminal::with_options(backend, options).inspect_err(|_| restore())?;
        Ok(Screen {
            terminal: ManuallyDrop::new(terminal),
            palette: Palette {
                has_colors: has_colors(std::env::var_os("NO_COLOR").as_deref()),
            },
        })
    }

    /// Draws what has changed.
    pub(super) fn draw(&mut self, model: &mut Model) -> io::Result<()> {
        let palette = self.palette;
        self.terminal.draw(|frame| {
            model.page_rows = view::page_rows(frame.area(), model);
            view::draw(frame.buffer_mut(), model, Timestamp::now(), palette);
        })?;
        Ok(())
    }

    /// Clears the screen, which may have another size than before. The next drawing fills it.
    pub(super) fn clear(&mut self) -> io::Result<()> {
        self.terminal.resize(area())
    }

    /// Gives the terminal to the shell while `suspended` runs.
    pub(super) fn while_left(&mut self, suspended: impl FnOnce()) -> io::Result<()> {
        restore();
        suspended();
        take()?;
        self.clear()
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        restore();
    }
}

fn take() -> io::Result<()> {
    enable_raw_mode()?;
    let mut output = BufferedOutput::default();
    execute!(output, EnterAlternateScreen, Hide)
}

/// Restores the terminal. Where that fails it is gone, and there is nothing to restore.
fn restore() {
    let mut output = BufferedOutput::default();
    let _ = execute!(output, LeaveAlternateScreen, Show);
    let _ = disable_raw_mode();
}

/// Has `restore` called before each panic is reported.
fn before_panics(restore: fn()) {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        restore();
        report(panic);
    }));
}

/// Returns the whole screen.
fn area() -> Rect {
    let known = size()
        .ok()
        .filter(|(width, height)| *width > 0 && *height > 0);
    let (width, height) = known.unwrap_or(DEFAULT_SIZE);
    Rect::new(0, 0, width, height)
}

/// Returns whether colours are wanted, when `NO_COLOR` has this value (no-color.org).
fn has_colors(no_color: Option<&std::ffi::OsStr>) -> bool {
    no_color.is_none_or(std::ffi::OsStr::is_empty)
}

/// Standard output, to which a frame goes at once.
#[derive(Debug, Default)]
struct BufferedOutput(Vec<u8>);

impl Write for BufferedOutput {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let frame = std::mem::take(&mut self.0);
        write_all(io::stdout(), &frame)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    static RESTORED: AtomicUsize = AtomicUsize::new(0);

    #[test]
    fn a_panic_restores_the_terminal_before_it_is_reported() {
        static REPORTED_AFTER: AtomicUsize = AtomicUsize::new(0);
        let original = std::panic::take_hook();
        std::panic::set_hook(Box::new(|_| {
            REPORTED_AFTER.store(RESTORED.load(Ordering::SeqCst), Ordering::SeqCst);
        }));
        before_panics(|| {
            RESTORED.fetch_add(1, Ordering::SeqCst);
        });
        let panicked = std::panic::catch_unwind(|| panic!("a bug"));
        std::panic::set_hook(original);
        assert!(panicked.is_err());
        assert_eq!(REPORTED_AFTER.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn no_color_is_heeded_unless_it_is_empty() {
        for (value, expected) in [(None, true), (Some(""), true), (Some("1"), false)] {
            assert_eq!(
                has_colors(value.map(std::ffi::OsStr::new)),
                expected,
                "{value:?}"
            );
        }
    }
}
