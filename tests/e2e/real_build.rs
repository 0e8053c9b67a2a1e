//! A real job: cargo builds a crate from the registry.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use escher_tests::{Daemon, FinishedProgram, LONG_DEADLINE, RunningProgram};

/// A dependency of this workspace, so that its source was downloaded already.
const CRATE: &str = "memchr";

/// Creates a project that depends on the crate, with `main` as its program.
fn create_project(folder: &Path, main: &str) -> PathBuf {
    let project = folder.join("project");
    fs::create_dir_all(project.join("src")).unwrap();
    let manifest = format!(
        "[package]\nname = \"project\"\nversion = \"0.1.0\"\nedition = \"2021\"\n\
         [dependencies]\n{CRATE} = \"={}\"\n[workspace]\n",
        version_of(CRATE)
    );
    fs::write(project.join("Cargo.toml"), manifest).unwrap();
    fs::write(project.join("src/main.rs"), main).unwrap();
    project
}

/// The version that this workspace is locked to.
fn version_of(name: &str) -> String {
    let lock = Path::new(env!("CARGO_MANIFEST_DIR")).join("../Cargo.lock");
    let lock = fs::read_to_string(lock).unwrap();
    let entry = format!("name = \"{name}\"\nversion = \"");
    let start = lock.find(&entry).expect("a dependency of the workspace") + entry.len();
    lock[start..].split('"').next().unwrap().to_owned()
}

/// The environment of a build: what cargo needs. Everything else that the developer has set (`CARGO_INCREMENTAL`)
/// stays away from both builds.
fn variables() -> Vec<(&'static str, OsString)> {
    [
        "PATH",
        "HOME",
        "CARGO_HOME",
        "RUSTUP_HOME",
        "RUSTUP_TOOLCHAIN",
    ]
    .into_iter()
    .filter_map(|name| Some((name, std::env::var_os(name)?)))
    .collect()
}

const BUILD: [&str; 6] = [
    "cargo",
    "build",
    "--offline",
    "--color=never",
    "--jobs=1",
    "--verbose",
];

fn build_directly(project: &Path) -> FinishedProgram {
    let mut command = Command::new(BUILD[0]);
    command
        .args(&BUILD[1..])
        .current_dir(project)
        .env_clear()
        .envs(variables());
    RunningProgram::spawn(command, LONG_DEADLINE).wait()
}

fn build_by_escher(daemon: &Daemon, project: &Path) -> FinishedProgram {
    let options = ["run", "--clean-env", "--timeout", "none", "-w"];
    let mut command = daemon.ctl().command(options);
    command.arg(project);
    for (name, value) in variables() {
        let mut pair = OsString::from(name);
        pair.push("=");
        pair.push(value);
        command.arg("-e").arg(pair);
    }
    command.args(BUILD);
    RunningProgram::spawn(command, LONG_DEADLINE).wait()
}

/// The output without times, and without messages about other builds of this user.
fn comparable(text: &str) -> String {
    let lines = text
        .lines()
        .filter(|line| !line.trim_start().starts_with("Blocking waiting"));
    let lines = lines.map(|line| match line.find(" target(s) in ") {
        Some(end) => &line[..end],
        None => line,
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// Removes what a build has made.
fn clean(project: &Path) {
    fs::remove_dir_all(project.join("target")).expect("it was built");
    fs::remove_file(project.join("Cargo.lock")).expect("it was resolved");
}

fn assert_same(by_escher: &FinishedProgram, direct: &FinishedProgram) {
    assert_eq!(by_escher.code, direct.code, "{by_escher:?}");
    assert_eq!(by_escher.out(), direct.out());
    assert_eq!(comparable(by_escher.err()), comparable(direct.err()));
}

#[test]
fn a_build_has_the_same_output_and_exit_status_as_without_escher() {
    let daemon = Daemon::with_config("[execution]\nmax_timeout_ms = 0\n");
    let main = "fn main() { println!(\"{:?}\", memchr::memchr(b'c', b\"escher\")); }\n";
    let project = create_project(&daemon.home().work(), main);
    let direct = build_directly(&project);
    clean(&project);
    let escher = build_by_escher(&daemon, &project);
    assert_eq!(direct.code, 0, "{direct:?}");
    assert_same(&escher, &direct);
    assert!(
        escher.err().contains(&format!("Compiling {CRATE} v")),
        "{escher:?}"
    );
    let built = project.join("target/debug/project");
    let ended = daemon.ctl().run(["run", built.to_str().unwrap()]).expect(0);
    assert_eq!(ended.out(), "Some(2)\n");
}

#[test]
fn a_failing_build_fails_as_without_escher() {
    let daemon = Daemon::with_config("[execution]\nmax_timeout_ms = 0\n");
    let project = create_project(
        &daemon.home().work(),
        "fn main() { memchr::no_such_function(1); }\n",
    );
    let direct = build_directly(&project);
    clean(&project);
    let escher = build_by_escher(&daemon, &project);
    assert_eq!(direct.code, 101, "{direct:?}");
    assert_same(&escher, &direct);
    assert!(escher.err().contains("error[E0425]"), "{escher:?}");
}
