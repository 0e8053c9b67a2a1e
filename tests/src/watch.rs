//! Waiting for files.

use std::os::fd::AsFd;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

/// Waits until `is_there` says so, asking again whenever something in `folder` has changed. Panics after
/// `deadline`.
pub fn until<T>(folder: &Path, deadline: Duration, is_there: impl FnMut() -> Option<T>) -> T {
    within(folder, deadline, is_there)
        .unwrap_or_else(|| panic!("what was waited for in {} did not come", folder.display()))
}

/// As [`until`], for what need not come: `None` after `patience`.
pub fn within<T>(
    folder: &Path,
    patience: Duration,
    mut is_there: impl FnMut() -> Option<T>,
) -> Option<T> {
    let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK).unwrap();
    let changes = AddWatchFlags::IN_CREATE
        | AddWatchFlags::IN_MOVED_TO
        | AddWatchFlags::IN_DELETE
        | AddWatchFlags::IN_MODIFY;
    inotify.add_watch(folder, changes).expect("the folder");
    let end = Instant::now() + patience;
    loop {
        if let Some(found) = is_there() {
            return Some(found);
        }
        let left = end.saturating_duration_since(Instant::now());
        let left = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        let mut one = [PollFd::new(inotify.as_fd(), PollFlags::POLLIN)];
        match poll(&mut one, left) {
            Ok(0) => return None,
            _ => drop(inotify.read_events()),
        }
    }
}

/// Waits until there is a file at `path`, whose folder is there already.
pub fn until_exists(path: &Path, deadline: Duration) {
    let folder = path.parent().unwrap();
    until(folder, deadline, || path.exists().then_some(()));
}
