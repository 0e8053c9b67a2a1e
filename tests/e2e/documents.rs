//! The sessions in the documentation, run as they stand there: see [`escher_tests::console`].

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use escher_client::ErrorCode;
use escher_tests::{DEADLINE, Daemon, RunningProgram, console, promtool, require_program};

/// Returns the path of a page.
fn page_path(page: &str) -> PathBuf {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    workspace.join(page)
}

fn read(page: &str) -> String {
    fs::read_to_string(page_path(page)).unwrap()
}

/// Runs the session of a page, and fails where a command prints something else.
fn check(page: &str) {
    let mut session = console::session(&read(page));
    for step in &mut session {
        let socket = "/run/escher/escherd.sock";
        step.command = step.command.replace(socket, "\"$ESCHER_SOCKET\"");
    }
    assert!(!session.is_empty(), "{page} has no session");
    // As the package's configuration has it.
    let daemon = Daemon::with_config("profile = \"host\"\n");
    let outputs = console::run(&session, &daemon);
    let mut differences = String::new();
    for (step, output) in session.iter().zip(&outputs) {
        if !console::matches(&step.output, output) {
            let (expected, printed) = (step.output.join("\n"), output.join("\n"));
            let (line, command) = (step.line, &step.command);
            let _ = write!(
                differences,
                "{page}:{line}: $ {command}\n--- documented\n{expected}\n--- printed\n{printed}\n"
            );
        }
    }
    assert!(differences.is_empty(), "{differences}");
}

#[test]
fn the_readme_does_what_it_says() {
    check("README.md");
}

#[test]
fn the_tutorial_does_what_it_says() {
    check("docs/tutorial.md");
}

#[test]
fn the_first_day_is_as_it_says() {
    check("docs/first-day.md");
}

#[test]
fn the_page_on_long_builds_does_what_it_says() {
    check("docs/howto/long-builds.md");
}

#[test]
fn the_page_on_scripting_does_what_it_says() {
    check("docs/howto/scripting.md");
}

#[test]
fn the_page_on_failures_does_what_it_says() {
    check("docs/howto/failures.md");
}

#[test]
fn the_page_on_limits_does_what_it_says() {
    check("docs/howto/limits.md");
}

#[test]
fn the_page_on_ci_runners_does_what_it_says() {
    check("docs/howto/ci-runner.md");
}

#[test]
fn the_page_on_several_users_does_what_it_says() {
    check("docs/howto/several-users.md");
}

#[test]
fn the_api_does_what_its_page_says() {
    let what = "the examples of docs/api.md";
    if require_program("curl", what) && require_program("jq", what) {
        check("docs/api.md");
    }
}

#[test]
fn the_reference_has_each_error() {
    let page = read("docs/reference.md");
    let (_, errors) = page.split_once("## Errors").unwrap();
    let documented: Vec<&str> = errors
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split('`').next())
        .collect();
    let existing: Vec<&str> = ErrorCode::TABLE.iter().map(|(_, name, _)| *name).collect();
    assert_eq!(documented, existing);
}

/// Returns what looks like a setting in the code spans of a page: a section of the configuration, and a key.
fn settings_in(page: &str) -> impl Iterator<Item = &str> {
    let is_part = |c: char| c.is_ascii_lowercase() || c == '_' || c == '.';
    let spans = page.split('`').skip(1).step_by(2);
    let starts = spans.map(move |span| span.split(|c| !is_part(c)).next().unwrap_or_default());
    starts.filter(|name| {
        let sections = ["daemon", "execution", "history", "store", "users"];
        let section = name.split_once('.').map(|(section, _)| section);
        section.is_some_and(|section| sections.contains(&section)) && !name.ends_with(".rs")
    })
}

#[test]
fn the_documentation_names_settings_that_exist() {
    let daemon = Daemon::start();
    let shown = daemon.ctl().json_lines(["config", "show"]);
    let known: BTreeSet<&str> = shown
        .iter()
        .map(|setting| setting["name"].as_str().unwrap())
        .collect();
    let mut checked = 0;
    for directory in ["docs", "docs/howto"] {
        for entry in fs::read_dir(page_path(directory)).unwrap() {
            let path = entry.unwrap().path();
            // The page of the settings has checks of its own.
            let is_other = path.extension().is_none_or(|extension| extension != "md");
            if is_other || path.ends_with("configuration.md") {
                continue;
            }
            for name in settings_in(&fs::read_to_string(&path).unwrap()) {
                assert!(known.contains(name), "{} names {name}", path.display());
                checked += 1;
            }
        }
    }
    assert!(checked > 30, "{checked} names were found");
}

#[test]
fn the_documentation_links_to_files_that_exist() {
    let mut checked = 0;
    for (directory, files) in [("", &["README.md", "CONTRIBUTING.md", "SECURITY.md"][..])] {
        for file in files {
            checked += check_links(&page_path(directory).join(file));
        }
    }
    for directory in ["docs", "docs/howto"] {
        for entry in fs::read_dir(page_path(directory)).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "md") {
                checked += check_links(&path);
            }
        }
    }
    assert!(checked > 50, "{checked} links were found");
}

/// Checks the relative links of a page, and returns how many there are.
fn check_links(path: &Path) -> usize {
    let page = fs::read_to_string(path).unwrap();
    let targets = page
        .split("](")
        .skip(1)
        .filter_map(|rest| rest.split(')').next());
    let files = targets
        .filter(|target| !target.contains("://"))
        .map(|target| target.split('#').next().unwrap_or_default())
        .filter(|file| !file.is_empty());
    let mut count = 0;
    for file in files {
        let exists = path.parent().unwrap().join(file).exists();
        assert!(exists, "{} links to {file}", path.display());
        count += 1;
    }
    count
}

#[test]
fn promtool_accepts_the_alerts() {
    let mut command = Command::new(promtool());
    command
        .args(["check", "rules"])
        .arg(page_path("docs/howto/prometheus-alerts.yml"));
    let _ = RunningProgram::spawn(command, DEADLINE).wait().expect(0);
}

/// The dashboard and the alerts are made of metrics that escherd has; a test of these compares them with their page.
#[test]
fn the_dashboard_and_the_alerts_show_metrics_that_exist() {
    let page = read("docs/metrics.md");
    for file in [
        "docs/howto/prometheus-alerts.yml",
        "docs/howto/grafana-dashboard.json",
    ] {
        let text = read(file);
        let is_part = |c: char| c.is_ascii_lowercase() || c == '_';
        let words = text.split(|c| !is_part(c));
        let names: BTreeSet<&str> = words.filter(|word| word.starts_with("escher_")).collect();
        assert!(names.len() > 5, "{file}: {names:?}");
        for name in names {
            let name = name.strip_suffix("_bucket").unwrap_or(name);
            assert!(page.contains(&format!("`{name}`")), "{file} has {name}");
        }
    }
}
