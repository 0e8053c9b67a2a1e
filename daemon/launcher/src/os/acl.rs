//! Access control lists of files (acl(5)): one more user may read a file.
//!
//! [`Acl`] is a list as a value, in the bytes of the extended attribute in which the kernel takes it
//! and returns it (linux/posix_acl_xattr.h). [`grant_read`] and [`revoke_read`] change that of an
//! open file. A list that the file has inherited from its directory is kept otherwise.

use std::ffi::CStr;
use std::io;
use std::os::fd::BorrowedFd;

use nix::sys::stat::fstat;

use crate::sys::xattr;

/// The attribute with the list of a file.
const ATTRIBUTE: &CStr = c"system.posix_acl_access";

/// `POSIX_ACL_XATTR_VERSION`, in front of the entries.
const VERSION: u32 = 2;

/// Longest list that is understood, in bytes: 511 entries. File systems store fewer, or about as many.
const MAX_BYTES: usize = VERSION_BYTES + 511 * ENTRY_BYTES;

const VERSION_BYTES: usize = 4;
const ENTRY_BYTES: usize = 8;

/// Permission to read (`ACL_READ`).
const READ: u16 = 4;

/// The id of an entry that is for nobody in particular (`ACL_UNDEFINED_ID`).
const NO_ID: u32 = u32::MAX;

/// What an entry is for. The kernel demands entries in this order, and those of users and groups in
/// the order of their ids.
mod tag {
    /// The owner of the file.
    pub(super) const OWNER: u16 = 0x01;
    /// A user.
    pub(super) const USER: u16 = 0x02;
    /// The group of the file.
    pub(super) const OWNING_GROUP: u16 = 0x04;
    /// The most that users and groups get, the owner excepted.
    pub(super) const MASK: u16 = 0x10;
    /// Everybody else.
    pub(super) const OTHER: u16 = 0x20;
}

/// One entry. Its order is the kernel's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    tag: u16,
    id: u32,
    permissions: u16,
}

/// An access control list.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Acl {
    /// In the kernel's order.
    entries: Vec<Entry>,
}

impl Acl {
    /// Returns the list that means the same as the permission bits of a mode.
    fn from_mode(mode: u32) -> Self {
        let entry = |tag, shift: u32| Entry {
            tag,
            id: NO_ID,
            permissions: u16::from((mode >> shift).to_le_bytes()[0] & 7),
        };
        Acl {
            entries: vec![
                entry(tag::OWNER, 6),
                entry(tag::OWNING_GROUP, 3),
                entry(tag::OTHER, 0),
            ],
        }
    }

    /// Decodes a list; `None` if it is of another version, or not a list.
    fn decode(bytes: &[u8]) -> Option<Self> {
        let (version, entries) = bytes.split_first_chunk::<VERSION_BYTES>()?;
        let (entries, []) = entries.as_chunks::<ENTRY_BYTES>() else {
            return None;
        };
        let entry = |&[a, b, c, d, e, f, g, h]: &[u8; ENTRY_BYTES]| Entry {
            tag: u16::from_le_bytes([a, b]),
            permissions: u16::from_le_bytes([c, d]),
            id: u32::from_le_bytes([e, f, g, h]),
        };
        (u32::from_le_bytes(*version) == VERSION).then(|| Acl {
            entries: entries.iter().map(entry).collect(),
        })
    }

    fn encode(&self) -> Vec<u8> {
        let mut bytes = VERSION.to_le_bytes().to_vec();
        for entry in &self.entries {
            bytes.extend(entry.tag.to_le_bytes());
            bytes.extend(entry.permissions.to_le_bytes());
            bytes.extend(entry.id.to_le_bytes());
        }
        bytes
    }

    fn find(&mut self, tag: u16, id: u32) -> Option<&mut Entry> {
        let mut entries = self.entries.iter_mut();
        entries.find(|entry| (entry.tag, entry.id) == (tag, id))
    }

    fn insert(&mut self, tag: u16, id: u32, permissions: u16) {
        self.entries.push(Entry {
            tag,
            id,
            permissions,
        });
        self.entries.sort_unstable();
    }

    /// Adds the permission to read for the user `uid`. A mask that takes it away again stays, since
    /// it was set for others.
    fn allow_reading(&mut self, uid: u32) {
        match self.find(tag::USER, uid) {
            Some(entry) => entry.permissions |= READ,
            None => self.insert(tag::USER, uid, READ),
        }
        // A list that names somebody has a mask, which bounds the file's group, too.
        if self.find(tag::MASK, NO_ID).is_none() {
            let group = self.find(tag::OWNING_GROUP, NO_ID);
            let permissions = group.map_or(0, |group| group.permissions);
            self.insert(tag::MASK, NO_ID, permissions | READ);
        }
    }

    /// Removes the entry of the user `uid`; returns whether there was one.
    fn remove(&mut self, uid: u32) -> bool {
        let count = self.entries.len();
        self.entries
            .retain(|entry| (entry.tag, entry.id) != (tag::USER, uid));
        self.entries.len() < count
    }
}

/// Allows the user `uid` to read an open file.
///
/// # Errors
/// Those of fsetxattr(2): `ENOTSUP` where the file system has no access control lists.
pub(crate) fn grant_read(file: BorrowedFd<'_>, uid: u32) -> io::Result<()> {
    let mut acl = match read(file)? {
        Some(acl) => acl,
        None => Acl::from_mode(fstat(file)?.st_mode),
    };
    acl.allow_reading(uid);
    xattr::set(file, ATTRIBUTE, &acl.encode())
}

/// Removes what an access control list allows the user `uid` on an open file.
///
/// # Errors
/// Those of fgetxattr(2) and fsetxattr(2). A file system without access control lists is none.
pub(crate) fn revoke_read(file: BorrowedFd<'_>, uid: u32) -> io::Result<()> {
    match read(file) {
        Ok(Some(mut acl)) => {
            if acl.remove(uid) {
                xattr::set(file, ATTRIBUTE, &acl.encode())?;
            }
            Ok(())
        }
        Ok(None) => Ok(()),
        Err(error) if error.raw_os_error() == Some(libc::ENOTSUP) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Reads the list of a file; `None` if it has only a mode.
fn read(file: BorrowedFd<'_>) -> io::Result<Option<Acl>> {
    let mut buffer = [0; MAX_BYTES];
    match xattr::get(file, ATTRIBUTE, &mut buffer) {
        Ok(length) => Acl::decode(&buffer[..length])
            .map(Some)
            .ok_or_else(|| io::ErrorKind::InvalidData.into()),
        Err(error) if error.raw_os_error() == Some(libc::ENODATA) => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, File, Permissions};
    use std::os::fd::AsFd;
    use std::os::unix::fs::PermissionsExt;
    use std::process::Command;

    use proptest::prelude::*;

    const ALICE: u32 = 61_001;

    /// The tag of the entry of a group.
    const GROUP: u16 = 0x08;

    /// What `setfacl -m u:61001:r` makes of a file of mode 0640.
    const GOLDEN: &[u8] = &[
        2, 0, 0, 0, // version
        0x01, 0, 6, 0, 0xff, 0xff, 0xff, 0xff, // user::rw-
        0x02, 0, 4, 0, 0x49, 0xee, 0, 0, // user:61001:r--
        0x04, 0, 4, 0, 0xff, 0xff, 0xff, 0xff, // group::r--
        0x10, 0, 4, 0, 0xff, 0xff, 0xff, 0xff, // mask::r--
        0x20, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, // other::---
    ];

    fn readable_by_alice() -> Acl {
        let mut acl = Acl::from_mode(0o100_640);
        acl.allow_reading(ALICE);
        acl
    }

    #[test]
    fn a_list_is_the_bytes_that_the_kernel_takes() {
        assert_eq!(readable_by_alice().encode(), GOLDEN);
        assert_eq!(Acl::decode(GOLDEN), Some(readable_by_alice()));
        for not_a_list in [&[][..], &GOLDEN[..11], &[1, 0, 0, 0], &GOLDEN[4..]] {
            assert_eq!(Acl::decode(not_a_list), None, "{not_a_list:?}");
        }
    }

    #[test]
    fn other_entries_and_the_mask_stay() {
        let mut inherited = Acl::from_mode(0o640);
        inherited.insert(tag::USER, ALICE + 1, 7);
        inherited.insert(GROUP, 4, 5);
        inherited.insert(tag::MASK, NO_ID, 0);
        let mut acl = inherited.clone();
        acl.allow_reading(ALICE);
        acl.allow_reading(ALICE);
        assert_eq!(acl.entries.len(), inherited.entries.len() + 1);
        assert!(acl.entries.is_sorted());
        assert!(acl.remove(ALICE));
        assert!(!acl.remove(ALICE));
        assert_eq!(acl, inherited);
    }

    proptest! {
        #[test]
        fn whatever_the_kernel_returns_is_written_back_unchanged(bytes: Vec<u8>) {
            if let Some(acl) = Acl::decode(&bytes) {
                prop_assert_eq!(acl.encode(), bytes);
            }
        }
    }

    #[test]
    fn the_list_of_a_file_is_changed_and_its_mode_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        let file = File::create(&path).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        let mode = || fs::metadata(&path).unwrap().permissions().mode() & 0o7777;
        match grant_read(file.as_fd(), ALICE) {
            Err(error) if error.raw_os_error() == Some(libc::ENOTSUP) => {
                escher_testkit::report_skipped(
                    "needs a file system with access control lists",
                    "access control lists",
                );
                return;
            }
            granted => granted.unwrap(),
        }
        assert_eq!(read(file.as_fd()).unwrap(), Some(readable_by_alice()));
        assert_eq!(mode(), 0o640);
        match Command::new("getfacl").arg("-cpn").arg(&path).output() {
            Ok(shown) => assert_eq!(
                String::from_utf8(shown.stdout).unwrap().trim_end(),
                "user::rw-\nuser:61001:r--\ngroup::r--\nmask::r--\nother::---"
            ),
            Err(_) => escher_testkit::report_skipped("needs getfacl", "what getfacl(1) shows"),
        }
        revoke_read(file.as_fd(), ALICE).unwrap();
        revoke_read(file.as_fd(), ALICE).unwrap();
        let left = read(file.as_fd()).unwrap();
        assert!(left.is_none_or(|acl| acl.entries.iter().all(|entry| entry.tag != tag::USER)));
        assert_eq!(mode(), 0o640);
    }

    #[test]
    fn a_file_system_without_lists_has_nothing_to_revoke() {
        let file = File::open("/proc/self/status").unwrap();
        let refused = grant_read(file.as_fd(), ALICE).unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(libc::ENOTSUP));
        revoke_read(file.as_fd(), ALICE).unwrap();
    }
}
