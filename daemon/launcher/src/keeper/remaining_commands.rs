//! Whom a keeper waits for that ends all commands, in words for the administrator who waits for it.
//!
//! A keeper knows no execution. What it says of one is what the kernel knows: the name of its cgroup
//! begins with the execution's number, and the first child of a shim is the command.

use std::collections::HashMap;
use std::fs;
use std::time::{Duration, Instant};

use nix::unistd::Pid;

use crate::os::process_tree::children_of;

/// Most commands that are named.
const MAX_NAMED: usize = 10;

/// Most characters of a command line that are shown.
const MAX_COMMAND_CHARS: usize = 60;

/// The list of users. The user database is not asked: it may be on a network that is down already.
const USERS: &str = "/etc/passwd";

/// The commands whose ends are awaited.
pub(super) struct RemainingCommands {
    /// Descriptions by shim.
    commands: HashMap<Pid, String>,
    users: String,
    kill_at: Instant,
}

impl RemainingCommands {
    /// There are none yet; all will get SIGKILL after `grace`, if not before.
    pub(super) fn new(grace: Duration) -> Self {
        RemainingCommands {
            commands: HashMap::new(),
            users: fs::read_to_string(USERS).unwrap_or_default(),
            kill_at: Instant::now() + grace,
        }
    }

    /// Adds the command of a shim. Returns whether it has one.
    pub(super) fn add(&mut self, shim: Pid) -> bool {
        let command = children_of(shim).into_iter().next();
        let description = command.map(|command| describe(command, &self.users));
        let has_command = description.is_some();
        self.commands.extend(description.map(|text| (shim, text)));
        has_command
    }

    /// Removes the commands of all other shims than these, which have ended.
    pub(super) fn keep(&mut self, shims: impl Fn(Pid) -> bool) {
        self.commands.retain(|shim, _| shims(*shim));
    }

    /// Returns one line that says how many there are, until when, and which; `None` if there are none.
    pub(super) fn summary(&self) -> Option<String> {
        let seconds = self.kill_at.saturating_duration_since(Instant::now());
        summarize(self.commands.values(), seconds.as_secs_f64().ceil())
    }
}

fn summarize<'c>(
    commands: impl ExactSizeIterator<Item = &'c String>,
    seconds: f64,
) -> Option<String> {
    let count = commands.len();
    let mut named: Vec<&str> = commands.map(String::as_str).collect();
    named.sort_unstable();
    named.truncate(MAX_NAMED);
    let mut list = named.join(", ");
    if count > MAX_NAMED {
        list += &format!(" and {} more", count - MAX_NAMED);
    }
    let commands = if count == 1 { "command" } else { "commands" };
    (count > 0)
        .then(|| format!("ending {count} {commands}; SIGKILL in {seconds} s at the latest: {list}"))
}

/// Describes a command by its main process, as `17 (alice) sh -c …`. The number is that of the
/// execution where commands have cgroups.
fn describe(process: Pid, users: &str) -> String {
    let read = |file| fs::read_to_string(format!("/proc/{process}/{file}")).unwrap_or_default();
    let number = execution_number(&read("cgroup"));
    let number = number.unwrap_or_else(|| format!("process {process}"));
    let user = user_name(&real_uid(&read("status")), users);
    let arguments = fs::read(format!("/proc/{process}/cmdline")).unwrap_or_default();
    format!("{number} ({user}) {}", shown(&arguments))
}

/// Reads the execution's number in a process's cgroup (cgroups(7)):
/// `0::/…/user-<uid>/<number>-<id>`.
fn execution_number(cgroup: &str) -> Option<String> {
    let path = cgroup.lines().find_map(|line| line.strip_prefix("0::"))?;
    let mut names = path.rsplit('/');
    let (number, _) = names.next()?.split_once('-')?;
    let is_of_user = names.next()?.starts_with("user-");
    (is_of_user && number.parse::<u64>().is_ok()).then(|| number.to_owned())
}

/// Returns the real user id in a process's status (proc_pid_status(5)).
fn real_uid(status: &str) -> String {
    let uids = status.lines().find_map(|line| line.strip_prefix("Uid:"));
    let mut uids = uids.unwrap_or_default().split_ascii_whitespace();
    uids.next().unwrap_or("?").to_owned()
}

/// Returns the name of a user in the list (passwd(5)), else the user id.
fn user_name(uid: &str, users: &str) -> String {
    let mut users = users.lines().map(|line| line.split(':'));
    let name = users.find_map(|mut fields| {
        let name = fields.next()?;
        (fields.nth(1) == Some(uid)).then(|| name.to_owned())
    });
    name.unwrap_or_else(|| format!("uid {uid}"))
}

/// Returns the beginning of a command line, whose arguments end with NUL, in one line.
fn shown(arguments: &[u8]) -> String {
    let text = String::from_utf8_lossy(arguments);
    let words = text.trim_end_matches('\0').replace('\0', " ");
    let mut shown: String = words
        .chars()
        .map(|character| {
            if character.is_control() {
                '?'
            } else {
                character
            }
        })
        .take(MAX_COMMAND_CHARS)
        .collect();
    if words.chars().count() > MAX_COMMAND_CHARS {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_some_commands_and_counts_the_others() {
        let summary = |count: usize| {
            let commands: Vec<String> = (10..10 + count).map(|n| format!("{n} (a) x")).collect();
            summarize(commands.iter(), 60.0)
        };
        assert_eq!(summary(0), None);
        let one = "ending 1 command; SIGKILL in 60 s at the latest: 10 (a) x";
        assert_eq!(summary(1).unwrap(), one);
        let two = "ending 2 commands; SIGKILL in 60 s at the latest: 10 (a) x, 11 (a) x";
        assert_eq!(summary(2).unwrap(), two);
        assert!(summary(MAX_NAMED).unwrap().ends_with("19 (a) x"));
        assert!(
            summary(MAX_NAMED + 3)
                .unwrap()
                .ends_with("19 (a) x and 3 more")
        );
    }

    #[test]
    fn reads_what_the_kernel_knows_of_a_command() {
        let id = "01920f3e-6d2c-7c31-8f35-0d6c7e9b1a42";
        for (cgroup, number) in [
            (
                format!("0::/system.slice/escher-launcher.service/user-7/17-{id}\n"),
                Some("17"),
            ),
            (format!("1:name=x:/\n0::/l/user-7/17-{id}/below\n"), None),
            ("0::/user.slice\n".to_owned(), None),
            (String::new(), None),
        ] {
            assert_eq!(execution_number(&cgroup).as_deref(), number, "{cgroup}");
        }
        assert_eq!(real_uid("Name:\tx\nUid:\t7\t8\t9\t9\n"), "7");
        let users = "root:x:0:0::/root:/bin/sh\nalice:x:7:7::/home/alice:/bin/sh\n";
        assert_eq!(user_name("7", users), "alice");
        assert_eq!(user_name("8", users), "uid 8");
        assert_eq!(shown(b"sh\0-c\0echo\n\x1b[2J\0"), "sh -c echo??[2J");
        assert_eq!(
            shown(&[b'x'; MAX_COMMAND_CHARS]),
            "x".repeat(MAX_COMMAND_CHARS)
        );
        let longer = shown(&[b'x'; MAX_COMMAND_CHARS + 1]);
        assert_eq!(longer, format!("{}…", "x".repeat(MAX_COMMAND_CHARS)));
    }
}
