//! Whether the caller may connect, and what it takes if not.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;

use escher_client::Diagnostic;
use nix::unistd::{Gid, Group, User, getegid, geteuid, getgroups};

const CHECK: &str = "access";

/// Whose a socket is, and who may connect: that takes the right to write (unix(7)).
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    uid: u32,
    gid: u32,
    mode: u32,
}

impl Place {
    pub(super) fn of(found: &Metadata) -> Self {
        Place {
            uid: found.uid(),
            gid: found.gid(),
            mode: found.mode(),
        }
    }
}

/// Who calls.
#[derive(Debug, Clone)]
struct Caller {
    uid: u32,
    /// Its name, or its number for want of one.
    name: String,
    /// The groups of this session.
    groups: Vec<u32>,
    /// Whether the host's users say that it is in the socket's group.
    is_listed: bool,
}

pub(super) fn examine(place: &Place) -> Diagnostic {
    judge(place, &caller(place.gid), &group_name(place.gid))
}

/// The name of a group, or its number for want of one.
pub(super) fn group_name(gid: u32) -> String {
    let group = Group::from_gid(Gid::from_raw(gid)).ok().flatten();
    group.map_or_else(|| format!("#{gid}"), |group| group.name)
}

fn caller(gid: u32) -> Caller {
    let uid = geteuid();
    let user = User::from_uid(uid).ok().flatten();
    let group = Group::from_gid(Gid::from_raw(gid)).ok().flatten();
    let is_listed = user.as_ref().is_some_and(|user| {
        let is_member = |group: &Group| group.mem.contains(&user.name);
        user.gid.as_raw() == gid || group.as_ref().is_some_and(is_member)
    });
    let groups = getgroups().unwrap_or_default().into_iter();
    Caller {
        uid: uid.as_raw(),
        name: user.map_or_else(|| format!("#{uid}"), |user| user.name),
        groups: groups.chain([getegid()]).map(Gid::as_raw).collect(),
        is_listed,
    }
}

fn judge(place: &Place, caller: &Caller, group: &str) -> Diagnostic {
    let name = &caller.name;
    let may = |bit: u32| place.mode & bit != 0;
    // The first that fits is all that counts (path_resolution(7)).
    let (is_allowed, by) = if caller.uid == 0 {
        (true, "root may connect to any".to_owned())
    } else if caller.uid == place.uid {
        (may(0o200), format!("it belongs to {name}"))
    } else if caller.groups.contains(&place.gid) {
        (may(0o020), format!("{name} is in group {group}"))
    } else {
        (may(0o002), "everybody may connect".to_owned())
    };
    if is_allowed {
        return Diagnostic::ok(CHECK, by);
    }
    if !may(0o020) {
        let message = format!(
            "its mode {:04o} lets nobody connect but its owner",
            place.mode & 0o7777
        );
        return Diagnostic::failure(CHECK, message)
            .advise("set `daemon.socket_mode` to \"0660\" (or SocketMode= of escherd.socket) and restart it");
    }
    if place.gid == 0 {
        let message = format!("only root's group may connect, and {name} is not in it");
        return Diagnostic::failure(CHECK, message).advise(format!(
            "`sudo groupadd --system escher`, restart escherd, `sudo usermod -aG escher {name}`, and log in again"
        ));
    }
    if caller.is_listed {
        let message = format!("{name} is in group {group}, but this session is not");
        return Diagnostic::failure(CHECK, message).advise(format!(
            "log in again, or `newgrp {group}` for this terminal alone"
        ));
    }
    let message = format!("{name} is not in group {group}");
    Diagnostic::failure(CHECK, message).advise(format!(
        "`sudo usermod -aG {group} {name}`, and log in again"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use escher_client::Severity;

    const ALICE: u32 = 1000;
    const ESCHER: u32 = 970;

    fn place(mode: u32) -> Place {
        Place {
            uid: 0,
            gid: ESCHER,
            mode: 0o140_000 | mode,
        }
    }

    fn alice(groups: &[u32], is_listed: bool) -> Caller {
        Caller {
            uid: ALICE,
            name: "alice".into(),
            groups: groups.to_vec(),
            is_listed,
        }
    }

    fn advice(place: &Place, caller: &Caller) -> Option<String> {
        let diagnostic = judge(place, caller, "escher");
        assert_eq!(
            diagnostic.severity == Severity::Ok,
            diagnostic.advice.is_none()
        );
        diagnostic.advice.map(|advice| advice.to_string())
    }

    #[test]
    fn who_may_connect_is_told_so() {
        let root = Caller {
            uid: 0,
            ..alice(&[], false)
        };
        assert_eq!(advice(&place(0o600), &root), None);
        assert_eq!(advice(&place(0o660), &alice(&[7, ESCHER], true)), None);
        assert_eq!(advice(&place(0o666), &alice(&[7], false)), None);
        let own = Place {
            uid: ALICE,
            ..place(0o600)
        };
        assert_eq!(advice(&own, &alice(&[], false)), None);
    }

    #[test]
    fn a_member_whose_session_is_older_logs_in_again() {
        let advice = advice(&place(0o660), &alice(&[7], true)).unwrap();
        assert!(
            advice.contains("newgrp escher") && !advice.contains("usermod"),
            "{advice}"
        );
    }

    #[test]
    fn who_is_no_member_is_told_how_to_become_one() {
        let told = advice(&place(0o660), &alice(&[7], false)).unwrap();
        assert!(told.contains("usermod -aG escher alice"), "{told}");
        let of_root = Place {
            gid: 0,
            ..place(0o660)
        };
        let told = advice(&of_root, &alice(&[7], false)).unwrap();
        assert!(
            told.contains("groupadd"),
            "nobody joins root's group: {told}"
        );
    }

    #[test]
    fn a_mode_that_keeps_the_group_out_is_told() {
        let told = advice(&place(0o600), &alice(&[ESCHER], true)).unwrap();
        assert!(told.contains("socket_mode"), "{told}");
        // Being in the group shuts out, even where everybody else may.
        assert!(advice(&place(0o606), &alice(&[ESCHER], true)).is_some());
    }
}
