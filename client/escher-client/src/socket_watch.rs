//! Watches for changes after which connecting to a socket may succeed.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, InotifyEvent, WatchDescriptor};
use tokio::io::unix::AsyncFd;

/// The maximum number of symbolic links that are followed from the path of the socket.
const MAX_LINKS: usize = 8;

/// An inotify watch on the directories of sockets or, while one does not exist, on its nearest existing
/// ancestor.
///
/// Create it before an attempt to connect: then no change between the attempt and the wait is missed.
#[derive(Debug)]
pub(crate) struct SocketWatch {
    inotify: AsyncFd<InotifyFd>,
    watched: Vec<WatchedEntry>,
}

/// A directory entry whose changes are reported.
#[derive(Debug)]
struct WatchedEntry {
    directory: WatchDescriptor,
    name: OsString,
}

impl SocketWatch {
    /// Watches for the sockets at `paths`.
    ///
    /// # Errors
    /// Fails if a directory cannot be read, or the user has too many inotify watches.
    pub(crate) fn new<'p>(paths: impl IntoIterator<Item = &'p Path>) -> io::Result<Self> {
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
        let mut watched = Vec::new();
        for path in paths {
            for path in with_link_targets(path)? {
                watch(&inotify, &path, &mut watched)?;
            }
        }
        #[expect(
            deprecated,
            reason = "the replacement is unsafe, for types whose descriptor may change or close; this one owns its own"
        )]
        let inotify = AsyncFd::new(InotifyFd(inotify))?;
        Ok(SocketWatch { inotify, watched })
    }

    /// Waits for a change after which connecting may succeed. Cancel safe.
    ///
    /// # Errors
    /// Returns the system error if events cannot be read.
    pub(crate) async fn changed(&self) -> io::Result<()> {
        loop {
            let mut ready = self.inotify.readable().await?;
            let read = ready.try_io(|inotify| Ok(inotify.get_ref().0.read_events()?));
            if let Ok(events) = read
                && events?.iter().any(|event| self.is_relevant(event))
            {
                return Ok(());
            }
        }
    }

    fn is_relevant(&self, event: &InotifyEvent) -> bool {
        match &event.name {
            Some(name) => self
                .watched
                .iter()
                .any(|entry| entry.directory == event.wd && entry.name == *name),
            // The directory itself has changed, or the kernel's queue has overflowed.
            None => true,
        }
    }
}

/// Returns the absolute `path`, followed by the targets that it leads to if it is a symbolic link.
fn with_link_targets(path: &Path) -> io::Result<Vec<PathBuf>> {
    let mut paths = vec![std::path::absolute(path)?];
    while let Some(last) = paths.last()
        && let Ok(target) = std::fs::read_link(last)
        && paths.len() <= MAX_LINKS
    {
        let target = last.parent().map_or(target.clone(), |dir| dir.join(target));
        paths.push(target);
    }
    Ok(paths)
}

/// Watches for the next directory entry that has to appear before `path` exists.
fn watch(inotify: &Inotify, path: &Path, watched: &mut Vec<WatchedEntry>) -> io::Result<()> {
    let flags = AddWatchFlags::IN_CREATE
        | AddWatchFlags::IN_MOVED_TO
        // escherd opens a new socket to its users by chmod(2).
        | AddWatchFlags::IN_ATTRIB
        | AddWatchFlags::IN_DELETE_SELF
        | AddWatchFlags::IN_MOVE_SELF
        | AddWatchFlags::IN_ONLYDIR;
    let mut awaited = path;
    while let (Some(directory), Some(name)) = (awaited.parent(), awaited.file_name()) {
        match inotify.add_watch(directory, flags) {
            Ok(descriptor) => {
                watched.push(WatchedEntry {
                    directory: descriptor,
                    name: name.to_owned(),
                });
                // An entry that appeared before the watch was added is not reported. If it is a
                // directory, start again: the watch may now be possible further down.
                if awaited == path || !awaited.is_dir() {
                    return Ok(());
                }
                awaited = path;
            }
            Err(Errno::ENOENT | Errno::ENOTDIR) => awaited = directory,
            Err(error) => return Err(error.into()),
        }
    }
    Err(io::ErrorKind::InvalidInput.into())
}

#[derive(Debug)]
struct InotifyFd(Inotify);

impl AsRawFd for InotifyFd {
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
    async fn reports_changes_of_the_socket() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s");
        let watch = SocketWatch::new([&*path]).unwrap();
        std::fs::write(directory.path().join("t"), "").unwrap();
        let neighbour_reported = async {
            for _ in 0..20 {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            biased;
            changed = watch.changed() => panic!("reported another file: {changed:?}"),
            () = neighbour_reported => {}
        }
        std::fs::rename(directory.path().join("t"), &path).unwrap();
        watch.changed().await.unwrap();

        let watch = SocketWatch::new([&*path]).unwrap();
        std::fs::remove_file(&path).unwrap();
        let _listener = UnixListener::bind(&path).unwrap();
        watch.changed().await.unwrap();

        let watch = SocketWatch::new([&*path]).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
        watch.changed().await.unwrap();
    }

    #[tokio::test]
    async fn reports_each_missing_directory_as_it_appears() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a/b/s");
        for part in ["a", "a/b", "a/b/s"] {
            let watch = SocketWatch::new([&*path]).unwrap();
            std::fs::create_dir(directory.path().join(part)).unwrap();
            watch.changed().await.unwrap();
        }
        let watch = SocketWatch::new([&*path]).unwrap();
        std::fs::remove_dir(&path).unwrap();
        std::fs::remove_dir(directory.path().join("a/b")).unwrap();
        watch.changed().await.unwrap();
    }

    #[tokio::test]
    async fn follows_a_symbolic_link() {
        let (link_dir, target_dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (link, path) = (link_dir.path().join("link"), target_dir.path().join("s"));
        symlink(&path, &link).unwrap();
        let watch = SocketWatch::new([&*link]).unwrap();
        std::fs::write(&path, "").unwrap();
        watch.changed().await.unwrap();
    }
}
