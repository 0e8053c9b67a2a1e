//! Who may read a log: an access control list lets its submitter in (acl(5)).

use std::fs::{self, Permissions};
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use escher_launcher::ipc::wire::{LaunchSpec, MAX_IDS_AT_ONCE};
use escher_protocol::ExecutionId;

use crate::hostile_users::as_other_user;
use crate::{Launcher, OTHER_USER, require_root, shell};

/// A command of root that another user is said to have submitted.
fn submitted_by(uid: u32) -> LaunchSpec {
    LaunchSpec {
        submitter_uid: uid,
        ..shell("echo output")
    }
}

/// Starts a launcher whose directories other users may reach.
fn reachable_launcher() -> Launcher {
    Launcher::start_after(|folder| {
        fs::set_permissions(folder, Permissions::from_mode(0o711)).unwrap();
    })
}

fn read_as_other_user(path: &Path) -> Result<Vec<u8>, ErrorKind> {
    as_other_user(|| fs::read(path)).map_err(|error| error.kind())
}

#[test]
fn a_submitter_may_read_its_log_and_index_until_that_is_revoked() {
    if !require_root("logs of other users") {
        return;
    }
    let launcher = reachable_launcher();
    let shim = launcher.shim();
    let (own, foreign) = (submitted_by(OTHER_USER), submitted_by(OTHER_USER + 1));
    shim.run(&own);
    shim.run(&foreign);
    let denied = Err(ErrorKind::PermissionDenied);
    assert_eq!(
        read_as_other_user(&launcher.log(own.id)),
        Ok(b"output\n".to_vec())
    );
    assert!(read_as_other_user(&launcher.index(own.id)).is_ok());
    assert_eq!(read_as_other_user(&launcher.log(foreign.id)), denied);
    let log_dir = launcher.log_dir();
    let listed = as_other_user(|| fs::read_dir(log_dir).map(|_| ()));
    assert_eq!(listed.unwrap_err().kind(), ErrorKind::PermissionDenied);
    let mode = fs::metadata(launcher.log(own.id)).unwrap().permissions();
    assert_eq!(mode.mode() & 0o7777, 0o640, "readable by the group as well");

    let unknown = ExecutionId::generate();
    let ids = [own.id, unknown];
    assert_eq!(launcher.revoke_read(OTHER_USER + 1, &ids), ids);
    assert!(read_as_other_user(&launcher.log(own.id)).is_ok());
    for _ in 0..2 {
        assert_eq!(launcher.revoke_read(OTHER_USER, &ids), ids);
        assert_eq!(read_as_other_user(&launcher.log(own.id)), denied);
        assert_eq!(read_as_other_user(&launcher.index(own.id)), denied);
    }
    assert_eq!(fs::read(launcher.log(own.id)).unwrap(), b"output\n");
}

#[test]
fn the_list_that_a_log_inherits_from_its_directory_stays() {
    if !require_root("logs of other users") {
        return;
    }
    // user::rw-, group::r--, group:OTHER_USER:r--, mask::r--, other::---
    let group = OTHER_USER.to_le_bytes();
    let mut list = vec![2, 0, 0, 0];
    list.extend([
        1, 0, 6, 0, 255, 255, 255, 255, 4, 0, 4, 0, 255, 255, 255, 255,
    ]);
    list.extend([8, 0, 4, 0, group[0], group[1], group[2], group[3]]);
    list.extend([
        16, 0, 4, 0, 255, 255, 255, 255, 32, 0, 0, 0, 255, 255, 255, 255,
    ]);
    let launcher = reachable_launcher();
    if !crate::raw::set_attribute(&launcher.log_dir(), c"system.posix_acl_default", &list) {
        escher_testkit::report_skipped("needs access control lists", "inherited lists");
        return;
    }
    let shim = launcher.shim();
    let spec = submitted_by(OTHER_USER + 1);
    shim.run(&spec);
    // By its group.
    assert!(read_as_other_user(&launcher.log(spec.id)).is_ok());
    assert_eq!(launcher.revoke_read(OTHER_USER + 1, &[spec.id]), [spec.id]);
    assert!(read_as_other_user(&launcher.log(spec.id)).is_ok());
}

#[test]
fn no_more_than_the_maximum_is_revoked_at_once() {
    let launcher = Launcher::start();
    let ids: Vec<ExecutionId> = (0..=MAX_IDS_AT_ONCE)
        .map(|_| ExecutionId::generate())
        .collect();
    let revoked = launcher.revoke_read(OTHER_USER, &ids);
    assert_eq!(revoked, ids[..MAX_IDS_AT_ONCE]);
}
