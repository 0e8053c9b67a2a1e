//! With `ESCHER_LOG=debug` escherd's log tells the steps of an execution, as docs/ARCHITECTURE.md
//! names them.

use escher_tests::Daemon;

/// The lines about one execution, in order. Other lines may stand between them.
const STEPS: [&str; 11] = [
    "connection accepted",
    "handshake done",
    "received Submit",
    "authorized to submit",
    "submitted: recording the submission",
    "submission committed: answering the client",
    "launching",
    "launch sent to a ready shim",
    "started",
    "exit report received",
    "finished: recording the end",
];

#[test]
fn tells_the_steps_of_an_execution_in_order() {
    let daemon = Daemon::builder().env("ESCHER_LOG", "debug").start();
    let ended = daemon.ctl().run(["run", "--", "echo", "hi"]).expect(0);
    assert_eq!(ended.out(), "hi\n");
    let log = daemon.log();
    let mut lines = log.lines();
    for step in STEPS {
        assert!(
            lines.any(|line| line.contains(step)),
            "{step:?} is missing, or comes too early in:\n{log}"
        );
    }
    assert!(log.contains("received ReadOutput"), "{log}");
    assert!(
        log.contains("end committed: answering waiting clients"),
        "{log}"
    );
}
