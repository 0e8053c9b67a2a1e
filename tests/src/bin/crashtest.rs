//! Runs the crash test for as long as is wanted: see `escher_tests::crashtest`.
//!
//! ```text
//! crashtest [--cycles N] [--seed S] [--round N] [--kill escherd,shims,launcher] [--power]
//! ```
//!
//! Without a seed it takes one from the clock, and prints it. Exit status 0: not one violation.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use escher_tests::crashtest::{self, CrashtestSettings, Targets, seconds_since};

fn main() {
    let clock = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let mut settings = CrashtestSettings {
        seed: u64::try_from(clock.as_nanos() & u128::from(u64::MAX)).unwrap(),
        cycles: 20,
        cycles_per_round: 10,
        targets: "escherd,shims,launcher".parse::<Targets>().unwrap(),
        power: false,
    };
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        if name == "--power" {
            settings.power = true;
            continue;
        }
        let value = arguments.next().expect("each option has a value");
        match name.as_str() {
            "--cycles" => settings.cycles = value.parse().expect("a number"),
            "--seed" => settings.seed = value.parse().expect("a number"),
            "--round" => settings.cycles_per_round = value.parse().expect("a number"),
            "--kill" => settings.targets = value.parse().unwrap(),
            other => panic!("no such option: {other}"),
        }
    }
    println!("seed {}", settings.seed);
    let start = Instant::now();
    let statistics = crashtest::run(settings, |statistics| {
        if statistics.cycles % 10 == 0 {
            println!("after {} s: {statistics}", seconds_since(start));
        }
    });
    println!("no violation in {} s: {statistics}", seconds_since(start));
}
