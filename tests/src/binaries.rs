//! Where the programs under test are: in the target folder that this test was built into.

use std::path::{Path, PathBuf};

/// escherd.
#[must_use]
pub fn escherd() -> PathBuf {
    find("escherd")
}

/// escherctl.
#[must_use]
pub fn escherctl() -> PathBuf {
    find("escherctl")
}

/// escher-launcher.
#[must_use]
pub fn launcher() -> PathBuf {
    find("escher-launcher")
}

/// Runs escherd and reaps all that it leaves behind.
#[must_use]
pub fn reaper() -> PathBuf {
    find("reaper")
}

/// Plays commands that behave oddly; `tests/src/bin/child-program.rs` has the parts.
#[must_use]
pub fn child_program() -> PathBuf {
    find("child-program")
}

/// Writes the manual pages and the completions of a package.
#[must_use]
pub fn pages() -> PathBuf {
    find("escher-pages")
}

/// Carries out a test's orders inside a machine: see [`host`](crate::host).
#[must_use]
pub(crate) fn host_agent() -> PathBuf {
    find("host-agent")
}

/// promtool, which judges metrics: where `./check` has unpacked it, else the one that is installed.
#[must_use]
pub fn promtool() -> PathBuf {
    let unpacked = target_folder().with_file_name("tools");
    let unpacked = unpacked.join("usr/bin/promtool");
    if unpacked.exists() {
        unpacked
    } else {
        "promtool".into()
    }
}

fn find(name: &str) -> PathBuf {
    let folder = target_folder();
    let program = folder.join(name);
    assert!(
        program.exists(),
        "{} is not built: run `cargo build --workspace{}` first",
        program.display(),
        match folder.file_name() {
            Some(profile) if profile == "release" => " --release",
            _ => "",
        }
    );
    program
}

/// `target/<profile>`: tests and benchmarks are in its `deps`.
pub(crate) fn target_folder() -> PathBuf {
    let this = std::env::current_exe().expect("a test knows its own path");
    let folder = this.parent().expect("a file is in a folder");
    match folder.file_name() {
        Some(name) if name == "deps" => folder.parent().map(Path::to_owned),
        _ => None,
    }
    .unwrap_or_else(|| folder.to_owned())
}
