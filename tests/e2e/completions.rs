//! Completion in real shells, with the scripts that they load and an escherd that has executions to offer.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use escher_tests::{
    Ctl, DEADLINE, Daemon, Fifo, RunningProgram, escherctl, pages, require_program, run_program,
};

/// A name that would do harm if a shell evaluated it.
const HOSTILE_NAME: &str = "odd;touch $(id)";

/// An escherd with one running execution, number 1, and a finished one, number 2.
struct Fixture {
    daemon: Daemon,
    gate: Fifo,
    finished: String,
}

impl Fixture {
    fn start() -> Self {
        let daemon = Daemon::start();
        let gate = daemon.home().fifo("gate");
        let script = format!("read line < {}", gate.name());
        let ctl = daemon.ctl();
        let _ = ctl.submit(["--name", "nightly", "--shell", &script]);
        let finished = ctl.submit(["--name", HOSTILE_NAME, "true"]).to_string();
        ctl.wait(&finished, 0);
        Fixture {
            daemon,
            gate,
            finished,
        }
    }

    fn ctl(&self) -> Ctl {
        self.daemon.ctl()
    }

    /// `shell`, with escherctl and escherd in its PATH.
    fn shell(&self, shell: &str) -> Command {
        let mut command = Command::new(shell);
        let programs = escherctl().parent().unwrap().to_owned();
        let path = std::env::var_os("PATH").unwrap();
        let path = std::iter::once(programs).chain(std::env::split_paths(&path));
        command
            .env("PATH", std::env::join_paths(path).unwrap())
            .env("ESCHER_SOCKET", self.daemon.home().socket())
            .env("HOME", self.daemon.home().work())
            .env("TERM", "dumb")
            .current_dir(self.daemon.home().work());
        command
    }

    /// The completion scripts of a package.
    fn package_scripts(&self) -> PathBuf {
        let mut command = Command::new(pages());
        command.arg(self.daemon.home().work());
        let _ = run_program(command).expect(0);
        self.daemon.home().work().join("completions")
    }

    /// Types each line and a tabulator at a shell's terminal. Returns the words of the completed lines, each in
    /// angle brackets.
    fn complete(&self, shell: &str, prepare: &str, lines: &[&str]) -> Vec<String> {
        let out = self.daemon.home().work().join("out");
        let mut keys = format!("{prepare}\n");
        for line in lines {
            // Ctrl-A and Ctrl-E turn the line into arguments of printf(1), so that it is not run.
            keys += &format!("{line}\t\u{1}printf '<%s>' \u{5} >> out; echo >> out\n");
        }
        keys += "exit\n";
        let keys = self.daemon.home().file("keys", keys, 0o600);
        let mut terminal = self.shell("script");
        terminal
            .args(["--quiet", "--return", "--command", shell, "/dev/null"])
            .stdin(fs::File::open(keys).unwrap());
        let shown = RunningProgram::spawn(terminal, DEADLINE).wait();
        let printed = fs::read_to_string(&out).unwrap_or_else(|error| panic!("{error}: {shown:?}"));
        assert!(shown.err().is_empty(), "{shown:?}");
        fs::remove_file(out).unwrap();
        printed.lines().map(str::to_owned).collect()
    }

    fn finish(self) {
        self.gate.write_line("go");
        self.ctl().wait("nightly", 0);
    }
}

/// Checks what a shell completes.
fn check(fixture: &Fixture, shell: &str, prepare: &str) {
    let half_id = format!("escherctl inspect {}", &fixture.finished[..32]);
    let table: [(&str, &[&str]); 14] = [
        ("escherctl wait nig", &["escherctl", "wait", "nightly"]),
        (&half_id, &["escherctl", "inspect", &fixture.finished]),
        (
            "escherctl inspect od",
            &["escherctl", "inspect", HOSTILE_NAME],
        ),
        ("escherctl canc", &["escherctl", "cancel"]),
        ("escherctl config sh", &["escherctl", "config", "show"]),
        ("escherctl run --time", &["escherctl", "run", "--timeout"]),
        ("escherctl --syst", &["escherctl", "--system"]),
        ("escherctl ps --us", &["escherctl", "ps", "--user"]),
        (
            "escherctl kill -s TER",
            &["escherctl", "kill", "-s", "TERM"],
        ),
        (
            "escherctl ps --filter stat",
            &["escherctl", "ps", "--filter", "status="],
        ),
        (
            "escherctl ps --filter status=compl",
            &["escherctl", "ps", "--filter", "status=completed"],
        ),
        (
            "escherctl run -e A=1 cat ke",
            &["escherctl", "run", "-e", "A=1", "cat", "keys"],
        ),
        ("escherctl run -u roo", &["escherctl", "run", "-u", "root"]),
        (
            "escherd --profile high",
            &["escherd", "--profile", "high-volume"],
        ),
    ];
    let lines = table.map(|row| row.0);
    let expected = table.map(|row| {
        let words: Vec<String> = row.1.iter().map(|word| format!("<{word}>")).collect();
        words.concat()
    });
    assert_completes(|| fixture.complete(shell, prepare, &lines), expected);
}

/// Checks what is completed, and presses the key again if it is something else: a completion gives up on an
/// escherd that does not answer at once, as on a busy machine.
#[track_caller]
fn assert_completes<T, E>(complete: impl Fn() -> T, expected: E)
where
    T: PartialEq<E> + std::fmt::Debug,
    E: std::fmt::Debug,
{
    let end = Instant::now() + DEADLINE;
    loop {
        let completed = complete();
        if completed == expected {
            return;
        }
        if Instant::now() > end {
            assert_eq!(completed, expected);
        }
    }
}

fn quoted(path: &Path) -> String {
    format!("'{}'", path.display())
}

#[test]
fn bash_completes_ids_names_verbs_and_options() {
    if !require_program("script", "completion in bash") {
        return;
    }
    let fixture = Fixture::start();
    let escherd = fixture.package_scripts().join("bash/escherd");
    let prepare = format!(
        "source <(ESCHER_COMPLETE=bash escherctl); source {}",
        quoted(&escherd)
    );
    check(&fixture, "bash --norc --noprofile -i", &prepare);
    fixture.finish();
}

#[test]
fn zsh_completes_ids_names_verbs_and_options() {
    if !["zsh", "script"]
        .iter()
        .all(|program| require_program(program, "completion in zsh"))
    {
        return;
    }
    let fixture = Fixture::start();
    let directory = fixture.package_scripts().join("zsh");
    let prepare = format!(
        "fpath=({} $fpath); autoload -U compinit; compinit -D -u",
        quoted(&directory)
    );
    check(&fixture, "zsh -f -i", &prepare);
    let sourced = "autoload -U compinit; compinit -D -u; source <(ESCHER_COMPLETE=zsh escherctl)";
    assert_completes(
        || fixture.complete("zsh -f -i", sourced, &["escherctl wait nig"]),
        ["<escherctl><wait><nightly>"],
    );
    fixture.finish();
}

#[test]
fn fish_completes_ids_names_verbs_and_options() {
    if !require_program("fish", "completion in fish") {
        return;
    }
    let fixture = Fixture::start();
    let escherd = fixture.package_scripts().join("fish/escherd.fish");
    let complete = |line: &str| {
        let mut fish = fixture.shell("fish");
        let script = format!(
            "ESCHER_COMPLETE=fish escherctl | source; source {}; complete -C '{line}'",
            quoted(&escherd)
        );
        fish.args(["--no-config", "-c", &script]);
        run_program(fish).expect(0).out().to_owned()
    };
    let running = format!(
        "nightly\trunning  /bin/sh -c 'read line < {}'\n",
        fixture.gate.name()
    );
    assert_completes(|| complete("escherctl wait nig"), running);
    let half_id = format!("escherctl inspect {}", &fixture.finished[..32]);
    assert_completes(
        || complete(&half_id),
        format!("{}\tcompleted  true\n", fixture.finished),
    );
    assert_completes(
        || complete("escherctl inspect od"),
        format!("{HOSTILE_NAME}\tcompleted  true\n"),
    );
    // What fish itself knows of a program.
    let of_program = complete("kill --li");
    assert_eq!(complete("escherctl run -e A=1 -- kill --li"), of_program);
    assert!(complete("escherctl canc").starts_with("cancel\tCancel executions"));
    assert!(complete("escherctl run --time").starts_with("--timeout\t"));
    assert_completes(
        || complete("escherctl ps --filter status=compl"),
        "status=completed\n",
    );
    assert!(complete("escherd --profile high").starts_with("high-volume"));
    fixture.finish();
}

#[test]
fn verbs_offer_executions_that_they_apply_to() {
    let fixture = Fixture::start();
    let offered = |words: &[&str]| {
        let mut command = fixture
            .ctl()
            .command(["--", "escherctl"].iter().chain(words));
        command.env("ESCHER_COMPLETE", "bash");
        let offered = run_program(command).expect(0);
        assert_eq!(offered.err(), "");
        offered.out().lines().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_completes(|| offered(&["cancel", ""]), ["1", "nightly"]);
    assert_completes(|| offered(&["rm", ""]), ["2", r"odd\;touch\ \$\(id\)"]);
    assert_completes(|| offered(&["logs", ""]).len(), 4);
    assert_completes(|| offered(&["run", "--js"]), ["--json"]);
    // The line names another socket, where no escherd listens.
    assert_completes(|| offered(&["--socket", "/nowhere", "wait", "n"]), [""; 0]);
    fixture.finish();
}

/// A shell completes it as if it stood alone: the answer is where it begins.
#[test]
fn the_words_of_a_command_are_not_for_escherctl_to_complete() {
    for (words, offset) in [
        (&["run", "cat", "ga"][..], "2\n"),
        (&["run", "-e", "A", "=", "1", "--", "make", "--js"], "7\n"),
        (&["submit", "make", ""], "2\n"),
    ] {
        let mut command = Command::new(escherctl());
        command.args(["--", "escherctl"]).args(words);
        command.env("ESCHER_COMPLETE", "bash");
        let answer = run_program(command).expect(3);
        assert_eq!(answer.out(), offset, "{words:?}");
    }
}

#[test]
fn verbs_offer_what_runs_and_then_the_last_twenty() {
    let fixture = Fixture::start();
    let ctl = fixture.ctl();
    for _ in 0..21 {
        ctl.wait(ctl.submit(["true"]), 0);
    }
    let offered = || {
        let mut command = ctl.command(["--", "escherctl", "logs", ""]);
        command.env("ESCHER_COMPLETE", "bash");
        let offered = run_program(command).expect(0);
        offered.out().lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let newest = (4..=23).rev().map(|number| number.to_string());
    let expected = ["1".to_owned(), "nightly".to_owned()].into_iter();
    let expected: Vec<String> = expected.chain(newest).collect();
    assert_completes(offered, expected);
    fixture.finish();
}

#[test]
fn an_unknown_shell_is_answered_with_the_known_ones() {
    let mut command = Command::new(escherctl());
    command.env("ESCHER_COMPLETE", "csh");
    let ended = run_program(command).expect(2);
    assert!(ended.err().contains("bash, zsh, fish"), "{ended:?}");
    assert_eq!(ended.out(), "");
}
