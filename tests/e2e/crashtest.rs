//! A few cycles of the crash test with every run of the checks. `cargo run --release -p escher-tests --bin
//! crashtest` runs as many as one wants.

use escher_tests::crashtest::{Settings, run};

fn settings(seed: u64, targets: &str) -> Settings {
    Settings {
        seed,
        cycles: 6,
        cycles_per_round: 3,
        targets: targets.parse().unwrap(),
        power: seed % 2 == 1,
    }
}

#[test]
fn nothing_is_lost_when_escherd_is_killed_at_any_instant() {
    let tally = run(settings(1_000, "escherd"), |_| {});
    assert_eq!(tally.lost, 0, "{tally}");
    assert!(
        tally.escherd_kills + tally.escherd_injections >= 6,
        "{tally}"
    );
}

#[test]
fn only_what_a_killed_shim_had_is_lost() {
    run(settings(2_000, "shims"), |_| {});
}

#[test]
fn everything_may_be_killed_at_once() {
    run(settings(3_001, "escherd,shims,launcher"), |_| {});
}
