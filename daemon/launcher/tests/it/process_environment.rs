//! The process environment of a command, which does not depend on how the launcher was started:
//! descriptors, signals, priority, session, environment variables.

use escher_launcher::ipc::wire::LaunchSpec;
use escher_protocol::{Blob, Exit};

use crate::launcher::OTHER_USER;
use crate::{Launcher, Output, exec, require_root, shell};
use escher_testkit::report_skipped;

fn printed(launcher: &Launcher, spec: &LaunchSpec) -> String {
    assert_eq!(launcher.shim().run(spec).exit, Exit::Code(0));
    Output::of(launcher, spec.id).text()
}

#[test]
fn each_of_sixty_four_commands_at_once_has_three_descriptors() {
    let launcher = Launcher::start();
    let shims = launcher.shims(64);
    let specs: Vec<_> = shims
        .iter()
        .map(|_| exec(["ls", "/proc/self/fd"]))
        .collect();
    for (shim, spec) in shims.iter().zip(&specs) {
        shim.launch(spec);
    }
    for (shim, spec) in shims.iter().zip(&specs) {
        shim.finish();
        // The fourth is of the directory that ls reads.
        assert_eq!(Output::of(&launcher, spec.id).text(), "0\n1\n2\n3\n");
    }
}

#[test]
fn signal_dispositions_mask_and_umask_are_not_inherited() {
    let script =
        "umask 0; exec env --block-signal --ignore-signal=PIPE,HUP,USR1,CHLD \"$0\" \"$@\"";
    let launcher = Launcher::start_by(&["/bin/sh", "-c", script]);
    let spec = exec([
        "sed",
        "-nE",
        "/^(SigPnd|SigBlk|SigIgn|SigCgt|Umask):/p",
        "/proc/self/status",
    ]);
    let clean = "0000000000000000";
    assert_eq!(
        printed(&launcher, &spec),
        format!(
            "Umask:\t0022\nSigPnd:\t{clean}\nSigBlk:\t{clean}\nSigIgn:\t{clean}\nSigCgt:\t{clean}\n"
        )
    );
    // The launcher itself still handles SIGTERM.
    launcher.signal(libc::SIGTERM);
    assert!(launcher.receive().is_none());
}

#[test]
fn priority_and_out_of_memory_score_are_reset() {
    if !require_root("raising priority again") {
        return;
    }
    let script = "echo 300 > /proc/self/oom_score_adj; exec nice -n 5 \"$0\" \"$@\"";
    let launcher = Launcher::start_by(&["/bin/sh", "-c", script]);
    let text = "nice; cat /proc/self/oom_score_adj";
    assert_eq!(printed(&launcher, &shell(text)), "0\n0\n");
    let as_user = LaunchSpec {
        identity: crate::commands::identity(OTHER_USER, OTHER_USER, &[]),
        ..shell(text)
    };
    assert_eq!(printed(&launcher, &as_user), "0\n0\n");
}

/// The kernel changed the score of the shim with that of the child, which shared its memory.
#[test]
fn the_out_of_memory_score_of_a_shim_stays() {
    if !require_root("a shim's out-of-memory score") {
        return;
    }
    let script = "echo 300 > /proc/self/oom_score_adj; exec \"$0\" \"$@\"";
    let launcher = Launcher::start_by(&["/bin/sh", "-c", script]);
    let shim = launcher.shim();
    let score = || std::fs::read_to_string(format!("/proc/{}/oom_score_adj", shim.pid())).unwrap();
    assert_eq!(score(), "300\n");
    let spec = exec(["cat", "/proc/self/oom_score_adj"]);
    assert_eq!(shim.run(&spec).exit, Exit::Code(0));
    assert_eq!(Output::of(&launcher, spec.id).text(), "0\n");
    assert_eq!(score(), "300\n");
}

/// The niceness with which the tests run.
fn own_nice() -> i32 {
    let nice = std::process::Command::new("nice").output().unwrap();
    String::from_utf8(nice.stdout)
        .unwrap()
        .trim()
        .parse()
        .unwrap()
}

/// Root tried it without the capabilities, as in a container, and no command could be started.
#[test]
fn priority_and_out_of_memory_score_that_cannot_be_reset_are_inherited() {
    if !require_root("root without capabilities") {
        return;
    }
    let script = "echo 300 > /proc/self/oom_score_adj
        exec nice -n 5 setpriv --bounding-set=-sys_nice,-sys_resource \"$0\" \"$@\"";
    let launcher = Launcher::start_by(&["/bin/sh", "-c", script]);
    let text = "nice; cat /proc/self/oom_score_adj";
    let printed = printed(&launcher, &shell(text));
    let (nice, score) = printed.split_once('\n').unwrap();
    assert_eq!(nice, (own_nice() + 5).min(19).to_string());
    // Whether the score can be reset depends on the capabilities of those that have set it.
    assert!(["300\n", "0\n"].contains(&score), "{printed}");
}

#[test]
fn a_command_leads_a_session_without_a_terminal() {
    let launcher = Launcher::start();
    let shim = launcher.shim();
    let spec = exec(["cat", "/proc/self/stat"]);
    let pid = shim.start(&spec).to_string();
    shim.finish();
    let stat = Output::of(&launcher, spec.id).text();
    let fields: Vec<&str> = stat
        .rsplit(')')
        .next()
        .unwrap()
        .split_whitespace()
        .collect();
    // Parent, process group, session, terminal: proc_pid_stat(5).
    let parent = shim.pid().to_string();
    assert_eq!(fields[1..5], [&parent, &pid, &pid, "0"]);
    let open = shell("(: < /dev/tty) 2> /dev/null && echo terminal || echo none");
    assert_eq!(printed(&launcher, &open), "none\n");
}

#[test]
fn the_soft_limit_of_descriptors_is_what_select_can_handle() {
    let script = "ulimit -Sn 2000; ulimit -Hn 4096; exec \"$0\" \"$@\"";
    let launcher = Launcher::start_by(&["/bin/sh", "-c", script]);
    let spec = shell("ulimit -Sn; ulimit -Hn");
    assert_eq!(printed(&launcher, &spec), "1024\n4096\n");
}

#[test]
fn the_environment_is_exactly_the_requested_one() {
    let launcher = Launcher::start_by(&["env", "LAUNCHERS=canary", "NOTIFY_SOCKET=/canary"]);
    let environment = ["A=1", "EMPTY=", "B=x=y", "PATH=/usr/bin:/bin"];
    let spec = LaunchSpec {
        environment: environment.map(Blob::from).to_vec(),
        ..exec(["env"])
    };
    assert_eq!(printed(&launcher, &spec), environment.join("\n") + "\n");
}

#[test]
fn arguments_environment_and_paths_need_not_be_utf8() {
    let launcher = Launcher::start();
    let mut directory = Blob::from(launcher.path("").into_os_string()).into_vec();
    directory.extend_from_slice(b"dir\xff");
    let path = <std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(&directory);
    std::fs::create_dir(path).unwrap();
    let mut spec = LaunchSpec {
        working_dir: directory.clone().into(),
        ..shell("printf '%s %s ' \"$0\" \"$V\"; pwd")
    };
    spec.argv.push(b"arg\xfe"[..].into());
    spec.environment.push(b"V=value\xfd"[..].into());
    assert_eq!(launcher.shim().run(&spec).exit, Exit::Code(0));
    let expected = [&b"arg\xfe value\xfd "[..], &directory, b"\n"].concat();
    assert_eq!(Output::of(&launcher, spec.id).log, expected);
}

/// The kernel's audit log names the user who has submitted a command, whoever it runs as.
#[test]
fn the_login_user_of_a_command_is_its_submitter() {
    const SUBMITTER: u32 = 4711;
    let what = "the login user of a command";
    if !require_root(what) {
        return;
    }
    let attempt = format!("echo {SUBMITTER} > /proc/self/loginuid");
    let attempt = std::process::Command::new("/bin/sh")
        .args(["-c", &attempt])
        .stderr(std::process::Stdio::null())
        .status();
    if !attempt.unwrap().success() {
        report_skipped("needs auditing, and permission to set a login user", what);
        return;
    }
    let launcher = Launcher::start();
    let spec = LaunchSpec {
        submitter_uid: SUBMITTER,
        identity: crate::commands::identity(OTHER_USER, OTHER_USER, &[]),
        ..exec(["cat", "/proc/self/loginuid"])
    };
    assert_eq!(printed(&launcher, &spec), "4711");
    // A launcher that somebody has started keeps that in its own user's commands.
    let script = "echo 4712 > /proc/self/loginuid; exec \"$0\" \"$@\"";
    let launcher = Launcher::start_by(&["/bin/sh", "-c", script]);
    assert_eq!(printed(&launcher, &spec), "4711");
    let own = exec(["cat", "/proc/self/loginuid"]);
    assert_eq!(printed(&launcher, &own), "4712");
}
