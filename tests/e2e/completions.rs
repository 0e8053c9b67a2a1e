//! What shells complete, with the scripts that they read and an escherd that has something to offer.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use escher_tests::{
    Ctl, DEADLINE, Daemon, Fifo, RunningProgram, escherctl, pages, require_program, run_program,
};

/// A name that would do harm if a shell took it for more than a word.
const ODD_NAME: &str = "odd;touch $(id)";

/// An escherd with one execution that runs, number 1, and one that has ended, number 2.
struct Stage {
    daemon: Daemon,
    gate: Fifo,
    ended: String,
}

impl Stage {
    fn set() -> Self {
        let daemon = Daemon::start();
        let gate = daemon.home().fifo("gate");
        let script = format!("read line < {}", gate.name());
        let ctl = daemon.ctl();
        let _ = ctl.submit(["--name", "nightly", "--shell", &script]);
        let ended = ctl.submit(["--name", ODD_NAME, "true"]).to_string();
        let _ = ctl.run(["wait", &ended]).expect(0);
        Stage {
            daemon,
            gate,
            ended,
        }
    }

    fn ctl(&self) -> Ctl {
        self.daemon.ctl()
    }

    /// `shell`, for which escherctl and escherd are programs like any other.
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

    /// The scripts of a package.
    fn package(&self) -> PathBuf {
        let mut command = Command::new(pages());
        command.arg(self.daemon.home().work());
        let _ = run_program(command).expect(0);
        self.daemon.home().work().join("completions")
    }

    /// Types each line and a tabulator at a shell's terminal; what has become of the lines, word by word.
    fn typed(&self, shell: &str, prepare: &str, lines: &[&str]) -> Vec<String> {
        let out = self.daemon.home().work().join("out");
        let mut keys = format!("{prepare}\n");
        for line in lines {
            // Ctrl-A and Ctrl-E: what has been completed is an argument of printf(1), and not run.
            keys += &format!("{line}\t\u{1}printf '<%s>' \u{5} >> out; echo >> out\n");
        }
        keys += "exit\n";
        let keys = self.daemon.home().file("keys", keys, 0o600);
        let mut terminal = self.shell("script");
        terminal
            .args(["--quiet", "--return", "--command", shell, "/dev/null"])
            .stdin(fs::File::open(keys).unwrap());
        let shown = RunningProgram::spawn(terminal, DEADLINE).wait();
        let out = fs::read_to_string(out).unwrap_or_else(|error| panic!("{error}: {shown:?}"));
        assert!(shown.err().is_empty(), "{shown:?}");
        out.lines().map(str::to_owned).collect()
    }

    fn finish(self) {
        self.gate.write_line("go");
        let _ = self.ctl().run(["wait", "nightly"]).expect(0);
    }
}

/// What every shell makes of the same keys.
fn check(stage: &Stage, shell: &str, prepare: &str) {
    let begun = format!("escherctl inspect {}", &stage.ended[..32]);
    let table: [(&str, &[&str]); 11] = [
        ("escherctl wait nig", &["escherctl", "wait", "nightly"]),
        (&begun, &["escherctl", "inspect", &stage.ended]),
        ("escherctl inspect od", &["escherctl", "inspect", ODD_NAME]),
        ("escherctl canc", &["escherctl", "cancel"]),
        ("escherctl config sh", &["escherctl", "config", "show"]),
        ("escherctl run --time", &["escherctl", "run", "--timeout"]),
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
    assert_eq!(stage.typed(shell, prepare, &lines), expected);
}

fn quoted(path: &Path) -> String {
    format!("'{}'", path.display())
}

#[test]
fn bash_completes_ids_names_verbs_and_options() {
    if !require_program("script", "completion in bash") {
        return;
    }
    let stage = Stage::set();
    let escherd = stage.package().join("bash/escherd");
    let prepare = format!(
        "source <(ESCHER_COMPLETE=bash escherctl); source {}",
        quoted(&escherd)
    );
    check(&stage, "bash --norc --noprofile -i", &prepare);
    stage.finish();
}

#[test]
fn zsh_completes_ids_names_verbs_and_options() {
    if !["zsh", "script"]
        .iter()
        .all(|program| require_program(program, "completion in zsh"))
    {
        return;
    }
    let stage = Stage::set();
    let directory = stage.package().join("zsh");
    let prepare = format!(
        "fpath=({} $fpath); autoload -U compinit; compinit -D -u",
        quoted(&directory)
    );
    check(&stage, "zsh -f -i", &prepare);
    let sourced = "autoload -U compinit; compinit -D -u; source <(ESCHER_COMPLETE=zsh escherctl)";
    fs::remove_file(stage.daemon.home().work().join("out")).unwrap();
    let lines = stage.typed("zsh -f -i", sourced, &["escherctl wait nig"]);
    assert_eq!(lines, ["<escherctl><wait><nightly>"]);
    stage.finish();
}

#[test]
fn fish_completes_ids_names_verbs_and_options() {
    if !require_program("fish", "completion in fish") {
        return;
    }
    let stage = Stage::set();
    let escherd = stage.package().join("fish/escherd.fish");
    let complete = |line: &str| {
        let mut fish = stage.shell("fish");
        let script = format!(
            "ESCHER_COMPLETE=fish escherctl | source; source {}; complete -C '{line}'",
            quoted(&escherd)
        );
        fish.args(["--no-config", "-c", &script]);
        run_program(fish).expect(0).out().to_owned()
    };
    let running = format!(
        "nightly\trunning  /bin/sh -c 'read line < {}'\n",
        stage.gate.name()
    );
    assert_eq!(complete("escherctl wait nig"), running);
    let begun = format!("escherctl inspect {}", &stage.ended[..32]);
    assert_eq!(
        complete(&begun),
        format!("{}\tcompleted  true\n", stage.ended)
    );
    assert_eq!(
        complete("escherctl inspect od"),
        format!("{ODD_NAME}\tcompleted  true\n")
    );
    assert!(complete("escherctl canc").starts_with("cancel\tEnd an execution"));
    assert!(complete("escherctl run --time").starts_with("--timeout\t"));
    assert_eq!(
        complete("escherctl ps --filter status=compl"),
        "status=completed\n"
    );
    assert!(complete("escherd --profile high").starts_with("high-volume"));
    stage.finish();
}

#[test]
fn verbs_offer_what_they_are_for() {
    let stage = Stage::set();
    let offered = |words: &[&str]| {
        let mut command = stage.ctl().command(["--", "escherctl"].iter().chain(words));
        command.env("ESCHER_COMPLETE", "bash");
        let offered = run_program(command).expect(0);
        assert_eq!(offered.err(), "");
        offered.out().lines().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(offered(&["cancel", ""]), ["1", "nightly"]);
    assert_eq!(offered(&["rm", ""]), ["2", r"odd\;touch\ \$\(id\)"]);
    assert_eq!(offered(&["logs", ""]).len(), 4, "both");
    assert_eq!(
        offered(&["run", "cat", "ga"]),
        ["gate"],
        "the command's own"
    );
    assert_eq!(
        offered(&["run", "make", "--js"]),
        [""; 0],
        "the command's own"
    );
    assert_eq!(offered(&["run", "--js"]), ["--json"]);
    // The line says where escherd is; there it is not.
    assert_eq!(offered(&["--socket", "/nowhere", "wait", "n"]), [""; 0]);
    stage.finish();
}

#[test]
fn a_shell_that_is_not_known_is_told_which_are() {
    let mut command = Command::new(escherctl());
    command.env("ESCHER_COMPLETE", "csh");
    let ended = run_program(command).expect(2);
    assert!(ended.err().contains("bash, zsh, fish"), "{ended:?}");
    assert_eq!(ended.out(), "");
}
