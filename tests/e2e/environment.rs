//! What a command gets from its caller: environment, umask, directory, and how its output is ordered.

use std::os::unix::fs::symlink;

use escher_tests::{Ctl, Daemon, require_root};

/// Runs `command` with these variables in the caller's environment beside those of the test.
fn run(ctl: &Ctl, variables: &[(&str, &str)], words: &[&str]) -> String {
    let mut command = ctl.command(std::iter::once("run").chain(words.iter().copied()));
    command.envs(variables.iter().copied());
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_command_has_the_environment_of_its_caller_without_what_is_the_callers_alone() {
    let daemon = Daemon::start();
    let variables = [
        ("GREETING", "hello"),
        ("PATH", "/usr/bin:/bin:/opt/own"),
        ("NOTIFY_SOCKET", "/run/nobody"),
        ("MAKEFLAGS", "-j --jobserver-auth=3,4"),
        ("LISTEN_FDS", "3"),
    ];
    let shown = run(&daemon.ctl(), &variables, &["env"]);
    let has = |variable: &str| shown.lines().any(|line| line == variable);
    assert!(
        has("GREETING=hello") && has("PATH=/usr/bin:/bin:/opt/own"),
        "{shown}"
    );
    let work = daemon.home().work();
    assert!(has(&format!("PWD={}", work.display())), "{shown}");
    for absent in [
        "NOTIFY_SOCKET=",
        "MAKEFLAGS=",
        "LISTEN_FDS=",
        "ESCHER_SOCKET=",
    ] {
        assert!(
            !shown.lines().any(|line| line.starts_with(absent)),
            "{shown}"
        );
    }
}

#[test]
fn options_override_the_callers_environment_and_files_come_first() {
    let daemon = Daemon::start();
    let file = daemon
        .home()
        .file("env", "# a file\nA=file\nB=file\nC\n", 0o644);
    let file = file.to_str().unwrap();
    let variables = [
        ("A", "caller"),
        ("B", "caller"),
        ("C", "caller"),
        ("D", "caller"),
    ];
    let script = "echo $A $B $C $D";
    let words = ["--env-file", file, "-e", "B=option", "--shell", script];
    assert_eq!(
        run(&daemon.ctl(), &variables, &words),
        "file option caller caller\n"
    );
    let clean = [
        "--clean-env",
        "-e",
        "B=option",
        "--shell",
        "echo \"$A\" $B $PATH",
    ];
    let path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    assert_eq!(
        run(&daemon.ctl(), &variables, &clean),
        format!(" option {path}\n")
    );
}

#[test]
fn a_command_has_the_umask_and_the_directory_of_its_caller() {
    let daemon = Daemon::start();
    let work = daemon.home().work();
    std::fs::create_dir(work.join("real")).unwrap();
    symlink("real", work.join("link")).unwrap();
    let link = work.join("link");
    let socket = daemon.home().socket();
    let show = |options: &str| {
        let script = format!(
            "umask 077; cd \"$1\"; \"$2\" --socket \"$3\" run {options} sh -c 'umask; pwd'"
        );
        let mut shell = std::process::Command::new("sh");
        shell.args(["-c", &script, "sh"]).arg(&link);
        let output = shell
            .arg(escher_tests::escherctl())
            .arg(&socket)
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(show(""), format!("0077\n{}\n", link.display()));
    assert!(show("--clean-env").starts_with("0022\n"));
}

/// Such a request was a key-conflict.
#[test]
fn a_key_does_not_stand_for_what_is_inherited() {
    let daemon = Daemon::start();
    let ctl = daemon.ctl();
    let submit = |variable: &str| {
        let mut command = ctl.command(["submit", "--key", "k", "true"]);
        let output = command.env("SOME", variable).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        output.stdout
    };
    assert_eq!(submit("one"), submit("two"));
    let other = ctl
        .run(["submit", "--key", "k", "-e", "SOME=three", "true"])
        .expect(1);
    assert!(other.err().contains("key"), "{}", other.err());
}

#[test]
fn an_inherited_environment_is_not_in_the_store() {
    let daemon = Daemon::start();
    let gate = daemon.home().fifo("gate");
    let script = format!("echo $SECRET; read -r line < {}", gate.name());
    let mut command = daemon.ctl().command(["submit", "sh", "-c", &script]);
    let output = command
        .env("SECRET", "only-in-memory-4711")
        .output()
        .unwrap();
    let id = String::from_utf8(output.stdout).unwrap();
    for entry in std::fs::read_dir(daemon.home().state()).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            let bytes = std::fs::read(&path).unwrap();
            let found = bytes.windows(19).any(|part| part == b"only-in-memory-4711");
            assert!(!found, "{}", path.display());
        }
    }
    gate.write_line("go");
    daemon.ctl().wait(id.trim(), 0);
    let shown = daemon.ctl().run(["logs", id.trim()]).expect(0);
    assert_eq!(shown.out(), "only-in-memory-4711\n");
}

#[test]
fn commands_of_another_user_have_a_fresh_environment() {
    if !require_root("a command of another user") {
        return;
    }
    let daemon = Daemon::start();
    let words = [
        "-u",
        "nobody",
        "-w",
        "/",
        "--shell",
        "echo \"$SECRET\" $USER; umask",
    ];
    let shown = run(&daemon.ctl(), &[("SECRET", "root's")], &words);
    assert_eq!(shown, " nobody\n0022\n");
}

#[test]
fn merged_output_has_the_order_of_writing() {
    let daemon = Daemon::start();
    let script = "echo 1; echo 2 >&2; echo 3; echo 4 >&2";
    let ended = daemon
        .ctl()
        .run(["run", "--merge", "sh", "-c", script])
        .expect(0);
    assert_eq!((ended.out(), ended.err()), ("1\n2\n3\n4\n", ""));
}
