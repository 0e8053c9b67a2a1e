//! escher, installed on the machine by hand.

use escher_tests::host::{Kit, Machine};
use escher_tests::{escherctl, escherd, launcher};
use serde_json::Value;

const UNIT: &str = "[Unit]
Description=Runs commands for people and programs

[Service]
Type=notify
ExecStart=/usr/bin/escherd
# Commands outlive it.
KillMode=process
TasksMax=infinity
Restart=always

[Install]
WantedBy=multi-user.target
";

/// What the machine is given.
pub(crate) fn kit() -> Kit {
    Kit::new()
        .file(&escherd())
        .file(&escherctl())
        .file(&launcher())
        .text("escherd.service", UNIT)
}

/// Puts everything in its place, makes alice, who may use it, and carol, who may not, and starts it.
pub(crate) fn install(machine: &Machine) {
    machine.must(
        "set -e
        install -D -t /usr/bin /kit/escherd /kit/escherctl
        install -D -t /usr/lib/escher /kit/escher-launcher
        install -D -m 644 -t /etc/systemd/system /kit/escherd.service
        groupadd --system escher
        useradd --create-home --groups escher alice
        useradd --create-home carol
        install -d -m 755 -o alice /srv/alice
        systemctl daemon-reload
        systemctl enable --now escherd",
    );
    assert_eq!(machine.must("systemctl is-active escherd"), "active\n");
}

/// Sets these settings, on top of the defaults alone, and starts escherd anew.
pub(crate) fn configure(machine: &Machine, settings: &str) {
    machine.must(&format!(
        "set -e
        mkdir -p /etc/escher
        cat > /etc/escher/escher.toml <<'END'\n{settings}\nEND
        systemctl restart escherd"
    ));
}

/// Has root submit a shell's script with a timeout, and waits until it runs. Returns its id.
pub(crate) fn set_going(machine: &Machine, timeout: &str, script: &str) -> String {
    let submit = format!("escherctl submit --timeout {timeout} --shell 'echo up; {script}'");
    let id = machine.must(&submit).trim_end().to_owned();
    let mut log = machine.start(&format!("escherctl logs -f {id}"));
    assert_eq!(log.line(), "up");
    id
}

/// Everything known about an execution.
pub(crate) fn inspect(machine: &Machine, id: &str) -> Value {
    let text = machine.must(&format!("escherctl --json inspect {id}"));
    serde_json::from_str(&text).expect(&text)
}
