//! A good user beside hostile ones. `cargo run --release -p escher-tests --bin attack` goes on for as long as is
//! wanted.

use escher_tests::attack::{AttackSettings, run};
use escher_tests::require_root;

#[test]
fn every_result_of_a_good_user_is_right_beside_ten_hostile_ones() {
    if !require_root("commands of several users") {
        return;
    }
    let statistics = run(AttackSettings {
        seed: 1,
        attackers: 10,
        runs: 100,
    });
    eprintln!("{statistics}");
}
