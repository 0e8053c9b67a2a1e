//! A few cycles of the crash test. `cargo run --release -p escher-tests --bin crashtest` runs as many as are
//! wanted.

use escher_tests::crashtest::{CrashtestSettings, run};

fn settings(seed: u64, targets: &str) -> CrashtestSettings {
    CrashtestSettings {
        seed,
        cycles: 6,
        cycles_per_round: 3,
        targets: targets.parse().unwrap(),
        power: seed % 2 == 1,
    }
}

#[test]
fn nothing_is_lost_when_escherd_is_killed_at_any_instant() {
    let statistics = run(settings(1_000, "escherd"), |_| {});
    assert_eq!(statistics.lost, 0, "{statistics}");
    assert!(
        statistics.escherd_kills + statistics.escherd_injections >= 6,
        "{statistics}"
    );
}

#[test]
fn only_the_commands_of_killed_shims_are_lost() {
    run(settings(2_000, "shims"), |_| {});
}

#[test]
fn everything_may_be_killed_in_turns() {
    run(settings(3_001, "escherd,shims,launcher"), |_| {});
}
