//! Launches at which escherd dies. It counts them before it begins them, so that no command can end the service for
//! good.

use std::sync::Arc;

use escher_tests::{Daemon, Exit, Home};

/// Starts an escherd whose launcher never comes, so that what it launches stays at the launch.
fn start_without_launcher(home: &Arc<Home>) -> Daemon {
    let socket = home.path().join("no-launcher.sock");
    let config = format!("[daemon]\nlauncher_socket = {socket:?}\n");
    let builder = Daemon::builder().home(home).config(&config);
    builder.leave_commands().start()
}

#[test]
fn a_command_at_whose_launch_escherd_dies_is_given_up() {
    /// Enough, though a kill may come before an attempt is counted.
    const MAX_KILLS: usize = 50;
    let home = Arc::new(Home::new());
    let mut daemon = start_without_launcher(&home);
    let id = daemon.ctl().line(["submit", "true"]);
    let mut kills = 0;
    while daemon.ctl().inspect(&id)["status"] == "pending" {
        assert!(kills < MAX_KILLS, "it is still pending");
        daemon.kill();
        drop(daemon);
        kills += 1;
        daemon = start_without_launcher(&home);
    }
    assert!(kills >= 3, "given up after {kills}");
    let record = daemon.ctl().inspect(&id);
    assert_eq!(record["status"], "failed", "{record}");
    assert_eq!(record["error"]["code"], "launch-abandoned", "{record}");
    let wait = daemon.ctl().run(["wait", &id]).expect(125);
    assert_eq!(wait.out(), "");
    // The service goes on.
    let next = daemon.ctl().line(["submit", "true"]);
    assert_eq!(daemon.stop(), Exit::Code(0));
    let daemon = Daemon::builder().home(&home).start();
    daemon.ctl().wait(&next, 0);
}

#[test]
fn clean_stops_at_the_launch_of_a_command_do_not_count() {
    let home = Arc::new(Home::new());
    let daemon = start_without_launcher(&home);
    let id = daemon.ctl().line(["submit", "true"]);
    assert_eq!(daemon.stop(), Exit::Code(0));
    for _ in 0..4 {
        let daemon = start_without_launcher(&home);
        assert_eq!(daemon.ctl().inspect(&id)["status"], "pending");
        assert_eq!(daemon.stop(), Exit::Code(0));
    }
    let daemon = Daemon::builder().home(&home).start();
    daemon.ctl().wait(&id, 0);
}
