//! The configuration is reloaded while escherd runs.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use escher_client::protocol::SettingValue;
use escher_client::{Client, Error, ErrorCode, ExecutionRequest, Status, Timeout};
use escher_tests::{Daemon, connect, exec, in_runtime, require_root, shell, watch};
use futures_util::future::join_all;
use nix::sys::signal::{Signal, kill};

/// Replaces the text of the configuration file of `daemon`.
fn rewrite(daemon: &Daemon, config: &str) {
    fs::write(daemon.home().path().join("escher.toml"), config).unwrap();
}

async fn value(client: &Client, name: &str) -> SettingValue {
    let settings = client.settings().await.unwrap();
    let setting = settings.into_iter().find(|setting| &*setting.name == name);
    setting.expect(name).value
}

#[test]
fn a_reload_of_a_file_that_others_could_change_is_refused() {
    let daemon =
        Daemon::with_config("[execution]\nmax_timeout_ms = 5000\ndefault_timeout_ms = 5000\n");
    let file = daemon.home().path().join("escher.toml");
    rewrite(&daemon, "[execution]\nmax_timeout_ms = 0\n");
    fs::set_permissions(&file, Permissions::from_mode(0o622)).unwrap();
    in_runtime(async {
        let client = connect(&daemon).await;
        let refused = client.reload().await.unwrap_err();
        let error = refused.as_api().unwrap();
        assert_eq!(error.code, ErrorCode::INVALID_CONFIGURATION);
        assert!(error.message.contains("mode 0622"), "{error}");
        let unchanged = value(&client, "execution.max_timeout_ms").await;
        assert_eq!(unchanged, SettingValue::Number(5000));
    });
    let diagnostics = daemon.ctl().run(["doctor"]).expect(1);
    assert!(diagnostics.out().contains("mode 0622"), "{diagnostics:?}");
}

#[test]
fn a_socket_that_was_deleted_from_outside_comes_back_with_sighup() {
    let daemon = Daemon::builder().keep_notifications().start();
    let socket = daemon.home().socket();
    fs::remove_file(&socket).unwrap();
    let _ = daemon.ctl().run(["--reconnect", "none", "info"]).expect(1);
    kill(daemon.pid(), Signal::SIGHUP).unwrap();
    while !daemon.next_notification().contains("READY=1") {}
    let _ = daemon.ctl().run(["run", "true"]).expect(0);
    let mode = fs::metadata(&socket).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o660);
    // One that is there stays.
    let before = fs::metadata(&socket).unwrap().ino();
    kill(daemon.pid(), Signal::SIGHUP).unwrap();
    while !daemon.next_notification().contains("READY=1") {}
    assert_eq!(fs::metadata(&socket).unwrap().ino(), before);
}

#[test]
fn a_reload_applies_settings_and_names_those_that_need_a_restart() {
    let daemon = Daemon::with_config("[execution]\nmax_concurrent_executions = 1\n");
    let gate = daemon.home().fifo("gate");
    in_runtime(async {
        let client = connect(&daemon).await;
        let unchanged = client.reload().await.unwrap();
        assert!(unchanged.applied.is_empty() && unchanged.need_restart.is_empty());

        let running = shell(&format!("read line < {}", gate.name()));
        let running = client.execute(running).await.unwrap().id;
        let pending = client.execute(exec(["true"])).await.unwrap().id;
        let status = client.get_status(pending).await.unwrap().status;
        assert_eq!(status, Status::Pending);
        rewrite(
            &daemon,
            "[execution]\nmax_concurrent_executions = 2\nmax_timeout_ms = 7000\ndefault_timeout_ms = 6000\n\
             max_output_size_bytes = 10\n[daemon]\nwarm_shims = 1\n[store]\ndurability = \"power\"\n",
        );
        let reloaded = client.reload().await.unwrap();
        let names = |names: &[escher_client::Text]| -> Vec<String> {
            names.iter().map(|name| name.to_string()).collect()
        };
        let mut applied = names(&reloaded.applied);
        applied.sort_unstable();
        assert_eq!(
            applied,
            [
                "execution.default_timeout_ms",
                "execution.max_concurrent_executions",
                "execution.max_output_size_bytes",
                "execution.max_timeout_ms"
            ]
        );
        let mut waiting = names(&reloaded.need_restart);
        waiting.sort_unstable();
        assert_eq!(waiting, ["daemon.warm_shims", "store.durability"]);

        // A second one may run now.
        let record = client.wait_for_completion(pending).await.unwrap();
        assert_eq!(record.status, Status::Completed);
        let timeout = |timeout| ExecutionRequest {
            timeout,
            ..exec(["printf", "0123456789x"])
        };
        let refused = timeout(Timeout::After { ms: 7001 });
        let refused = client.execute(refused).await.unwrap_err();
        let refused = refused.as_api().unwrap();
        assert_eq!(refused.code, ErrorCode::TIMEOUT_TOO_LONG);
        let hint = refused.hint.as_deref().unwrap_or_default();
        assert!(
            hint.contains("execution.max_timeout_ms") && hint.contains("escher.toml:"),
            "{hint}"
        );
        let id = client.execute(timeout(Timeout::Default)).await.unwrap().id;
        let result = client.get_result(id).await.unwrap();
        assert_eq!(result.record.timeout_ms, Some(6000));
        assert!(result.is_cut());
        let info = client.info().await.unwrap();
        assert_eq!(
            (info.max_concurrent_executions, info.max_timeout_ms),
            (2, 7000)
        );
        // A setting that needs a restart has its old value.
        assert_eq!(
            value(&client, "store.durability").await,
            SettingValue::Text("crash".into())
        );
        assert_eq!(
            value(&client, "execution.max_timeout_ms").await,
            SettingValue::Number(7000)
        );

        // Fewer than run already: those go on, and nothing new starts.
        rewrite(&daemon, "[execution]\nmax_concurrent_executions = 1\n");
        client.reload().await.unwrap();
        let pending = client.execute(exec(["true"])).await.unwrap().id;
        let status = client.get_status(pending).await.unwrap().status;
        assert_eq!(status, Status::Pending);
        gate.write_line("go");
        assert_eq!(
            client.wait_for_completion(running).await.unwrap().status,
            Status::Completed
        );
        client.wait_for_completion(pending).await.unwrap();
    });
}

#[test]
fn sighup_reloads_too() {
    let daemon = Daemon::with_config("[execution]\nmax_concurrent_executions = 1\n");
    let gate = daemon.home().fifo("gate");
    in_runtime(async {
        let client = connect(&daemon).await;
        let running = shell(&format!("read line < {}", gate.name()));
        let running = client.execute(running).await.unwrap().id;
        let pending = client.execute(exec(["true"])).await.unwrap().id;
        // A file with errors changes nothing, and is reported in the log.
        rewrite(
            &daemon,
            "[execution]\nmax_concurrent_executions = \"two\"\n",
        );
        kill(daemon.pid(), Signal::SIGHUP).unwrap();
        watch::until(daemon.home().path(), || {
            daemon.log().contains("\"two\"").then_some(())
        });
        assert_eq!(
            client.get_status(pending).await.unwrap().status,
            Status::Pending
        );
        rewrite(&daemon, "[execution]\nmax_concurrent_executions = 2\n");
        kill(daemon.pid(), Signal::SIGHUP).unwrap();
        client.wait_for_completion(pending).await.unwrap();
        gate.write_line("go");
        client.wait_for_completion(running).await.unwrap();
    });
}

#[test]
fn an_invalid_file_under_load_changes_nothing_and_loses_nothing() {
    const COMMANDS: usize = 300;
    let daemon = Daemon::with_config("[execution]\nmax_concurrent_executions = 8\n");
    in_runtime(async {
        let client = connect(&daemon).await;
        let before = client.settings().await.unwrap();
        rewrite(
            &daemon,
            "[execution]\nmax_concurrent_executions = 0\nmax_timeot_ms = 1\nkill_grace_ms = \"x\"\n",
        );
        let commands = (0..COMMANDS).map(async |number| {
            let id = client
                .execute(shell(&format!("echo {number}")))
                .await
                .unwrap()
                .id;
            client.get_result(id).await.unwrap()
        });
        let reloads = (0..20).map(async |_| client.reload().await.unwrap_err());
        let (results, refusals) = tokio::join!(join_all(commands), join_all(reloads));
        for (number, result) in results.into_iter().enumerate() {
            assert_eq!(result.stdout, format!("{number}\n").as_bytes());
            assert!(result.success());
        }
        for refusal in refusals {
            let Error::Api(error) = refusal else {
                panic!("{refusal}")
            };
            assert_eq!(error.code, ErrorCode::INVALID_CONFIGURATION);
            for part in [
                "escher.toml:2",
                "max_concurrent_executions = 0",
                "escher.toml:3",
                "max_timeot_ms",
                "max_timeout_ms",
                "escher.toml:4",
                "kill_grace_ms",
            ] {
                assert!(
                    error.message.contains(part),
                    "{} lacks {part}",
                    error.message
                );
            }
        }
        assert_eq!(client.settings().await.unwrap(), before);
    });
    let ended = daemon.ctl().run(["reload"]).expect(1);
    assert!(ended.err().contains("escher.toml:3"), "{ended:?}");
    rewrite(&daemon, "[execution]\nmax_timeout_ms = 700000\n");
    let ended = daemon.ctl().run(["reload"]).expect(0);
    assert!(
        ended.out().contains("execution.max_timeout_ms"),
        "{ended:?}"
    );
}

#[test]
fn only_root_may_reload() {
    if !require_root("the permission to reload") {
        return;
    }
    let daemon = Daemon::with_config("[daemon]\nsocket_mode = \"0666\"\n");
    let user = daemon.ctl().as_user(54_321, 54_321, &[]);
    let ended = user.run(["reload"]).expect(1);
    assert!(ended.err().contains("run it as root"), "{ended:?}");
    // Everybody may read the settings.
    let shown = user.run(["config", "show"]).expect(0);
    assert!(
        shown.out().contains("execution.max_timeout_ms"),
        "{shown:?}"
    );
    let _ = daemon.ctl().run(["reload"]).expect(0);
}
