//! Runs hostile users beside a good one, for as long as is wanted: see `escher_tests::attack`. For root.
//!
//! ```text
//! attack [--runs N] [--attackers N] [--seed S]
//! ```
//!
//! Without a seed it takes one from the clock, and prints it. Exit status 0: every result of the good user was
//! right. `attack --attack SOCKET SEED` is one of the attackers.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use escher_tests::attack::{self, AttackSettings};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [option, socket, seed] = &arguments[..]
        && option == "--attack"
    {
        attack::attack_until_stdin_ends(Path::new(socket), seed.parse().expect("a number"));
        return;
    }
    let clock = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let mut settings = AttackSettings {
        seed: u64::try_from(clock.as_nanos() & u128::from(u64::MAX)).unwrap(),
        attackers: 10,
        runs: 100,
    };
    for option in arguments.chunks(2) {
        let [name, value] = option else {
            panic!("each option has a value");
        };
        let number: u64 = value.parse().expect("a number");
        match name.as_str() {
            "--seed" => settings.seed = number,
            "--runs" => settings.runs = number,
            "--attackers" => settings.attackers = u32::try_from(number).expect("fewer"),
            other => panic!("no such option: {other}"),
        }
    }
    println!("seed {}", settings.seed);
    println!("{}", attack::run(settings));
}
