//! Waiting for files.

use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

use crate::wait::{DEADLINE, readable_within};

/// Waits until `condition` returns a value, checking again whenever something in `directory` changes.
///
/// # Panics
/// After [`DEADLINE`].
pub fn until<T>(directory: &Path, condition: impl FnMut() -> Option<T>) -> T {
    within(directory, DEADLINE, condition)
        .unwrap_or_else(|| panic!("the change of {} did not come", directory.display()))
}

/// The same for what need not happen: `None` after `deadline`.
pub fn within<T>(
    directory: &Path,
    deadline: Duration,
    mut condition: impl FnMut() -> Option<T>,
) -> Option<T> {
    let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK).unwrap();
    let changes = AddWatchFlags::IN_CREATE
        | AddWatchFlags::IN_MOVED_TO
        | AddWatchFlags::IN_DELETE
        | AddWatchFlags::IN_ATTRIB
        | AddWatchFlags::IN_MODIFY;
    inotify
        .add_watch(directory, changes)
        .expect("the directory");
    let end = Instant::now() + deadline;
    loop {
        // After the watch was added, so that no change comes between.
        if let Some(found) = condition() {
            return Some(found);
        }
        if !readable_within(&inotify, end.saturating_duration_since(Instant::now())) {
            return None;
        }
        // Only that something has changed matters.
        let _ = inotify.read_events();
    }
}

/// Waits until there is a file at `path`, whose directory exists.
pub fn until_exists(path: &Path) {
    let directory = path.parent().expect("a path of a file");
    until(directory, || path.exists().then_some(()));
}

/// Waits until there is no file at `path`, whose directory exists.
pub fn until_removed(path: &Path) {
    let directory = path.parent().expect("a path of a file");
    until(directory, || (!path.exists()).then_some(()));
}
