//! escher, installed on the machine from its package.

use escher_tests::Package;
use escher_tests::host::{Kit, Machine};
use serde_json::Value;

/// The version that is installed first.
const PREVIOUS: &str = "0.0.1";

/// The package, and a previous one, which differs in its version alone.
pub(crate) fn kit(package: &Package) -> Kit {
    Kit::new()
        .file(package.path())
        .file(package.with_version(PREVIOUS).path())
}

/// Installs the previous package, and creates alice, who may use escher, and carol, who may not.
pub(crate) fn install(machine: &Machine) {
    install_package(machine, PREVIOUS);
    machine.must(
        "set -e
        useradd --create-home --groups escher alice
        useradd --create-home carol
        install -d -m 755 -o alice /srv/alice",
    );
    check_units(machine);
    let cgroup = machine.must("escherctl run cat /proc/self/cgroup");
    assert!(cgroup.contains("/escher-launcher.service/"), "{cgroup}");
}

/// Checks that all units are active and enabled.
pub(crate) fn check_units(machine: &Machine) {
    for unit in UNITS {
        assert_eq!(
            machine.must(&format!("systemctl is-active {unit}")),
            "active\n"
        );
        assert_eq!(
            machine.must(&format!("systemctl is-enabled {unit}")),
            "enabled\n"
        );
    }
}

/// The units that run after an installation.
pub(crate) const UNITS: [&str; 3] = [
    "escherd.socket",
    "escherd.service",
    "escher-launcher.service",
];

/// Installs the package of this version as a person would.
pub(crate) fn install_package(machine: &Machine, version: &str) {
    machine.must(&format!(
        "DEBIAN_FRONTEND=noninteractive apt-get install -q -y /kit/escher_{version}_*.deb"
    ));
}

/// Replaces the configuration file with these settings, and restarts escherd.
pub(crate) fn configure(machine: &Machine, settings: &str) {
    machine.must(&format!(
        "set -e
        mkdir -p /etc/escher
        cat > /etc/escher/escher.toml <<'END'\n{settings}\nEND
        systemctl restart escherd"
    ));
}

/// Submits a shell script as root, and waits until it runs. Returns its id.
pub(crate) fn start_command(machine: &Machine, timeout: &str, script: &str) -> String {
    let submit = format!("escherctl submit --timeout {timeout} --shell 'echo up; {script}'");
    let id = machine.must(&submit).trim_end().to_owned();
    let mut log = machine.start(&format!("escherctl logs -f {id}"));
    assert_eq!(log.line(), "up");
    id
}

/// Runs `escherctl submit` as alice with these words. Returns the id.
pub(crate) fn submit(machine: &Machine, words: &str) -> String {
    let ended = machine.run_as("alice", &format!("escherctl submit {words}"));
    ended.expect(0).out().trim_end().to_owned()
}

/// The main process of a unit.
pub(crate) fn main_process(machine: &Machine, unit: &str) -> String {
    machine.must(&format!("systemctl show --value --property MainPID {unit}"))
}

/// Everything known about an execution.
pub(crate) fn inspect(machine: &Machine, id: &str) -> Value {
    let text = machine.must(&format!("escherctl --json inspect {id}"));
    serde_json::from_str(&text).expect(&text)
}
