//! Names of users and groups.
//!
//! escherctl is linked statically, and such a program cannot load the modules of the user database (nss(5)). getent(1)
//! does it. Only failures and `doctor` want names, so that costs nobody time.

use std::process::{Command, Stdio};

/// A user (passwd(5)).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct User {
    pub(crate) name: String,
    /// The group that the user belongs to without being listed in it.
    pub(crate) gid: u32,
}

/// A group (group(5)).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Group {
    pub(crate) name: String,
    pub(crate) members: Vec<String>,
}

/// Returns the user with this uid, if there is one.
pub(crate) fn user(uid: u32) -> Option<User> {
    parse_user(&entry("passwd", uid)?)
}

/// Returns the group with this gid, if there is one.
pub(crate) fn group(gid: u32) -> Option<Group> {
    parse_group(&entry("group", gid)?)
}

fn entry(database: &str, number: u32) -> Option<String> {
    let output = Command::new("getent")
        .args([database, &number.to_string()])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .ok()?;
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn parse_user(entry: &str) -> Option<User> {
    let fields: Vec<&str> = entry.trim_end().split(':').collect();
    match fields[..] {
        [name, _password, _uid, gid, ..] => Some(User {
            name: name.to_owned(),
            gid: gid.parse().ok()?,
        }),
        _ => None,
    }
}

fn parse_group(entry: &str) -> Option<Group> {
    let fields: Vec<&str> = entry.trim_end().split(':').collect();
    match fields[..] {
        [name, _password, _gid, members] => {
            let members = members.split(',').filter(|member| !member.is_empty());
            Some(Group {
                name: name.to_owned(),
                members: members.map(str::to_owned).collect(),
            })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_entries_as_getent_prints_them() {
        let alice = User {
            name: "alice".to_owned(),
            gid: 1000,
        };
        let entry = "alice:x:1000:1000:Alice,,,:/home/alice:/bin/bash\n";
        assert_eq!(parse_user(entry), Some(alice));
        let group = |members: &[&str]| Group {
            name: "escher".to_owned(),
            members: members.iter().map(ToString::to_string).collect(),
        };
        let entry = "escher:x:970:alice,bob\n";
        assert_eq!(parse_group(entry), Some(group(&["alice", "bob"])));
        assert_eq!(parse_group("escher:x:970:\n"), Some(group(&[])));
        assert_eq!((parse_user(""), parse_group("")), (None, None));
    }

    #[test]
    fn finds_root_and_nobody_else_by_its_number() {
        assert_eq!(user(0).unwrap().name, "root");
        assert_eq!(group(0).unwrap().name, "root");
        assert_eq!((user(u32::MAX - 1), group(u32::MAX - 1)), (None, None));
    }
}
