//! Where the programs under test are: in the target directory that this test was built into.

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

/// Runs escherd and reaps all that it leaves behind: see `tests/src/bin/reaper.rs`.
#[must_use]
pub fn reaper() -> PathBuf {
    find("reaper")
}

/// Plays commands that behave oddly: see `tests/src/bin/child-program.rs`.
#[must_use]
pub fn child_program() -> PathBuf {
    find("child-program")
}

/// Attacks an escherd: see [`attack`](crate::attack).
#[must_use]
pub fn attack_program() -> PathBuf {
    find("attack")
}

/// Writes the manual pages and the completions of a package.
#[must_use]
pub fn pages() -> PathBuf {
    find("escher-pages")
}

/// Runs a test's commands inside a virtual machine: see [`host`](crate::host).
#[must_use]
pub(crate) fn host_agent() -> PathBuf {
    find("host-agent")
}

/// promtool, which checks metrics: where `./check` has unpacked it, else the one that is installed.
#[must_use]
pub fn promtool() -> PathBuf {
    let unpacked = tools_directory().join("usr/bin/promtool");
    if unpacked.exists() {
        unpacked
    } else {
        "promtool".into()
    }
}

fn find(name: &str) -> PathBuf {
    let directory = target_directory();
    let program = directory.join(name);
    assert!(
        program.exists(),
        "{} is not built: run `cargo build --workspace{}` first",
        program.display(),
        match directory.file_name() {
            Some(profile) if profile == "release" => " --release",
            _ => "",
        }
    );
    program
}

/// `target/tools`, where `./check` puts programs that it needs.
pub(crate) fn tools_directory() -> PathBuf {
    target_directory().with_file_name("tools")
}

/// `target/<profile>`. Tests and benchmarks are in its `deps`.
pub(crate) fn target_directory() -> PathBuf {
    let this = std::env::current_exe().expect("a test knows its own path");
    let directory = this.parent().expect("a file is in a directory");
    match directory.file_name() {
        Some(name) if name == "deps" => directory.parent().map(Path::to_owned),
        _ => None,
    }
    .unwrap_or_else(|| directory.to_owned())
}
