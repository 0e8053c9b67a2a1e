//! Whether the caller may connect to the socket, and how to obtain the permission.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use escher_client::{Diagnostic, Severity};
use nix::errno::Errno;
use nix::unistd::{AccessFlags, Gid, eaccess, getegid, geteuid, getgroups};

use crate::user_database;

const CHECK: &str = "access";

/// Owner, group and mode of a socket. Connecting requires write permission (unix(7)).
#[derive(Debug, Clone, Copy)]
pub(crate) struct SocketPermissions {
    uid: u32,
    gid: u32,
    mode: u32,
}

impl From<&Metadata> for SocketPermissions {
    fn from(metadata: &Metadata) -> Self {
        SocketPermissions {
            uid: metadata.uid(),
            gid: metadata.gid(),
            mode: metadata.mode(),
        }
    }
}

/// The user that runs escherctl.
#[derive(Debug, Clone)]
struct Caller {
    uid: u32,
    /// The login name, else `#` and the uid.
    name: String,
    /// The groups of this session.
    groups: Vec<u32>,
    /// Whether the user database lists it in the socket's group.
    is_member: bool,
}

pub(crate) fn check(permissions: &SocketPermissions) -> Diagnostic {
    let group = group_name(permissions.gid);
    diagnose(permissions, &current_caller(permissions.gid), &group)
}

/// Returns why this user may not connect to the socket at `path`, and what helps.
pub(crate) fn why_denied(path: &Path) -> Option<Diagnostic> {
    if let Some(directory) = closed_directory(path) {
        let message = format!(
            "this user may not enter the directory {}",
            directory.display()
        );
        let advice = format!("let users search it: `chmod +x {}`", directory.display());
        return Some(Diagnostic::failure(CHECK, message).advise(advice));
    }
    let permissions = SocketPermissions::from(&path.metadata().ok()?);
    let diagnostic = check(&permissions);
    (diagnostic.severity == Severity::Failure).then_some(diagnostic)
}

/// Returns the first directory on the way to `path` that this user may not search.
pub(crate) fn closed_directory(path: &Path) -> Option<&Path> {
    let mut directories: Vec<&Path> = path.ancestors().skip(1).collect();
    directories.reverse();
    directories
        .into_iter()
        .filter(|directory| !directory.as_os_str().is_empty())
        .find(|directory| eaccess(*directory, AccessFlags::X_OK) == Err(Errno::EACCES))
}

/// Returns the name of a group, else `#` and its gid.
pub(crate) fn group_name(gid: u32) -> String {
    user_database::group(gid).map_or_else(|| format!("#{gid}"), |group| group.name)
}

fn current_caller(gid: u32) -> Caller {
    let uid = geteuid();
    let user = user_database::user(uid.as_raw());
    let is_member = user.as_ref().is_some_and(|user| {
        let lists_user = || {
            user_database::group(gid)?
                .members
                .contains(&user.name)
                .then_some(())
        };
        user.gid == gid || lists_user().is_some()
    });
    let groups = getgroups().unwrap_or_default().into_iter();
    Caller {
        uid: uid.as_raw(),
        name: user.map_or_else(|| format!("#{uid}"), |user| user.name),
        groups: groups.chain([getegid()]).map(Gid::as_raw).collect(),
        is_member,
    }
}

fn diagnose(permissions: &SocketPermissions, caller: &Caller, group: &str) -> Diagnostic {
    let name = &caller.name;
    let has_bit = |bit: u32| permissions.mode & bit != 0;
    // Only the first class that applies counts (path_resolution(7)).
    let (is_allowed, reason) = if caller.uid == 0 {
        (true, "root may connect to any socket".to_owned())
    } else if caller.uid == permissions.uid {
        (has_bit(0o200), format!("{name} owns the socket"))
    } else if caller.groups.contains(&permissions.gid) {
        (has_bit(0o020), format!("{name} is in group {group}"))
    } else {
        (has_bit(0o002), "all users may connect".to_owned())
    };
    if is_allowed {
        return Diagnostic::ok(CHECK, reason);
    }
    if !has_bit(0o020) {
        let mode = permissions.mode & 0o7777;
        let message = format!("mode {mode:04o} lets only the owner of the socket connect");
        return Diagnostic::failure(CHECK, message).advise(
            "set `daemon.socket_mode` to \"0660\" and restart escherd; with escherd.socket, set \
             SocketMode=0660 and restart that",
        );
    }
    if permissions.gid == 0 {
        let message = format!("the socket belongs to root's group, and {name} is not in it");
        return Diagnostic::failure(CHECK, message).advise(format!(
            "run `sudo groupadd --system escher`, restart escherd, run \
             `sudo usermod -aG escher {name}`, and log in again"
        ));
    }
    if caller.is_member {
        let message = format!("{name} is in group {group}, but this login session is not");
        return Diagnostic::failure(CHECK, message).advise(format!(
            "log in again, or run `newgrp {group}` for this terminal"
        ));
    }
    let message = format!("{name} is not in group {group}");
    Diagnostic::failure(CHECK, message).advise(format!(
        "run `sudo usermod -aG {group} {name}`, and log in again"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALICE: u32 = 1000;
    const ESCHER: u32 = 970;

    fn socket(mode: u32) -> SocketPermissions {
        SocketPermissions {
            uid: 0,
            gid: ESCHER,
            mode: 0o140_000 | mode,
        }
    }

    fn alice(groups: &[u32], is_member: bool) -> Caller {
        Caller {
            uid: ALICE,
            name: "alice".into(),
            groups: groups.to_vec(),
            is_member,
        }
    }

    fn advice(socket: &SocketPermissions, caller: &Caller) -> Option<String> {
        let diagnostic = diagnose(socket, caller, "escher");
        assert_eq!(
            diagnostic.severity == Severity::Ok,
            diagnostic.advice.is_none()
        );
        diagnostic.advice.map(|advice| advice.to_string())
    }

    #[test]
    fn callers_with_permission_get_no_advice() {
        let root = Caller {
            uid: 0,
            ..alice(&[], false)
        };
        assert_eq!(advice(&socket(0o600), &root), None);
        assert_eq!(advice(&socket(0o660), &alice(&[7, ESCHER], true)), None);
        assert_eq!(advice(&socket(0o666), &alice(&[7], false)), None);
        let own = SocketPermissions {
            uid: ALICE,
            ..socket(0o600)
        };
        assert_eq!(advice(&own, &alice(&[], false)), None);
    }

    #[test]
    fn a_member_whose_session_lacks_the_group_logs_in_again() {
        let advice = advice(&socket(0o660), &alice(&[7], true)).unwrap();
        assert!(
            advice.contains("newgrp escher") && !advice.contains("usermod"),
            "{advice}"
        );
    }

    #[test]
    fn a_user_outside_of_the_group_joins_it() {
        let joins = advice(&socket(0o660), &alice(&[7], false)).unwrap();
        assert!(joins.contains("usermod -aG escher alice"), "{joins}");
        let of_root = SocketPermissions {
            gid: 0,
            ..socket(0o660)
        };
        // Nobody should join root's group.
        let creates = advice(&of_root, &alice(&[7], false)).unwrap();
        assert!(creates.contains("groupadd"), "{creates}");
    }

    #[test]
    fn a_mode_without_group_permission_is_to_be_changed() {
        let advice_on_mode = advice(&socket(0o600), &alice(&[ESCHER], true)).unwrap();
        assert!(advice_on_mode.contains("socket_mode"), "{advice_on_mode}");
        // The group's bits apply to its members even where others have more permission.
        assert!(advice(&socket(0o606), &alice(&[ESCHER], true)).is_some());
    }
}
