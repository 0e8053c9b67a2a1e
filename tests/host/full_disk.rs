//! A full disk for logs.

use escher_tests::host::Machine;

use crate::scenario::{configure, inspect};

const MIB: u64 = 1024 * 1024;

pub(crate) fn output_without_room_in_a_log_is_counted(machine: &Machine) {
    machine.must(
        "set -e
        truncate --size 8M /srv/small
        mke2fs -q /srv/small
        mount -o loop /srv/small /var/log/escher
        systemd-tmpfiles --create escher.conf",
    );
    configure(machine, "[execution]\nlog_min_free_bytes = 0");
    let script =
        "escherctl run --name large --shell 'head -c 20M /dev/zero; echo the end >&2; exit 3'";
    let ended = machine.run(&format!("{script} > /srv/large")).expect(125);
    assert!(ended.err().contains("are missing here"), "{ended:?}");
    let record = inspect(machine, "large");
    let number = |field: &str| record["output"][field].as_u64().expect("a number");
    assert_eq!(
        number("stdout_bytes") + number("stderr_bytes"),
        20 * MIB + 8
    );
    assert_eq!(number("log_bytes") + number("dropped_bytes"), 20 * MIB + 8);
    assert!(number("dropped_bytes") >= 12 * MIB, "{record}");
    let log = record["log_path"].as_str().expect("a path");
    let size = machine.must(&format!("stat --format %s {log}"));
    assert_eq!(size.trim_end(), number("log_bytes").to_string());

    // With another disk, escherd logs output again.
    machine.must(
        "systemctl stop escherd.socket escherd escher-launcher &&
        umount /var/log/escher && rm /srv/small /srv/large",
    );
    configure(machine, "");
    assert_eq!(machine.must("escherctl run echo again"), "again\n");
}
