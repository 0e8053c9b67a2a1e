//! Users in and outside of the group `escher`.

use escher_tests::host::Machine;

pub(crate) fn members_of_the_group_run_commands_as_themselves(machine: &Machine) {
    let script =
        "cd /srv/alice && escherctl run -- sh -c 'id -un; id -Gn; pwd; echo aside >&2; exit 3'";
    let ended = machine.run_as("alice", script).expect(3);
    assert_eq!(ended.out(), "alice\nalice escher\n/srv/alice\n");
    assert_eq!(ended.err(), "aside\n");
}

pub(crate) fn other_users_are_advised_to_join_the_group(machine: &Machine) {
    let ended = machine.run_as("carol", "escherctl run true").expect(125);
    assert_eq!(ended.out(), "");
    for part in [
        "no permission",
        "/run/escher/escherd.sock",
        "usermod -aG escher",
    ] {
        assert!(ended.err().contains(part), "{ended:?}");
    }
    // Following the advice helps.
    machine.must("usermod -aG escher carol");
    let _ = machine.run_as("carol", "escherctl run true").expect(0);
    machine.must("gpasswd --delete carol escher");
}
