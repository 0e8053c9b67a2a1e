//! What is said about arguments that make no sense.

use std::process::Stdio;

use tokio::process::Command;

use crate::support::escherctl::{stderr, stdout};

/// Runs escherctl where no escherd is.
async fn run(arguments: &[&str]) -> std::process::Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_escherctl"));
    command
        .args(["--socket", "/no/such/socket"])
        .args(arguments)
        .env_remove("ESCHER_RECONNECT")
        .stdin(Stdio::null());
    command.output().await.unwrap()
}

/// `run` and `attach` keep the statuses of commands apart from their own.
#[tokio::test]
async fn each_value_that_makes_no_sense_is_named_with_what_was_expected() {
    for (arguments, status, named, expected) in [
        (
            &["run", "-e", "=1", "x"][..],
            125,
            "'=1' for '--env <K[=V]>'",
            "the name before `=` is missing",
        ),
        (
            &["submit", "-e", "", "x"],
            2,
            "'' for '--env <K[=V]>'",
            "the name of the variable is missing",
        ),
        (
            &["submit", "-l", "x", "y"],
            2,
            "'x' for '--label <K=V>'",
            "expected KEY=VALUE",
        ),
        (
            &["submit", "-u", "#x", "y"],
            2,
            "'#x' for '--user <USER>'",
            "expected a login name, or a uid as #1000",
        ),
        (
            &["submit", "-p", "x", "y"],
            2,
            "'x' for '--property <NAME=VALUE>'",
            "expected NAME=VALUE, such as MemoryMax=",
        ),
        (
            &["submit", "--timeout", "soon", "x"],
            2,
            "'soon' for '--timeout <TIME>'",
            "expected seconds, or a number with a unit",
        ),
        (
            &["ps", "--filter", "x"],
            2,
            "'x' for '--filter <K=V>'",
            "expected KEY=VALUE or KEY!=VALUE, where KEY is status, exit, user, name, command or label.KEY",
        ),
        (
            &["ps", "--filter", "status=odd"],
            2,
            "'status=odd' for '--filter <K=V>'",
            "unknown status; expected one of pending, running, completed",
        ),
        (
            &["kill", "-s", "ODD", "1"],
            2,
            "'ODD' for '--signal <SIGNAL>'",
            "expected the name or number of a signal, such as TERM, SIGTERM or 15",
        ),
    ] {
        let ended = run(arguments).await;
        let shown = stderr(&ended);
        assert_eq!(ended.status.code(), Some(status), "{shown}");
        assert_eq!(stdout(&ended), "");
        let message = format!("invalid value {named}: {expected}");
        assert!(shown.contains(&message), "{message}: {shown}");
    }
}

#[tokio::test]
async fn a_faulty_line_of_a_file_of_variables_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("variables");
    std::fs::write(&file, "A=1\n# none\n=2\n").unwrap();
    let path = file.to_str().unwrap();
    let ended = run(&["submit", "--env-file", path, "x"]).await;
    let shown = stderr(&ended);
    assert_eq!(ended.status.code(), Some(2), "{shown}");
    let message = format!("{path}, line 3: the name before `=` is missing");
    assert!(shown.contains(&message), "{shown}");
    let hint = "each line of the file is NAME=VALUE or NAME";
    assert!(shown.contains(hint), "{shown}");

    let ended = run(&["submit", "--env-file", "/no/such/file", "x"]).await;
    assert_eq!(ended.status.code(), Some(1));
    let shown = stderr(&ended);
    let message = "cannot read /no/such/file: No such file or directory";
    assert!(shown.contains(message), "{shown}");
}

#[tokio::test]
async fn an_unknown_shell_is_named_with_the_known_ones() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_escherctl"));
    let ended = command.env("ESCHER_COMPLETE", "tcsh").output().await;
    let ended = ended.unwrap();
    assert_eq!((ended.status.code(), &*stdout(&ended)), (Some(2), ""));
    let expected = "escherctl: ESCHER_COMPLETE=tcsh: unknown shell; expected one of ";
    assert!(stderr(&ended).starts_with(expected), "{ended:?}");
}
