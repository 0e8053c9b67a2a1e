//! Tests that cannot run on every host, and the list of what was not tested.

use std::fs::OpenOptions;
use std::io::Write;

/// The environment variable that names a file to which every skipped test appends a line.
pub const SKIPPED_FILE: &str = "ESCHER_TEST_SKIPPED";

/// Whether this test may switch users. Reports that `what` was not tested where it may not.
#[must_use]
pub fn require_root(what: &str) -> bool {
    let is_root = nix::unistd::geteuid().is_root();
    if !is_root {
        report_skipped("needs root", what);
    }
    is_root
}

/// Whether the host has this program. Reports that `what` was not tested where it has not.
#[must_use]
pub fn require_program(program: &str, what: &str) -> bool {
    let is_installed = has_program(program);
    if !is_installed {
        report_skipped(&format!("needs {program}"), what);
    }
    is_installed
}

/// Whether a directory of PATH has this program.
#[must_use]
pub fn has_program(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|directory| directory.join(program).exists())
}

/// Reports that `what` was not tested, and why, on standard error and in the file that
/// [`SKIPPED_FILE`] names.
///
/// # Panics
/// When the file cannot be written.
pub fn report_skipped(why: &str, what: &str) {
    // Not by a macro, whose output the test harness would keep to itself.
    let _ = writeln!(std::io::stderr(), "\n*** SKIPPED, {why}: {what} ***\n");
    if let Some(path) = std::env::var_os(SKIPPED_FILE) {
        let file = OpenOptions::new().append(true).create(true).open(&path);
        // In one piece: other tests append to it at the same time.
        let line = format!("{what}: {why}\n");
        let written = file.and_then(|mut file| file.write_all(line.as_bytes()));
        written.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }
}
