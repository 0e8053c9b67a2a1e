//! The examples of docs/api.md, run as they are written.

use std::process::Command;

use escher_tests::{Daemon, require_program};

const PAGE: &str = include_str!("../../../docs/api.md");

/// Runs each example, a line of which is what its command prints, or begins with that and `…`.
#[test]
fn the_examples_of_the_page_do_what_it_says() {
    if !require_program("curl", "the examples of docs/api.md") || !require_program("jq", "them") {
        return;
    }
    let daemon = Daemon::start();
    let mut examples = PAGE.split("```console\n").skip(1);
    let first = examples.next().expect("examples");
    for example in std::iter::once(first).chain(examples) {
        let example = example.split("```").next().unwrap_or_default();
        for step in example.split("$ ").skip(1) {
            let (command, expected) = step.split_once('\n').unwrap_or((step, ""));
            let command = command.replace("/run/escher/escherd.sock", "\"$ESCHER_SOCKET\"");
            let output = Command::new("sh")
                .args(["-c", &command])
                .env("ESCHER_SOCKET", daemon.home().socket())
                .current_dir(daemon.home().work())
                .output()
                .unwrap();
            let shown = String::from_utf8_lossy(&output.stdout);
            assert!(output.status.success(), "{command}: {output:?}");
            let mut lines = shown.lines();
            for line in expected.lines() {
                let printed = lines.next().unwrap_or_default();
                match line.strip_suffix('…') {
                    Some(start) => assert!(printed.starts_with(start), "{command}: {shown}"),
                    None => assert_eq!(printed, line, "{command}: {shown}"),
                }
            }
            assert_eq!(lines.next(), None, "{command}: {shown}");
        }
    }
}
