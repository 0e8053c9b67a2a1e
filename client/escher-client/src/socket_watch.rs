//! Noticing that a socket may have come back.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, InotifyEvent, WatchDescriptor};
use tokio::io::unix::AsyncFd;

/// Symbolic links that are followed from the socket's path on.
const MAX_LINKS: usize = 8;

/// Watches the directory of a socket; while that is not there, the nearest one above it that is.
///
/// The watch is made before it is tried to connect, so that nothing that happens in between is missed.
#[derive(Debug)]
pub(crate) struct Arrival {
    notify: AsyncFd<Source>,
    /// In which directories to look for which names.
    expected: Vec<(WatchDescriptor, OsString)>,
}

impl Arrival {
    /// Watches for the socket at `path`.
    ///
    /// # Errors
    /// What the system says: the directory may not be read, or there are too many watches.
    pub(crate) fn watch(path: &Path) -> io::Result<Self> {
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
        let mut expected = Vec::new();
        for place in places(path)? {
            expect(&inotify, &place, &mut expected)?;
        }
        #[expect(
            deprecated,
            reason = "what replaces it is unsafe, for types whose descriptor may change or close; this one owns its own"
        )]
        let notify = AsyncFd::new(Source(inotify))?;
        Ok(Arrival { notify, expected })
    }

    /// Waits until something has happened that may let a connection succeed. Cancel safe.
    ///
    /// # Errors
    /// What the system says.
    pub(crate) async fn changed(&self) -> io::Result<()> {
        loop {
            let mut ready = self.notify.readable().await?;
            let read = ready.try_io(|notify| Ok(notify.get_ref().0.read_events()?));
            if let Ok(events) = read
                && events?.iter().any(|event| self.concerns(event))
            {
                return Ok(());
            }
        }
    }

    fn concerns(&self, event: &InotifyEvent) -> bool {
        match &event.name {
            Some(name) => self
                .expected
                .iter()
                .any(|(directory, awaited)| *directory == event.wd && awaited == name),
            // The directory itself; or so much happened that the kernel has lost count.
            None => true,
        }
    }
}

/// The path, and where it leads if it is a link.
fn places(path: &Path) -> io::Result<Vec<PathBuf>> {
    let mut places = vec![std::path::absolute(path)?];
    while let Some(last) = places.last()
        && let Ok(target) = std::fs::read_link(last)
        && places.len() <= MAX_LINKS
    {
        let target = last.parent().map_or(target.clone(), |dir| dir.join(target));
        places.push(target);
    }
    Ok(places)
}

/// Watches for the next thing that has to appear for `place` to be there.
fn expect(
    inotify: &Inotify,
    place: &Path,
    expected: &mut Vec<(WatchDescriptor, OsString)>,
) -> io::Result<()> {
    let flags = AddWatchFlags::IN_CREATE
        | AddWatchFlags::IN_MOVED_TO
        // A new socket is opened to its users by chmod(2) after it was made.
        | AddWatchFlags::IN_ATTRIB
        | AddWatchFlags::IN_DELETE_SELF
        | AddWatchFlags::IN_MOVE_SELF
        | AddWatchFlags::IN_ONLYDIR;
    let mut awaited = place;
    while let (Some(directory), Some(name)) = (awaited.parent(), awaited.file_name()) {
        match inotify.add_watch(directory, flags) {
            Ok(watch) => {
                expected.push((watch, name.to_owned()));
                // What has appeared before the watch was there is not told of: start again from it.
                if awaited == place || !awaited.is_dir() {
                    return Ok(());
                }
                awaited = place;
            }
            Err(Errno::ENOENT | Errno::ENOTDIR) => awaited = directory,
            Err(error) => return Err(error.into()),
        }
    }
    Err(io::ErrorKind::InvalidInput.into())
}

#[derive(Debug)]
struct Source(Inotify);

impl AsRawFd for Source {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::os::unix::net::UnixListener;

    #[tokio::test]
    async fn a_socket_that_appears_is_noticed_and_its_neighbour_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s");
        let arrival = Arrival::watch(&path).unwrap();
        std::fs::write(directory.path().join("other"), "").unwrap();
        std::fs::write(directory.path().join("t"), "").unwrap();
        std::fs::rename(directory.path().join("t"), &path).unwrap();
        arrival.changed().await.unwrap();

        let arrival = Arrival::watch(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let _listener = UnixListener::bind(&path).unwrap();
        arrival.changed().await.unwrap();

        let arrival = Arrival::watch(&path).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
        arrival.changed().await.unwrap();
    }

    #[tokio::test]
    async fn directories_that_are_not_there_are_awaited_one_by_one() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a/b/s");
        for part in ["a", "a/b", "a/b/s"] {
            let arrival = Arrival::watch(&path).unwrap();
            std::fs::create_dir(directory.path().join(part)).unwrap();
            arrival.changed().await.unwrap();
        }
        let arrival = Arrival::watch(&path).unwrap();
        std::fs::remove_dir(&path).unwrap();
        std::fs::remove_dir(directory.path().join("a/b")).unwrap();
        arrival.changed().await.unwrap();
    }

    #[tokio::test]
    async fn a_link_is_watched_where_it_leads() {
        let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (link, path) = (here.path().join("link"), there.path().join("s"));
        symlink(&path, &link).unwrap();
        let arrival = Arrival::watch(&link).unwrap();
        std::fs::write(&path, "").unwrap();
        arrival.changed().await.unwrap();
    }
}
