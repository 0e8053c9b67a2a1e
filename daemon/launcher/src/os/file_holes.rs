//! Holes in files: parts that take no space and read as zeros (lseek(2), fallocate(2)).

use std::fs::File;
use std::io;
use std::os::fd::BorrowedFd;

use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, OFlag, fallocate, openat};
use nix::sys::stat::Mode;
use nix::sys::statvfs::fstatvfs;

/// Block size of a file system that does not report one.
const DEFAULT_BLOCK_BYTES: u64 = 4096;

/// Returns the length of the blocks of which files consist on the file system of `directory`. A hole
/// consists of whole ones.
pub(crate) fn block_bytes(directory: BorrowedFd<'_>) -> u64 {
    let state = fstatvfs(directory).ok();
    let block = state.map(|state| state.fragment_size());
    block
        .filter(|block| *block > 0)
        .unwrap_or(DEFAULT_BLOCK_BYTES)
}

/// Frees the space of the bytes of `file` from `start` to `end`, which read as zeros from then on.
/// The file keeps its length.
pub(crate) fn punch_hole(file: &File, start: u64, end: u64) -> io::Result<()> {
    if start >= end {
        return Ok(());
    }
    let flags = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
    let length = i64::try_from(end - start).map_err(io::Error::other)?;
    let start = i64::try_from(start).map_err(io::Error::other)?;
    loop {
        match fallocate(file, flags, start, length) {
            Err(Errno::EINTR) => {}
            punched => return Ok(punched?),
        }
    }
}

/// Returns whether the file system of `directory` can make holes. It is tried on a file without a
/// name; a file system without such files (`O_TMPFILE`, open(2)) counts as one without holes.
pub(crate) fn can_punch_holes(directory: BorrowedFd<'_>) -> bool {
    let flags = OFlag::O_TMPFILE | OFlag::O_WRONLY | OFlag::O_CLOEXEC;
    let Ok(file) = openat(directory, ".", flags, Mode::S_IRUSR | Mode::S_IWUSR) else {
        return false;
    };
    let (file, block) = (File::from(file), block_bytes(directory));
    let punched = file
        .set_len(block)
        .and_then(|()| punch_hole(&file, 0, block));
    punched.is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;
    use std::os::unix::fs::{FileExt, MetadataExt};

    #[test]
    fn a_hole_takes_no_space_and_the_file_keeps_its_length() {
        let temporary = tempfile::tempdir().unwrap();
        let directory = File::open(temporary.path()).unwrap();
        if !can_punch_holes(directory.as_fd()) {
            escher_testkit::report_skipped("needs a file system with holes", "holes");
            return;
        }
        let block = block_bytes(directory.as_fd());
        let file = tempfile::tempfile_in(&temporary).unwrap();
        let length = usize::try_from(3 * block).unwrap();
        file.write_all_at(&vec![7; length], 0).unwrap();
        let before = file.metadata().unwrap();
        punch_hole(&file, block, 2 * block).unwrap();
        punch_hole(&file, 5, 5).unwrap();
        let after = file.metadata().unwrap();
        assert_eq!(after.len(), before.len());
        assert_eq!(after.blocks() * 512 + block, before.blocks() * 512);
    }

    #[test]
    fn the_kernel_s_own_file_systems_have_no_holes() {
        let directory = File::open("/proc").unwrap();
        assert!(!can_punch_holes(directory.as_fd()));
    }
}
