//! The effects of settings that have no module of their own. Those are timeouts (`exit_statuses`, `library`), the
//! queue (`queue`), oversized output (`oversized`), memory (`limits`), history (`history`), logs (`disks`) and
//! connections (`protocol_abuse`).

use escher_client::protocol::OutputRange;
use escher_client::{ErrorCode, Status};
use escher_tests::{Daemon, collect, connect, exec, in_runtime, shell, watch};
use futures_util::FutureExt;

#[test]
fn with_stream_output_off_all_output_is_served_at_the_end() {
    let daemon = Daemon::with_config("[execution]\nstream_output = false\n");
    let gate = daemon.home().fifo("gate");
    let written = daemon.home().fifo("written");
    in_runtime(async {
        let client = connect(&daemon).await;
        let script = format!(
            "echo early; echo up > {}; read line < {}; echo late",
            written.name(),
            gate.name()
        );
        let id = client.execute(shell(&script)).await.unwrap().id;
        let mut output = client.follow(id, OutputRange::default()).await.unwrap();
        assert_eq!(written.read_line(), "up");
        // It is in the log as always.
        watch::until(&daemon.home().logs(), || {
            std::fs::read(daemon.home().log(id))
                .is_ok_and(|log| log == b"early\n")
                .then_some(())
        });
        let mut refused = client.read_logs(id, OutputRange::default()).await.unwrap();
        let refused = refused.next().await.unwrap().unwrap_err();
        let refused = refused.as_api().unwrap();
        assert_eq!(
            (refused.code, refused.retry),
            (ErrorCode::OUTPUT_HELD, true)
        );
        // This answer came later over the same connection, so nothing was sent before it.
        assert!(output.next().now_or_never().is_none());
        gate.write_line("go");
        let (stdout, _, _) = collect(output, 0).await;
        assert_eq!(stdout, b"early\nlate\n");
        let record = client.wait_for_completion(id).await.unwrap();
        assert_eq!(record.status, Status::Completed);
        let (stdout, _, _) = collect(
            client.read_logs(id, OutputRange::default()).await.unwrap(),
            0,
        )
        .await;
        assert_eq!(stdout, b"early\nlate\n");
    });
    // `run` shows everything at the end.
    let ended = daemon
        .ctl()
        .run(["run", "sh", "-c", "echo a; echo b >&2"])
        .expect(0);
    assert_eq!((ended.out(), ended.err()), ("a\n", "b\n"));
}

#[test]
fn with_auto_cleanup_off_only_a_request_cleans_up() {
    let config = "[execution]\nenable_auto_cleanup = false\ncleanup_interval_secs = 1\n\
                  [history]\nmax_count = 1\nmin_age = \"0s\"\n";
    let first = Daemon::with_config(config);
    let run = async |daemon: &Daemon| {
        let client = connect(daemon).await;
        for _ in 0..3 {
            let id = client.execute(exec(["echo", "x"])).await.unwrap().id;
            client.wait_for_completion(id).await.unwrap();
        }
    };
    in_runtime(run(&first));
    let home = first.home().clone();
    let _ = first.stop();
    // With automatic cleanup a start would clean up at once.
    let second = Daemon::builder().config(config).home(&home).start();
    in_runtime(async {
        run(&second).await;
        let client = connect(&second).await;
        assert_eq!(client.total_count().await.unwrap(), 6);
        let removed = client.cleanup_old_executions().await.unwrap();
        assert_eq!((removed.executions, removed.log_bytes), (5, 10));
        assert_eq!(client.total_count().await.unwrap(), 1);
    });
}

#[test]
fn the_configuration_sets_the_log_directory() {
    for key in ["[execution]\nlog_dir", "[daemon]\nlog_dir"] {
        let home = std::sync::Arc::new(escher_tests::Home::new());
        let elsewhere = home.path().join("elsewhere");
        let daemon = Daemon::builder()
            .home(&home)
            .config(&format!("{key} = {:?}\n", elsewhere.to_str().unwrap()))
            .without_log_dir_option()
            .start();
        let id = daemon.ctl().submit(["echo", "x"]).to_string();
        daemon.ctl().wait(&id, 0);
        let log = elsewhere.join(format!("{id}.log"));
        assert_eq!(std::fs::read_to_string(&log).unwrap(), "x\n");
        assert_eq!(daemon.ctl().inspect(&id)["log_path"], log.to_str().unwrap());
    }
}

#[test]
fn the_configuration_sets_the_grace_period() {
    let daemon = Daemon::with_config("[execution]\nkill_grace_ms = 50\n");
    let ready = daemon.home().fifo("ready");
    let script = format!(
        "trap '' TERM; echo up > {}; while :; do sleep 1; done",
        ready.name()
    );
    let id = daemon.ctl().submit(["sh", "-c", &script]).to_string();
    assert_eq!(ready.read_line(), "up");
    let _ = daemon.ctl().run(["cancel", &id]).expect(0);
    daemon.ctl().wait(&id, 137);
    let record = daemon.ctl().inspect(&id);
    assert_eq!(
        (&record["kill_grace_ms"], &record["ended_by_signal"]),
        (&50.into(), &9.into())
    );
}
