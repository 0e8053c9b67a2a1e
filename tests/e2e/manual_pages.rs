//! The manual pages of a package.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::{CommandFactory, Parser};
use escher_tests::{pages, require_program, run_program};
use tempfile::TempDir;

/// The pages, in a directory of their own.
struct Manual(TempDir);

impl Manual {
    fn write() -> Self {
        let manual = Manual(TempDir::new().unwrap());
        let mut command = Command::new(pages());
        command.arg(manual.0.path()).env("SOURCE_DATE_EPOCH", "0");
        let _ = run_program(command).expect(0);
        manual
    }

    fn directory(&self) -> PathBuf {
        self.0.path().join("man")
    }

    /// The text of a page, with plain hyphens.
    fn page(&self, file: &str) -> String {
        let path = self.directory().join(file);
        let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{file}: {error}"));
        text.replace("\\-", "-")
    }

    fn files(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.directory()).unwrap();
        entries.map(|entry| entry.unwrap().path()).collect()
    }
}

/// Checks the pages of `command` and of every verb below it. Returns their number.
fn check(manual: &Manual, command: &clap::Command, section: u8) -> usize {
    let name = command.get_display_name().unwrap_or(command.get_name());
    let page = manual.page(&format!("{name}.{section}"));
    for argument in command.get_arguments() {
        let long = argument.get_long().map(|long| format!("--{long}"));
        let short = argument.get_short().map(|short| format!("-{short}"));
        for option in long.iter().chain(&short) {
            assert!(
                page.contains(&format!("\\fB{option}\\fR")),
                "{option} in {name}"
            );
        }
        // clap's own help refers to the long help, which a page has already.
        if argument.get_long() != Some("help")
            && let Some(help) = argument.get_help()
        {
            let help = help.to_string().replace('\'', "\\*(Aq");
            let first = help.split(['\n', '-']).next().unwrap();
            assert!(page.contains(first), "{first} in {name}:\n{page}");
        }
    }
    let verbs = command
        .get_subcommands()
        .filter(|verb| verb.get_name() != "help");
    verbs
        .map(|verb| {
            let reference = format!("{name}-{}({section})", verb.get_name());
            assert!(page.contains(&reference), "{reference} in {name}");
            check(manual, verb, section)
        })
        .sum::<usize>()
        + 1
}

#[test]
fn every_verb_has_a_page_and_every_option_is_in_it() {
    let manual = Manual::write();
    let mut escherctl = escherctl::command();
    escherctl.build();
    let mut escherd = escherd::cli::Arguments::command();
    escherd.build();
    let checked = check(&manual, &escherctl, 1) + check(&manual, &escherd, 8);
    let others = ["escher-launcher.8", "escher.toml.5"];
    assert_eq!(manual.files().len(), checked + others.len());
    for option in ["--log-dir DIR", "--help"] {
        assert!(manual.page(others[0]).contains(option), "{option}");
    }
}

#[test]
fn every_setting_is_in_the_page_of_the_configuration_file() {
    let page = Manual::write().page("escher.toml.5");
    let arguments = escherd::cli::Arguments::parse_from(["escherd", "--config", "/dev/null"]);
    let configuration = escherd::config::load(&arguments.load_options()).unwrap();
    for setting in configuration.effective {
        assert!(
            page.contains(&format!(".TP\n\\fB{}\\fR\n", setting.name)),
            "{}",
            setting.name
        );
    }
    for word in [
        "max_timeout_ms = 3_600_000",
        "memory-constrained",
        ".SH PROFILES",
    ] {
        assert!(page.contains(word), "{word}");
    }
}

#[test]
fn pages_begin_with_their_name_section_and_date() {
    let page = Manual::write().page("escherctl-run.1");
    let version = env!("CARGO_PKG_VERSION");
    let title = format!(".TH ESCHERCTL-RUN 1 1970-01-01 \"escher {version}\" escher\n");
    assert!(page.contains(&title), "{page}");
    assert!(page.contains(".SH EXAMPLES\n"), "{page}");
}

#[test]
fn every_page_of_a_program_ends_with_statuses_environment_files_and_other_pages() {
    let manual = Manual::write();
    for file in manual.files() {
        let name = file.file_name().unwrap().to_str().unwrap().to_owned();
        let page = manual.page(&name);
        let sections: Vec<&str> = page
            .lines()
            .filter_map(|line| line.strip_prefix(".SH "))
            .collect();
        let last = ["\"EXIT STATUS\"", "ENVIRONMENT", "FILES", "\"SEE ALSO\""];
        let is_of_program = name != "escher.toml.5";
        assert_eq!(
            sections.ends_with(&last),
            is_of_program,
            "{name}: {sections:?}"
        );
    }
    let wait = manual.page("escherctl-wait.1");
    let (description, rest) = wait.split_once(".SH \"EXIT STATUS\"\n").unwrap();
    assert!(!description.contains("Exit status"), "{description}");
    assert!(rest.starts_with("With one ID"), "{rest}");
}

#[test]
fn manual_pages_are_well_formed() {
    let manual = Manual::write();
    let man = |file: &Path| {
        let mut man = Command::new("man");
        man.args(["--local-file", "--warnings", "-Tutf8"]).arg(file);
        man.env("LC_ALL", "C.UTF-8").env("MANWIDTH", "80");
        man
    };
    let mandoc = |file: &Path| {
        let mut mandoc = Command::new("mandoc");
        mandoc.args(["-Tlint", "-Wwarning"]).arg(file);
        mandoc
    };
    let what = "manual pages are well formed";
    for file in manual.files() {
        if require_program("man", what) {
            let shown = run_program(man(&file)).expect(0);
            assert_eq!(shown.err(), "", "{}", file.display());
        }
        if require_program("mandoc", what) {
            assert_eq!(run_program(mandoc(&file)).expect(0).out(), "");
        }
    }
}
