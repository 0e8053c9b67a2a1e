//! Metrics at a socket of systemd.

use escher_tests::host::Machine;

/// Fetches metrics as Prometheus does.
const FETCH: &str = r#"perl -MIO::Socket::UNIX -e '
    my $socket = IO::Socket::UNIX->new(Peer => "/run/escher/metrics.sock") or die $!;
    print $socket "GET /metrics HTTP/1.0\r\n\r\n";
    print <$socket>'"#;

pub(crate) fn an_enabled_socket_unit_serves_metrics(machine: &Machine) {
    assert_eq!(
        machine
            .run("systemctl is-enabled escherd-metrics.socket")
            .expect(1)
            .out(),
        "disabled\n"
    );
    machine.must(
        "systemctl stop escherd &&
        systemctl enable --now escherd-metrics.socket &&
        systemctl start escherd",
    );
    let answer = machine.run_as("alice", FETCH).expect(0);
    assert!(
        answer.out().starts_with("HTTP/1.1 200 OK\r\n"),
        "{answer:?}"
    );
    assert!(
        answer
            .out()
            .contains("escher_executions{state=\"running\"} 0\n"),
        "{answer:?}"
    );
    assert_ne!(machine.run_as("carol", FETCH).code, 0);
    machine.must("systemctl disable --now escherd-metrics.socket && systemctl restart escherd");
}
