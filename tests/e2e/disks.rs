//! Disks that are full, and files that are damaged.

use std::fs;
use std::sync::Arc;

use escher_client::{ErrorCode, ExecutionRequest, Status};
use escher_tests::{
    Daemon, Home, Tmpfs, connect, exec, in_runtime, require_root, shell, wait_started, watch,
};

const MIB: u64 = 1024 * 1024;

/// Writes 20 MiB to a log directory of 8 MiB, then a last word.
const TOO_MUCH: &str = "head -c 20971520 /dev/zero; echo the end >&2; exit 3";

#[test]
fn a_full_log_directory_is_drained_and_counted() {
    if !require_root("a log directory on a full disk, drained") {
        return;
    }
    let home = Arc::new(Home::new());
    let _disk = Tmpfs::mount(&home.logs(), "8m");
    let daemon = Daemon::builder()
        .home(&home)
        .config("[execution]\nlog_min_free_bytes = 0\nlog_full = \"drain\"")
        .start();
    let ctl = daemon.ctl();
    let ended = ctl.run(["run", "--shell", TOO_MUCH]).expect(3);
    assert!(ended.stdout.len() as u64 <= 8 * MIB);
    assert!(
        ended.err().contains("dropped") || ended.err().contains("lacks"),
        "{ended:?}"
    );
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
    // Once there is room again, all is well.
    let _ = ctl.run(["rm", "1"]).expect(0);
    watch::until(&home.logs(), || {
        (fs::read_dir(home.logs()).unwrap().count() == 0).then_some(())
    });
    assert_eq!(ctl.run(["run", "echo", "again"]).expect(0).out(), "again\n");
}

#[test]
fn a_full_log_directory_ends_the_command_where_so_configured() {
    if !require_root("a log directory on a full disk, killing") {
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
fn the_limit_of_a_log_and_the_guard_of_its_disk_hold_at_their_edges() {
    let daemon = Daemon::with_config("[execution]\nmax_log_bytes = 100000\nlog_min_free_bytes = 0");
    let ctl = daemon.ctl();
    for (bytes, dropped) in [(99_999, 0), (100_000, 0), (100_001, 1), (300_000, 200_000)] {
        let id = ctl
            .submit(["head", "-c", &bytes.to_string(), "/dev/zero"])
            .to_string();
        let _ = ctl.run(["wait", &id]).expect(0);
        let record = ctl.inspect(&id);
        assert_eq!(record["output"]["dropped_bytes"], dropped, "{record}");
        assert_eq!(
            ctl.run(["logs", &id]).expect(0).stdout.len() as u64,
            bytes - dropped
        );
    }
    // More must stay free than any disk has.
    let guarded = Daemon::with_config("[execution]\nlog_min_free_bytes = 9000000000000000000");
    let ended = guarded
        .ctl()
        .run(["run", "echo", "nowhere to go"])
        .expect(0);
    assert_eq!(ended.out(), "");
    assert_eq!(guarded.ctl().inspect("1")["output"]["dropped_bytes"], 14);
}

#[test]
fn a_store_on_a_full_disk_refuses_what_is_new_and_records_what_ended_once_there_is_room() {
    if !require_root("a store on a full disk") {
        return;
    }
    let home = Arc::new(Home::new());
    let disk = Tmpfs::mount(&home.state(), "4m");
    let daemon = Daemon::builder().home(&home).leave_commands().start();
    let gate = home.fifo("gate");
    let held = home.fifo("held");
    let (id, lasting, over) = in_runtime(async {
        let client = connect(&daemon).await;
        let request = shell(&format!(
            "echo up; read line < {}; echo $line; exit 6",
            gate.name()
        ));
        let id = client.execute(request).await.unwrap().id;
        wait_started(&client, id).await;
        let request = shell(&format!("read line < {}", held.name()));
        let lasting = client.execute(request).await.unwrap().id;
        wait_started(&client, lasting).await;
        let over = client.execute(exec(["true"])).await.unwrap().id;
        client.wait_for_completion(over).await.unwrap();
        disk.fill();
        // As much as the database has room for in its own pages still goes.
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
        // Forgetting has to be written down, too; it is done later.
        let removed = client.remove_execution(over).await.unwrap_err();
        let removed = removed.as_api().unwrap().code;
        assert_eq!(removed, ErrorCode::STORE_UNAVAILABLE);
        // What runs goes on, and is told of.
        gate.write_line("full");
        let result = client.get_result(id).await.unwrap();
        assert_eq!(
            (result.record.status, &result.stdout[..]),
            (Status::Failed, &b"up\nfull\n"[..])
        );
        (id, lasting, over)
    });
    disk.empty();
    in_runtime(async {
        let client = connect(&daemon).await;
        // The next change takes along what has waited.
        let next = client.execute(exec(["true"])).await.unwrap().id;
        assert_eq!(
            client.wait_for_completion(next).await.unwrap().status,
            Status::Completed
        );
    });
    let mut first = daemon;
    first.kill();
    let second = Daemon::builder().home(&home).leave_commands().start();
    let record = second.ctl().inspect(id);
    assert_eq!(
        (&record["status"], &record["exit_code"]),
        (&"failed".into(), &6.into()),
        "{record}"
    );
    let _ = second.ctl().run(["inspect", &over.to_string()]).expect(1);
    assert_eq!(second.ctl().inspect(lasting)["status"], "running");
    held.write_line("go");
    assert_eq!(second.ctl().run(["wait", &lasting.to_string()]).code, 0);
    drop(second);
    drop(first);
}

#[test]
fn a_damaged_store_is_set_aside_said_and_what_runs_is_not_forgotten() {
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
    let aside: Vec<_> = fs::read_dir(home.state())
        .unwrap()
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().contains("set-aside"))
        .collect();
    assert_eq!(aside.len(), 1);
    assert_eq!(
        fs::read(aside[0].path()).unwrap(),
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
fn a_damaged_exit_record_costs_its_own_execution_and_no_other() {
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
    let whole = fs::read(&path).unwrap();
    fs::write(&path, &whole[..whole.len() - 1]).unwrap();
    let second = Daemon::builder().home(&home).leave_commands().start();
    assert_eq!(second.ctl().inspect(ids[0])["status"], "lost");
    assert_eq!(second.ctl().inspect(ids[1])["exit_code"], 9);
    assert!(second.log().contains("set aside"), "{}", second.log());
    drop(second);
    drop(first);
}

#[test]
fn a_log_that_is_moved_or_cut_from_outside_harms_nothing_and_is_said() {
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
    // Cut: what is left is not taken for the whole.
    let cut = ctl.submit(["seq", "1", "1000"]);
    let _ = ctl.run(["wait", &cut.to_string()]).expect(0);
    fs::File::options()
        .write(true)
        .open(home.log(cut))
        .unwrap()
        .set_len(100)
        .unwrap();
    let _ = ctl.run(["logs", &cut.to_string()]).expect(1);
    assert_eq!(ctl.run(["run", "echo", "well"]).expect(0).out(), "well\n");
}
