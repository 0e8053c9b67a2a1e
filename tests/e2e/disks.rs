//! Full disks and damaged files.

use std::fs;
use std::sync::Arc;

use escher_client::{ErrorCode, ExecutionRequest, Status};
use escher_tests::{
    Daemon, Home, Tmpfs, connect, exec, fill_disk, in_runtime, require_root, shell, wait_started,
    watch,
};

const MIB: u64 = 1024 * 1024;

/// Writes 20 MiB, more than the log directory has room for, then a last line.
const TOO_MUCH: &str = "head -c 20971520 /dev/zero; echo the end >&2; exit 3";

#[test]
fn output_without_room_is_dropped_and_counted_with_log_full_drain() {
    if !require_root("output for a full disk, dropped") {
        return;
    }
    let home = Arc::new(Home::new());
    let _disk = Tmpfs::mount(&home.logs(), "8m");
    let daemon = Daemon::builder()
        .home(&home)
        .config("[execution]\nlog_min_free_bytes = 0\nlog_full = \"drain\"")
        .start();
    let ctl = daemon.ctl();
    let ended = ctl.run(["run", "--shell", TOO_MUCH]).expect(125);
    assert!(ended.stdout.len() as u64 <= 8 * MIB);
    assert!(ended.err().contains("are missing here"), "{ended:?}");
    let record = ctl.inspect("1");
    let number = |field: &str| {
        record["output"][field]
            .as_u64()
            .unwrap_or_else(|| panic!("{field}: {record}"))
    };
    assert_eq!(
        number("stdout_bytes") + number("stderr_bytes"),
        20 * MIB + 8
    );
    assert_eq!(number("log_bytes") + number("dropped_bytes"), 20 * MIB + 8);
    assert!(number("dropped_bytes") >= 12 * MIB, "{record}");
    let log = fs::metadata(home.log(record["id"].as_str().unwrap().parse().unwrap())).unwrap();
    assert_eq!(log.len(), number("log_bytes"));
    // Once there is room again, output is logged again.
    let _ = ctl.run(["rm", "1"]).expect(0);
    watch::until(&home.logs(), || {
        (fs::read_dir(home.logs()).unwrap().count() == 0).then_some(())
    });
    assert_eq!(ctl.run(["run", "echo", "again"]).expect(0).out(), "again\n");
}

#[test]
fn output_without_room_ends_the_command_with_log_full_kill() {
    if !require_root("output for a full disk, ending the command") {
        return;
    }
    let home = Arc::new(Home::new());
    let _disk = Tmpfs::mount(&home.logs(), "8m");
    let daemon = Daemon::builder()
        .home(&home)
        .config("[execution]\nlog_min_free_bytes = 0\nlog_full = \"kill\"\nkill_grace_ms = 300")
        .start();
    let ctl = daemon.ctl();
    let ended = ctl.run(["run", "--shell", "yes; sleep 600"]).expect(125);
    assert!(ended.err().contains("log"), "{}", ended.err());
    let record = ctl.inspect("1");
    assert_eq!(
        (&record["status"], &record["error"]["code"]),
        (&"failed".into(), &"log-full".into())
    );
    assert!(
        record["output"]["dropped_bytes"].as_u64().unwrap() > 0,
        "{record}"
    );
}

#[test]
fn max_log_bytes_and_log_min_free_bytes_are_exact() {
    let daemon = Daemon::with_config("[execution]\nmax_log_bytes = 100000\nlog_min_free_bytes = 0");
    let ctl = daemon.ctl();
    let size = |path| fs::metadata(path).unwrap().len();
    for (bytes, is_complete) in [
        (10_000, true),
        (90_000, true),
        (100_000, false),
        (300_000, false),
    ] {
        let id = ctl.submit(["head", "-c", &bytes.to_string(), "/dev/zero"]);
        ctl.wait(id, 0);
        let record = ctl.inspect(id);
        let log = size(daemon.home().log(id));
        assert_eq!(record["output"]["log_bytes"], log, "{record}");
        assert_eq!(record["output"]["dropped_bytes"], bytes - log, "{record}");
        // Log and index share the limit.
        let both = log + size(daemon.home().index(id));
        assert_eq!(is_complete, log == bytes, "{record}");
        assert!(both == 100_000 || is_complete && both < 100_000, "{both}");
        let shown = ctl.run(["logs", &id.to_string()]).expect(0);
        assert_eq!(shown.stdout.len() as u64, log);
    }
    // More must stay free than any disk has.
    let guarded = Daemon::with_config("[execution]\nlog_min_free_bytes = 9000000000000000000");
    let ended = guarded
        .ctl()
        .run(["run", "echo", "nowhere to go"])
        .expect(125);
    assert_eq!(ended.out(), "");
    assert!(
        ended
            .err()
            .contains("14 bytes of the output are missing here")
    );
    assert_eq!(guarded.ctl().inspect("1")["output"]["dropped_bytes"], 14);
}

#[test]
fn a_store_on_a_full_disk_refuses_new_executions_and_records_ends_once_there_is_room() {
    if !require_root("a store on a full disk") {
        return;
    }
    let home = Arc::new(Home::new());
    let disk = Tmpfs::mount(&home.state(), "4m");
    let without_reserve = || {
        let builder = Daemon::builder().home(&home).leave_commands();
        builder.config("[store]\nmin_free_bytes = 0").start()
    };
    let daemon = without_reserve();
    let gate = home.fifo("gate");
    let other_gate = home.fifo("other-gate");
    let (id, running, finished) = in_runtime(async {
        let client = connect(&daemon).await;
        let request = shell(&format!(
            "echo up; read line < {}; echo $line; exit 6",
            gate.name()
        ));
        let id = client.execute(request).await.unwrap().id;
        wait_started(&client, id).await;
        let request = shell(&format!("read line < {}", other_gate.name()));
        let running = client.execute(request).await.unwrap().id;
        wait_started(&client, running).await;
        let finished = client.execute(exec(["true"])).await.unwrap().id;
        client.wait_for_completion(finished).await.unwrap();
        disk.fill();
        // The database may still have room in its own pages.
        let large = || ExecutionRequest {
            environment: vec![("X".into(), vec![b'x'; 60_000].into())],
            ..exec(["true"])
        };
        let refused = loop {
            match client.execute(large()).await {
                Ok(submitted) => drop(client.wait_for_completion(submitted.id).await),
                Err(error) => break error,
            }
        };
        let refused = refused.as_api().unwrap().clone();
        assert_eq!(
            (refused.code, refused.retry),
            (ErrorCode::STORE_UNAVAILABLE, true),
            "{refused:?}"
        );
        // A removal has to be recorded, too. It is done later.
        let removed = client.remove_execution(finished).await.unwrap_err();
        let removed = removed.as_api().unwrap().code;
        assert_eq!(removed, ErrorCode::STORE_UNAVAILABLE);
        // Running commands go on, and their ends are reported.
        gate.write_line("full");
        let result = client.get_result(id).await.unwrap();
        assert_eq!(
            (result.record.status, &result.stdout[..]),
            (Status::Failed, &b"up\nfull\n"[..])
        );
        (id, running, finished)
    });
    disk.empty();
    in_runtime(async {
        let client = connect(&daemon).await;
        // The next change is written together with those that have waited.
        let next = client.execute(exec(["true"])).await.unwrap().id;
        assert_eq!(
            client.wait_for_completion(next).await.unwrap().status,
            Status::Completed
        );
    });
    let mut first = daemon;
    first.kill();
    let second = without_reserve();
    let record = second.ctl().inspect(id);
    assert_eq!(
        (&record["status"], &record["exit_code"]),
        (&"failed".into(), &6.into()),
        "{record}"
    );
    let _ = second
        .ctl()
        .run(["inspect", &finished.to_string()])
        .expect(1);
    assert_eq!(second.ctl().inspect(running)["status"], "running");
    other_gate.write_line("go");
    assert_eq!(second.ctl().run(["wait", &running.to_string()]).code, 0);
    drop(second);
    drop(first);
}

#[test]
fn a_damaged_store_is_set_aside_with_a_message_and_running_commands_are_kept() {
    let mut first = Daemon::builder().leave_commands().start();
    let home = first.home().clone();
    let gate = home.fifo("gate");
    let id = in_runtime(async {
        let client = connect(&first).await;
        let request = shell(&format!("echo up; read line < {}; exit 4", gate.name()));
        let request = ExecutionRequest {
            name: Some("survivor".into()),
            ..request
        };
        let id = client.execute(request).await.unwrap().id;
        wait_started(&client, id).await;
        id
    });
    first.kill();
    let path = home.state().join("escher.db");
    for file in ["escher.db-wal", "escher.db-shm"] {
        let _ = fs::remove_file(home.state().join(file));
    }
    fs::write(&path, b"this is no database, whatever its name").unwrap();
    let second = Daemon::builder().home(&home).leave_commands().start();
    assert!(
        second.log().contains("set aside") || second.log().contains("set-aside"),
        "{}",
        second.log()
    );
    let quarantined: Vec<_> = fs::read_dir(home.state())
        .unwrap()
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().contains("set-aside"))
        .collect();
    assert_eq!(quarantined.len(), 1);
    assert_eq!(
        fs::read(quarantined[0].path()).unwrap(),
        b"this is no database, whatever its name"
    );
    let record = second.ctl().inspect("survivor");
    assert_eq!(
        (&record["id"], &record["status"]),
        (&id.to_string().into(), &"running".into())
    );
    gate.write_line("go");
    assert_eq!(second.ctl().run(["wait", &id.to_string()]).code, 4);
    drop(second);
    drop(first);
}

#[test]
fn a_damaged_exit_record_loses_its_own_execution_and_no_other() {
    let mut first = Daemon::builder().leave_commands().start();
    let home = first.home().clone();
    let gates = [home.fifo("gate0"), home.fifo("gate1")];
    let ids = in_runtime(async {
        let client = connect(&first).await;
        let mut ids = Vec::new();
        for gate in &gates {
            let request = shell(&format!("read line < {}; exit 9", gate.name()));
            let id = client.execute(request).await.unwrap().id;
            wait_started(&client, id).await;
            ids.push(id);
        }
        ids
    });
    first.kill();
    for (gate, id) in gates.iter().zip(&ids) {
        gate.write_line("go");
        watch::until_exists(&home.exit_record(*id));
    }
    let path = home.exit_record(ids[0]);
    let bytes = fs::read(&path).unwrap();
    fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
    let second = Daemon::builder().home(&home).leave_commands().start();
    assert_eq!(second.ctl().inspect(ids[0])["status"], "lost");
    assert_eq!(second.ctl().inspect(ids[1])["exit_code"], 9);
    assert!(second.log().contains("set aside"), "{}", second.log());
    drop(second);
    drop(first);
}

#[test]
fn a_log_that_is_moved_or_truncated_from_outside_is_reported_and_harms_nothing_else() {
    let daemon = Daemon::start();
    let home = daemon.home().clone();
    let ctl = daemon.ctl();
    let gate = home.fifo("gate");
    let script = format!(
        "seq 1 1000; read line < {}; seq 1 1000; exit 2",
        gate.name()
    );
    let id = ctl.submit(["sh", "-c", &script]);
    watch::until(&home.logs(), || {
        let log = fs::metadata(home.log(id)).ok()?;
        (log.len() == 3893).then_some(())
    });
    fs::rename(home.log(id), home.work().join("moved")).unwrap();
    gate.write_line("go");
    assert_eq!(ctl.run(["wait", &id.to_string()]).code, 2);
    assert_eq!(
        fs::metadata(home.work().join("moved")).unwrap().len(),
        2 * 3893
    );
    let refused = ctl.run(["logs", &id.to_string()]).expect(1);
    assert!(refused.err().contains("cannot be read"), "{refused:?}");
    // What is left of a truncated log is not taken for all of it.
    let truncated = ctl.submit(["seq", "1", "1000"]);
    ctl.wait(truncated, 0);
    fs::File::options()
        .write(true)
        .open(home.log(truncated))
        .unwrap()
        .set_len(100)
        .unwrap();
    let rest = ctl.run(["logs", &truncated.to_string()]).expect(0);
    assert_eq!(rest.stdout.len(), 100);
    assert!(rest.err().contains("are missing here"), "{rest:?}");
    assert_eq!(ctl.run(["run", "echo", "well"]).expect(0).out(), "well\n");
}

#[test]
fn the_reserve_of_the_stores_disk_is_for_what_is_accepted_already() {
    if !require_root("a small disk") {
        return;
    }
    let home = Arc::new(Home::new());
    let disk = Tmpfs::mount(&home.state(), "8m");
    let config = "[store]\nmin_free_bytes = 4194304";
    let daemon = Daemon::builder().home(&home).config(config).start();
    let gate = home.fifo("gate");
    let id = in_runtime(async {
        let client = connect(&daemon).await;
        let request = shell(&format!("read line < {}; exit 6", gate.name()));
        let id = client.execute(request).await.unwrap().id;
        wait_started(&client, id).await;
        let _ = fill_disk(&home.state(), 3 * 1024 * 1024);
        let refused = client.execute(exec(["true"])).await.unwrap_err();
        let refused = refused.as_api().unwrap().clone();
        assert_eq!(
            (refused.code, refused.retry),
            (ErrorCode::STORE_UNAVAILABLE, true)
        );
        assert!(
            refused.message.contains("store.min_free_bytes"),
            "{refused:?}"
        );
        gate.write_line("go");
        let record = client.wait_for_completion(id).await.unwrap();
        assert_eq!(record.status, Status::Failed);
        id
    });
    let diagnostics = daemon.ctl().run(["doctor", "--json"]).expect(1);
    let diagnostics = diagnostics.json_lines();
    let found = |check: &str| diagnostics.iter().find(|it| it["check"] == check).unwrap();
    let message = found("state-space")["message"].as_str().unwrap();
    assert!(message.contains("new executions are refused"), "{message}");
    assert_eq!(found("store")["severity"], "ok", "all changes are written");
    assert_eq!(daemon.ctl().inspect(id)["exit_code"], 6);
    disk.empty();
    let _ = daemon.ctl().run(["run", "true"]).expect(0);
}
