//! The user as whom a command runs, if the launcher is root.

use std::collections::HashMap;

use escher_launcher::ipc::wire::LaunchSpec;
use escher_protocol::Exit;

use crate::commands::identity;
use crate::{Launcher, OTHER_USER, Output, exec, require_root};

/// Runs a command as this user and returns the fields of its /proc/PID/status.
fn status_of(uid: u32, gid: u32, groups: &[u32]) -> HashMap<String, String> {
    let launcher = Launcher::start();
    let spec = LaunchSpec {
        identity: identity(uid, gid, groups),
        ..exec(["cat", "/proc/self/status"])
    };
    assert_eq!(launcher.shim().run(&spec).exit, Exit::Code(0));
    let text = Output::of(&launcher, spec.id).text();
    let fields = text.lines().filter_map(|line| line.split_once(":\t"));
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    fields
        .map(|(name, value)| (name.to_owned(), words(value)))
        .collect()
}

#[test]
fn a_command_has_the_ids_and_groups_of_its_user_and_no_capabilities() {
    if !require_root("switching to another user") {
        return;
    }
    let (uid, gid) = (OTHER_USER, OTHER_USER + 1);
    let status = status_of(uid, gid, &[OTHER_USER + 2, 7, 5]);
    assert_eq!(status["Uid"], format!("{uid} {uid} {uid} {uid}"));
    assert_eq!(status["Gid"], format!("{gid} {gid} {gid} {gid}"));
    assert_eq!(status["Groups"], format!("5 7 {}", OTHER_USER + 2));
    for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
        assert_eq!(status[set], "0000000000000000", "{set}");
    }
}

#[test]
fn a_command_keeps_no_group_of_the_launcher() {
    if !require_root("switching to a user without groups") {
        return;
    }
    assert_eq!(status_of(OTHER_USER, OTHER_USER, &[])["Groups"], "");
}

#[test]
fn a_user_may_have_hundreds_of_groups() {
    if !require_root("switching to a user with many groups") {
        return;
    }
    let groups: Vec<u32> = (100_000..100_500).rev().collect();
    let expected: Vec<String> = (100_000..100_500).map(|group| group.to_string()).collect();
    let status = status_of(OTHER_USER, OTHER_USER, &groups);
    assert_eq!(status["Groups"], expected.join(" "));
}
