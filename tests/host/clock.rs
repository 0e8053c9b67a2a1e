//! A clock that is set while commands run.

use escher_tests::host::Machine;

use crate::scenario::{inspect, start_command};

const MINUTE_MS: u64 = 60_000;
const HOUR_MS: u64 = 60 * MINUTE_MS;

pub(crate) fn setting_the_clock_changes_no_timeout(machine: &Machine) {
    machine.must("mkfifo -m 666 /srv/gate");
    // A day forward does not use up a timeout of ten minutes.
    let waiting = start_command(machine, "10m", "read line < /srv/gate; echo $line");
    machine.must("date -s '+1 day'");
    machine.must("echo go > /srv/gate");
    let result = machine.run(&format!(
        "escherctl wait {waiting} && escherctl result {waiting}"
    ));
    assert_eq!(result.expect(0).out(), "up\ngo\n");
    assert!(duration_ms(machine, &waiting) < HOUR_MS);

    // Two days back do not prolong a timeout of three seconds.
    let sleeping = start_command(machine, "3s", "sleep 100000");
    machine.must("date -s '-2 days'");
    let _ = machine
        .run(&format!("escherctl wait {sleeping}"))
        .expect(124);
    assert_eq!(inspect(machine, &sleeping)["status"], "timeout");
    let duration = duration_ms(machine, &sleeping);
    assert!((3_000..HOUR_MS).contains(&duration), "{duration} ms");
    machine.must("date -s '+1 day'; rm /srv/gate");
}

fn duration_ms(machine: &Machine, id: &str) -> u64 {
    let record = inspect(machine, id);
    record["duration_ms"]
        .as_u64()
        .expect("a finished execution has one")
}
