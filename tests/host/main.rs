//! escher on a whole Debian machine: a systemd, users, a clock, disks and a power supply of its own.
//!
//! Since a machine takes long to boot, this is one test on one machine. Its parts leave the machine as they have
//! found it; those that reboot it or cut its power come last.

mod clock;
mod full_disk;
mod launcher;
mod metrics;
mod monitoring;
mod package;
mod power;
mod resources;
mod restarts;
mod scenario;
mod user_daemon;
mod users;

use escher_tests::Package;
use escher_tests::host::{Debian, Disk, Machine};

#[test]
fn escher_works_on_a_whole_machine() {
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
    users::members_of_the_group_run_commands_as_themselves(&machine);
    users::other_users_are_advised_to_join_the_group(&machine);
    restarts::run_continues_without_a_gap_over_restart_and_kill(&machine);
    launcher::a_killed_launcher_is_replaced_and_commands_continue(&machine);
    launcher::a_killed_keeper_is_restarted_and_commands_keep_their_limits(&machine);
    launcher::stopping_the_keeper_cancels_all_commands(&machine);
    resources::a_command_over_its_memory_limit_is_killed_and_others_are_not(&machine);
    resources::a_fork_bomb_stays_within_its_limit_and_leaves_no_process(&machine);
    resources::what_a_user_runs_is_limited_together(&machine);
    resources::weights_count_within_the_cgroup_of_their_user(&machine);
    resources::processes_outside_of_the_session_are_killed_with_their_command(&machine);
    resources::usage_includes_all_processes_of_a_command(&machine);
    resources::a_paused_command_stops_until_it_is_resumed(&machine);
    monitoring::the_watchdog_restarts_a_hanging_escherd_and_nothing_is_lost(&machine);
    monitoring::the_journal_has_the_end_of_an_execution(&machine);
    monitoring::the_doctor_accepts_a_fresh_installation_and_reports_problems(&machine);
    user_daemon::a_user_can_have_an_escherd_of_its_own(&machine);
    clock::setting_the_clock_changes_no_timeout(&machine);
    full_disk::output_without_room_in_a_log_is_counted(&machine);
    metrics::an_enabled_socket_unit_serves_metrics(&machine);
    package::an_upgrade_keeps_running_commands_and_their_results(&machine);
    package::a_faulty_configuration_fails_the_service_and_clients_are_told(&machine);

    let commands = power::prepare_reboot(&machine);
    let machine = machine.reboot();
    power::a_reboot_cancels_running_commands_and_starts_pending_ones(&machine, &commands);

    let load = power::put_under_load(&machine);
    machine.cut_power();
    let machine = Machine::boot(&disk);
    power::acknowledged_executions_survive_a_power_cut(&machine, load);
    package::a_removal_cancels_commands_and_a_new_installation_keeps_the_history(&machine);
    package::a_purge_leaves_nothing(&machine, &bare);
    machine.shut_down();
}
