//! escher on a whole Debian machine: a systemd, users, a clock, disks and a power supply of its own.
//!
//! To start a machine takes its time, so all of it is one story on one machine, of chapters that each leave it as they
//! have found it: first those on the machine as it is, then those that end with its being off.

mod clock;
mod full_disk;
mod launcher;
mod metrics;
mod package;
mod people;
mod power;
mod resources;
mod restarts;
mod scenario;
mod user;
mod watched;

use escher_tests::Package;
use escher_tests::host::{Debian, Disk, Machine};

#[test]
fn escher_keeps_its_promises_on_a_whole_machine() {
    let what = "escher on a whole machine with systemd";
    let Some(debian) = Debian::install_or_skip(what) else {
        return;
    };
    let Some(package) = Package::build_or_skip(what) else {
        return;
    };
    let disk = Disk::new(&debian, &scenario::kit(&package));
    let machine = Machine::boot(&disk);
    let bare = package::traces(&machine);
    scenario::install(&machine);
    people::of_the_group_run_commands_as_themselves(&machine);
    people::outside_the_group_are_told_how_to_get_in(&machine);
    restarts::a_run_goes_on_without_a_gap_through_restart_and_kill(&machine);
    launcher::that_is_killed_is_followed_by_another_and_commands_go_on(&machine);
    launcher::with_a_killed_keeper_is_started_again_and_commands_and_limits_go_on(&machine);
    launcher::that_is_stopped_ends_everything_and_says_so(&machine);
    resources::a_command_beyond_its_memory_is_ended_and_others_are_not(&machine);
    resources::a_fork_bomb_stays_within_its_tasks_and_leaves_nobody(&machine);
    resources::what_has_left_the_session_is_ended_with_its_command(&machine);
    resources::figures_are_those_of_everything_that_a_command_ran(&machine);
    resources::a_paused_command_stops_until_it_is_resumed(&machine);
    watched::an_escherd_that_hangs_is_started_again_and_nothing_is_lost(&machine);
    watched::the_journal_tells_the_life_of_an_execution(&machine);
    watched::the_doctor_finds_a_fresh_installation_well_and_says_what_is_not(&machine);
    user::one_has_an_escherd_of_ones_own_where_that_is_wanted(&machine);
    clock::a_clock_that_is_set_moves_no_timeout(&machine);
    full_disk::what_has_no_room_in_a_log_is_counted(&machine);
    metrics::systemd_listens_for_them_where_that_is_wanted(&machine);
    package::an_upgrade_keeps_what_runs_and_its_results(&machine);
    package::a_faulty_configuration_leaves_nobody_stranded(&machine);

    let left = power::leave_commands(&machine);
    let machine = machine.reboot();
    power::a_clean_reboot_ends_what_runs_and_says_so(&machine, &left);

    let load = power::put_under_load(&machine);
    machine.cut_power();
    let machine = Machine::boot(&disk);
    power::what_was_acknowledged_before_a_power_cut_is_there(&machine, load);
    package::a_removal_ends_commands_and_a_new_installation_goes_on(&machine);
    package::a_purge_leaves_nothing(&machine, &bare);
    machine.shut_down();
}
