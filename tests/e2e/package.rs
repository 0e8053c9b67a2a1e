//! The Debian package, before it is installed.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use escher_tests::{Package, escherd, require_program, run_program};

/// Its files except documents, with their modes.
const FILES: &[(&str, &str)] = &[
    ("/etc/escher/escher.toml", "-rw-r--r--"),
    ("/etc/needrestart/conf.d/escher.conf", "-rw-r--r--"),
    ("/lib/systemd/system-preset/90-escher.preset", "-rw-r--r--"),
    ("/lib/systemd/system/escher-launcher.service", "-rw-r--r--"),
    ("/lib/systemd/system/escherd-metrics.socket", "-rw-r--r--"),
    ("/lib/systemd/system/escherd.service", "-rw-r--r--"),
    ("/lib/systemd/system/escherd.socket", "-rw-r--r--"),
    ("/usr/bin/escherctl", "-rwxr-xr-x"),
    ("/usr/bin/escherd", "-rwxr-xr-x"),
    ("/usr/lib/escher/escher-launcher", "-rwxr-xr-x"),
    ("/usr/lib/systemd/catalog/escher.catalog", "-rw-r--r--"),
    ("/usr/lib/systemd/user/escherd.service", "-rw-r--r--"),
    ("/usr/lib/systemd/user/escherd.socket", "-rw-r--r--"),
    ("/usr/lib/sysusers.d/escher.conf", "-rw-r--r--"),
    ("/usr/lib/tmpfiles.d/escher.conf", "-rw-r--r--"),
    (
        "/usr/share/bash-completion/completions/escherctl",
        "-rw-r--r--",
    ),
    (
        "/usr/share/bash-completion/completions/escherd",
        "-rw-r--r--",
    ),
    (
        "/usr/share/fish/vendor_completions.d/escherctl.fish",
        "-rw-r--r--",
    ),
    (
        "/usr/share/fish/vendor_completions.d/escherd.fish",
        "-rw-r--r--",
    ),
    ("/usr/share/lintian/overrides/escher", "-rw-r--r--"),
    ("/usr/share/zsh/vendor-completions/_escherctl", "-rw-r--r--"),
    ("/usr/share/zsh/vendor-completions/_escherd", "-rw-r--r--"),
];

/// The directories of documents.
const DOCUMENTS: [&str; 2] = ["/usr/share/doc/escher/", "/usr/share/man/"];

fn dpkg_deb(words: [&str; 2], package: &Package) -> String {
    let mut command = Command::new("dpkg-deb");
    command.arg(words[0]).arg(package.path());
    command.args(words[1].split_whitespace());
    run_program(command).expect(0).out().to_owned()
}

/// Mode and owner of every file in the package, by path.
fn contents(package: &Package) -> BTreeMap<String, (String, String)> {
    dpkg_deb(["--contents", ""], package)
        .lines()
        .map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let path = words[5].trim_start_matches('.').to_owned();
            (path, (words[0].to_owned(), words[1].to_owned()))
        })
        .filter(|(path, _)| !path.ends_with('/'))
        .collect()
}

#[test]
fn the_package_has_the_expected_files_and_lintian_accepts_it() {
    let Some(package) = Package::build_or_skip("the Debian package") else {
        return;
    };
    let name = package.path().file_name().unwrap().to_str().unwrap();
    let version = env!("CARGO_PKG_VERSION");
    assert!(name.starts_with(&format!("escher_{version}_")), "{name}");

    let mut contents = contents(&package);
    assert!(
        contents
            .values()
            .all(|(_, owner)| owner == "root/root" || owner == "0/0")
    );
    for page in expected_pages() {
        assert!(
            contents.contains_key(&format!("/usr/share/man/{page}.gz")),
            "{page}"
        );
    }
    for document in [
        "README.md",
        "copyright",
        "changelog.gz",
        "docs/configuration.md",
    ] {
        assert!(
            contents.contains_key(&format!("/usr/share/doc/escher/{document}")),
            "{document}"
        );
    }
    contents.retain(|path, _| !DOCUMENTS.iter().any(|folder| path.starts_with(folder)));
    let found: Vec<(&str, &str)> = contents
        .iter()
        .map(|(path, (mode, _))| (path.as_str(), mode.as_str()))
        .collect();
    assert_eq!(found, FILES);

    let conffiles = dpkg_deb(["--info", "conffiles"], &package);
    assert_eq!(
        conffiles,
        "/etc/escher/escher.toml\n/etc/needrestart/conf.d/escher.conf\n"
    );

    if require_program("lintian", "the Debian package by Debian's rules") {
        let mut lintian = Command::new("lintian");
        lintian
            .args(["--allow-root", "--fail-on", "error,warning"])
            .arg(package.path());
        assert_eq!(run_program(lintian).expect(0).out(), "");
    }
}

/// The pages of all programs and verbs.
fn expected_pages() -> Vec<String> {
    let mut pages = vec![
        "man5/escher.toml.5".to_owned(),
        "man8/escher-launcher.8".to_owned(),
    ];
    pages.push("man8/escherd.8".to_owned());
    let verbs = escherctl::command();
    let verbs = verbs.get_subcommands().map(clap::Command::get_name);
    pages.extend(
        verbs
            .filter(|verb| *verb != "help")
            .map(|verb| format!("man1/escherctl-{verb}.1")),
    );
    pages
}

/// What is commented out there would be in dpkg's way whenever a default changes.
#[test]
fn its_configuration_file_is_valid_and_has_no_setting_commented_out() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/escher.toml");
    let mut check = Command::new(escherd());
    check.arg("--check").arg("--config").arg(&file);
    let _ = run_program(check).expect(0);
    let text = fs::read_to_string(&file).unwrap();
    let is_commented_out = |line: &&str| line.starts_with('#') && line.contains(['=', '[']);
    assert_eq!(text.lines().find(is_commented_out), None);
}
