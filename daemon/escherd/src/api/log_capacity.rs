//! The size of the file system of the logs, of which users have shares.

use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::statvfs::statvfs;
use tokio::sync::watch;
use tokio::time::sleep;
use tracing::warn;

use crate::config::ReloadableSettings;
use crate::launch::LauncherState;
use crate::scheduler::SchedulerHandle;

/// How soon a file system that was enlarged is noticed.
const REFRESH_INTERVAL: Duration = Duration::from_secs(300);

/// Reads the size in bytes of the file system of `directory` (statvfs(3)), on a thread of its own: that
/// may wait for a disk. `None` if it has none, as those in memory without a limit, or cannot be read.
pub(super) async fn read(directory: &Path) -> Option<u64> {
    let path = directory.to_owned();
    let reading = tokio::task::spawn_blocking(move || statvfs(&path));
    match reading.await {
        Ok(Ok(found)) => {
            let bytes = found.blocks().saturating_mul(found.fragment_size());
            Some(bytes).filter(|bytes| *bytes > 0)
        }
        Ok(Err(error)) => {
            warn!(directory = %directory.display(), %error,
                "the size of the log directory's disk cannot be read: users.log_share does not apply");
            None
        }
        Err(_) => None,
    }
}

/// Keeps the scheduler's idea of the size true: reads it again at each interval, with each reload, and
/// with each launcher, which may have made the directory. Ends with the engine.
pub(super) async fn run(
    directory: PathBuf,
    mut settings: watch::Receiver<ReloadableSettings>,
    mut launcher: watch::Receiver<Option<LauncherState>>,
    scheduler: SchedulerHandle,
) {
    loop {
        let is_running = tokio::select! {
            changed = settings.changed() => changed.is_ok(),
            changed = launcher.changed() => changed.is_ok(),
            () = sleep(REFRESH_INTERVAL) => true,
        };
        if !is_running {
            return;
        }
        let capacity = read(&directory).await;
        let set = move |scheduler: &mut crate::scheduler::Scheduler| {
            scheduler.set_log_capacity(capacity);
        };
        if scheduler.post(set).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_disk_has_a_size_and_a_missing_directory_has_none() {
        assert!(read(Path::new("/")).await.is_some_and(|bytes| bytes > 0));
        assert_eq!(read(Path::new("/no-such-directory")).await, None);
    }
}
