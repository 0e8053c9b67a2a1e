//! A clock that somebody sets.

use escher_tests::host::Machine;

use crate::scenario::{inspect, set_going};

const MINUTE_MS: u64 = 60_000;
const HOUR_MS: u64 = 60 * MINUTE_MS;

pub(crate) fn a_clock_that_is_set_moves_no_timeout(machine: &Machine) {
    machine.must("mkfifo -m 666 /srv/gate");
    // A day that comes all at once does not use up ten minutes.
    let patient = set_going(machine, "10m", "read line < /srv/gate; echo $line");
    machine.must("date -s '+1 day'");
    machine.must("echo go > /srv/gate");
    let result = machine.run(&format!(
        "escherctl wait {patient} && escherctl result {patient}"
    ));
    assert_eq!(result.expect(0).out(), "up\ngo\n");
    assert!(duration_ms(machine, &patient) < HOUR_MS);

    // Two days less do not add to three seconds.
    let hasty = set_going(machine, "3s", "sleep 100000");
    machine.must("date -s '-2 days'");
    let _ = machine.run(&format!("escherctl wait {hasty}")).expect(124);
    assert_eq!(inspect(machine, &hasty)["status"], "timeout");
    let took = duration_ms(machine, &hasty);
    assert!((3_000..HOUR_MS).contains(&took), "{took} ms");
    machine.must("date -s '+1 day'; rm /srv/gate");
}

fn duration_ms(machine: &Machine, id: &str) -> u64 {
    let record = inspect(machine, id);
    record["duration_ms"]
        .as_u64()
        .expect("a finished execution has one")
}
