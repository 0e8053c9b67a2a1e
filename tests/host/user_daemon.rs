//! An escherd of a user, by the user units.

use escher_tests::host::Machine;

/// The environment of a login, and a shell function for the user's escherctl.
const LOGIN: &str = "export XDG_RUNTIME_DIR=/run/user/$(id -u)
    unset ESCHER_SOCKET
    ctl() { escherctl --socket $XDG_RUNTIME_DIR/escher/escherd.sock \"$@\"; }";

pub(crate) fn a_user_can_have_an_escherd_of_its_own(machine: &Machine) {
    machine.must("loginctl enable-linger carol; systemctl start user@$(id -u carol).service");
    let as_carol = |script: &str| machine.run_as("carol", &format!("{LOGIN}\n{script}"));
    let started = as_carol(
        "set -e
        systemctl --user start escherd.socket
        ctl run -- sh -c 'id -un; exit 3'",
    );
    assert_eq!(started.expect(3).out(), "carol\n");
    // Its commands continue over a restart.
    let restarted = as_carol(
        "mkfifo $HOME/gate
        id=$(ctl submit --shell \"echo up > $HOME/gate; read -r line < $HOME/gate; exit 7\")
        read -r line < $HOME/gate
        systemctl --user restart escherd.service
        ctl ps | grep -q running && echo go > $HOME/gate
        ctl wait $id",
    );
    let _ = restarted.expect(7);
    // Other users cannot connect to it.
    let uid = machine.must("id -u carol");
    let other = format!(
        "escherctl --socket /run/user/{}/escher/escherd.sock info",
        uid.trim()
    );
    let _ = machine.run_as("alice", &other).expect(1);
    let _ =
        as_carol("systemctl --user stop escherd.socket escherd.service; rm $HOME/gate").expect(0);
    machine.must("loginctl disable-linger carol; systemctl stop user@$(id -u carol).service");
}
