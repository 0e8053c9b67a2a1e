//! Finished executions stay known within limits, whether in memory or in the store.

use std::fs::{self, File};
use std::io::Read;

use escher_client::protocol::execution::KEPT_COMMAND_BYTES;
use escher_client::{
    Client, ErrorCode, ExecutionId, ExecutionRecord, ExecutionRequest, OutputItem, OutputRange,
    Status,
};
use escher_tests::{
    Ctl, Daemon, connect, exec, in_runtime, require_root, shell, wait_started, watch,
};
use serde_json::Value;

/// Keeps two finished executions in memory, and the others in the store alone.
const TWO_IN_MEMORY: &str = "[execution]\nmax_in_memory_executions = 2\n";

fn names(lines: &[Value]) -> Vec<&str> {
    lines
        .iter()
        .map(|line| line["name"].as_str().unwrap())
        .collect()
}

#[test]
fn every_verb_finds_executions_that_have_left_memory() {
    let daemon = Daemon::with_config(TWO_IN_MEMORY);
    let ctl = daemon.ctl();
    let mut ids = Vec::new();
    for index in 0..8 {
        let script = format!("echo out {index}; echo err {index} >&2; exit {}", index % 3);
        let name = format!("job{index}");
        let words = [
            "submit",
            "--name",
            &name,
            "-l",
            "kind=test",
            "--shell",
            &script,
        ];
        let id = ctl.line(words);
        assert_eq!(ctl.run(["wait", &id]).code, index % 3);
        ids.push(id);
    }
    for (index, id) in (0..).zip(&ids) {
        let tail = &id[id.len() - 12..];
        for reference in [
            id.as_str(),
            &(index + 1).to_string(),
            &format!("job{index}"),
            tail,
        ] {
            let record = ctl.inspect(reference);
            assert_eq!(&record["id"], id.as_str(), "{reference}");
            assert_eq!(record["exit_code"], index % 3);
        }
        assert_eq!(ctl.run(["wait", id]).code, index % 3);
        assert_eq!(
            ctl.run(["logs", id]).expect(0).out(),
            format!("out {index}\n")
        );
        assert_eq!(
            ctl.run(["logs", "-f", "--stderr", id]).expect(0).err(),
            format!("err {index}\n")
        );
        let result = ctl.json(["result", id]);
        assert_eq!(result["stdout"], format!("out {index}\n"));
        assert_eq!(ctl.run(["attach", id]).code, index % 3);
        assert!(
            ctl.run(["kill", "-s", "TERM", id])
                .expect(1)
                .err()
                .contains("is ")
        );
        assert_eq!(ctl.run(["cancel", id]).code, 0);
    }
    let all = ctl.json_lines(["ps", "-a"]);
    let expected: Vec<String> = (0..8).rev().map(|index| format!("job{index}")).collect();
    assert_eq!(names(&all), expected, "newest first, each once");
    let failed = ctl.json_lines([
        "ps",
        "-a",
        "--filter",
        "status=failed",
        "--filter",
        "label.kind=test",
    ]);
    assert_eq!(names(&failed), ["job7", "job5", "job4", "job2", "job1"]);
    let limited = ctl.json_lines(["ps", "-a", "--limit", "3"]);
    assert_eq!(names(&limited), ["job7", "job6", "job5"]);
    let none = ctl.json_lines(["ps", "-a", "--filter", "label.kind=other"]);
    assert!(none.is_empty());
}

#[test]
fn since_and_until_select_by_submission() {
    let daemon = Daemon::with_config(TWO_IN_MEMORY);
    let ctl = daemon.ctl();
    for index in 0..5 {
        let _ = ctl
            .run(["run", "--name", &format!("job{index}"), "true"])
            .expect(0);
    }
    let middle = ctl.inspect("job2")["submitted_at"]
        .as_str()
        .unwrap()
        .to_owned();
    let since = ctl.json_lines(["ps", "-a", "--since", &middle]);
    assert_eq!(names(&since), ["job4", "job3", "job2"]);
    let until = ctl.json_lines(["ps", "-a", "--until", &middle]);
    assert_eq!(names(&until), ["job1", "job0"]);
    assert!(ctl.json_lines(["ps", "-a", "--until", "1h"]).is_empty());
    assert_eq!(ctl.json_lines(["ps", "-a", "--since", "1h"]).len(), 5);
    let _ = ctl.run(["ps", "-a", "--since", "yesterweek"]).expect(2);
}

#[test]
fn a_name_means_an_execution_that_is_not_over_else_the_newest() {
    let daemon = Daemon::with_config(TWO_IN_MEMORY);
    let ctl = daemon.ctl();
    let gate = daemon.home().fifo("gate");
    // The oldest of the name still runs when the newest has left memory.
    let script = format!("read line < {}", gate.name());
    let oldest = ctl.line(["submit", "--name", "twin", "--shell", &script]);
    let newest = ctl.line(["submit", "--name", "twin", "true"]);
    ctl.wait(&newest, 0);
    for _ in 0..3 {
        let _ = ctl.run(["run", "true"]).expect(0);
    }
    assert_eq!(ctl.inspect("twin")["id"], oldest.as_str());
    gate.write_line("go");
    ctl.wait(&oldest, 0);
    assert_eq!(ctl.inspect("twin")["id"], newest.as_str());
}

#[test]
fn a_key_is_known_after_its_execution_has_left_memory() {
    let daemon = Daemon::with_config(TWO_IN_MEMORY);
    let ctl = daemon.ctl();
    let marks = daemon.home().work().join("marks");
    let script = format!("echo once >> {}", marks.display());
    let first = ctl.line(["submit", "--key", "k", "--shell", &script]);
    ctl.wait(&first, 0);
    for _ in 0..4 {
        let _ = ctl.run(["run", "true"]).expect(0);
    }
    assert_eq!(
        ctl.line(["submit", "--key", "k", "--shell", &script]),
        first
    );
    let conflict = ctl
        .run(["submit", "--key", "k", "--shell", "true"])
        .expect(1);
    assert!(conflict.err().contains("key"), "{conflict:?}");
    assert_eq!(fs::read_to_string(&marks).unwrap(), "once\n");
    // Once its execution is removed, the key is free.
    let _ = ctl.run(["rm", &first]).expect(0);
    assert_ne!(ctl.line(["submit", "--key", "k", "--shell", "true"]), first);
}

#[test]
fn rm_removes_record_and_log_of_finished_executions_alone() {
    let daemon = Daemon::with_config(TWO_IN_MEMORY);
    let ctl = daemon.ctl();
    let gate = daemon.home().fifo("gate");
    let running = ctl.submit(["sh", "-c", &format!("echo up; read line < {}", gate.name())]);
    let finished = ctl.submit(["echo", "done"]);
    ctl.wait(finished, 0);
    let refused = ctl.run(["rm", &running.to_string()]).expect(1);
    assert!(refused.err().contains("only finished"), "{refused:?}");
    assert!(daemon.home().log(finished).exists());
    let _ = ctl.run(["rm", &finished.to_string()]).expect(0);
    watch::until(&daemon.home().logs(), || {
        let gone = !daemon.home().log(finished).exists() && !daemon.home().index(finished).exists();
        gone.then_some(())
    });
    let _ = ctl.run(["inspect", &finished.to_string()]).expect(1);
    let _ = ctl.run(["rm", &finished.to_string()]).expect(1);
    gate.write_line("go");
    assert_eq!(ctl.run(["wait", &running.to_string()]).code, 0);
}

#[test]
fn prune_removes_finished_executions_that_match() {
    let daemon = Daemon::with_config(TWO_IN_MEMORY);
    let ctl = daemon.ctl();
    let gate = daemon.home().fifo("gate");
    let running = ctl.submit(["sh", "-c", &format!("read line < {}", gate.name())]);
    in_runtime(async { wait_started(&connect(&daemon).await, running).await });
    for code in [0, 1, 0, 1, 0] {
        let _ = ctl
            .run(["run", "--shell", &format!("echo x; exit {code}")])
            .expect(code);
    }
    let pruned = ctl.json(["prune", "--filter", "status=failed"]);
    assert_eq!(
        (&pruned["executions"], &pruned["log_bytes"]),
        (&2.into(), &4.into())
    );
    let statuses: Vec<Value> = ctl
        .json_lines(["ps", "-a"])
        .into_iter()
        .map(|line| line["status"].clone())
        .collect();
    assert_eq!(statuses, ["completed", "completed", "completed", "running"]);
    let pruned = ctl.json(["prune"]);
    assert_eq!(pruned["executions"], 3);
    assert_eq!(ctl.json_lines(["ps", "-a"]).len(), 1);
    // Numbers are never used again.
    assert_eq!(ctl.json(["submit", "true"])["number"], 7);
    gate.write_line("go");
}

#[test]
fn history_over_its_limit_is_removed_oldest_first_with_its_logs() {
    let daemon = Daemon::with_config(
        "[execution]\nmax_in_memory_executions = 2\ncleanup_interval_secs = 1\n\
         [history]\nmax_count = 3\nmin_age = \"0s\"",
    );
    let ctl = daemon.ctl();
    let mut ids: Vec<ExecutionId> = Vec::new();
    for index in 0..6 {
        let id = ctl.submit(["echo", &index.to_string()]);
        ctl.wait(id, 0);
        ids.push(id);
    }
    // Logs are removed after the records.
    watch::until(&daemon.home().logs(), || {
        let gone = ids[..3].iter().all(|id| !daemon.home().log(*id).exists());
        gone.then_some(())
    });
    let left = ctl.json_lines(["ps", "-a"]);
    let left: Vec<&str> = left
        .iter()
        .map(|line| line["id"].as_str().unwrap())
        .collect();
    let newest: Vec<String> = ids[3..].iter().rev().map(ToString::to_string).collect();
    assert_eq!(left, newest);
    assert!(ids[3..].iter().all(|id| daemon.home().log(*id).exists()));
}

/// Has a daemon with this configuration clean up by these limits of the history from now on. Only now, so that nothing
/// is removed before it was waited for.
fn limit_history(daemon: &Daemon, config: &str, limits: &str) {
    let file = daemon.home().path().join("escher.toml");
    fs::write(file, format!("{config}[history]\n{limits}\n")).unwrap();
    let _ = daemon.ctl().run(["reload"]).expect(0);
}

const CLEAN_UP_EACH_SECOND: &str = "[execution]\ncleanup_interval_secs = 1\n";

#[test]
fn an_execution_over_the_maximum_age_is_removed_with_its_log() {
    let daemon = Daemon::with_config(CLEAN_UP_EACH_SECOND);
    let ctl = daemon.ctl();
    let id = ctl.submit(["echo", "old"]);
    ctl.wait(id, 0);
    limit_history(
        &daemon,
        CLEAN_UP_EACH_SECOND,
        "max_age_secs = 1\nmin_age = \"0s\"",
    );
    watch::until_removed(&daemon.home().log(id));
    let _ = ctl.run(["inspect", &id.to_string()]).expect(1);
}

#[test]
fn a_log_over_the_limit_is_removed_and_its_record_says_so() {
    let daemon = Daemon::with_config(CLEAN_UP_EACH_SECOND);
    let ctl = daemon.ctl();
    let [first, second] = ["150000", "100000"].map(|bytes| {
        let id = ctl.submit(["head", "-c", bytes, "/dev/zero"]);
        ctl.wait(id, 0);
        id.to_string()
    });
    let log = daemon.home().log(first.parse().unwrap());
    assert_eq!(ctl.inspect(&first)["log_removed"], false);
    limit_history(
        &daemon,
        CLEAN_UP_EACH_SECOND,
        "max_bytes = 200000\nmin_age = \"0s\"",
    );
    watch::until_removed(&log);
    let record = ctl.inspect(&first);
    assert_eq!(
        (&record["log_removed"], &record["status"]),
        (&true.into(), &"completed".into())
    );
    assert_eq!(record["output"]["log_bytes"], 150_000);
    let inspected = ctl.run(["inspect", &first]).expect(0);
    let removed = "was removed by the limits of the history";
    assert!(inspected.out().contains(removed), "{inspected:?}");
    // Nobody takes what is missing for an empty output.
    for verb in ["logs", "result"] {
        let refused = ctl.run([verb, &first]).expect(1);
        assert!(refused.err().contains(removed), "{refused:?}");
        assert!(refused.err().contains("history.max_bytes"), "{refused:?}");
        let refused = ctl.run(["--json", verb, &first]).expect(1);
        let error: Value = serde_json::from_str(refused.err()).unwrap();
        assert_eq!(error["error"]["code"], "output-unavailable", "{error}");
    }
    let _ = ctl.run(["logs", "-f", &first]).expect(1);
    assert_eq!(ctl.inspect(&second)["log_removed"], false);
    let quota = ctl.json(["quota"]);
    assert_eq!(
        (&quota["finished"], &quota["log_bytes_share"]),
        (&2.into(), &200_000.into())
    );
    let bytes = quota["log_bytes"].as_u64().unwrap();
    assert!((100_000..101_000).contains(&bytes), "{quota}");
    let pruned = ctl.json(["prune"]);
    assert_eq!(pruned["log_bytes"], 100_000, "what was there");
}

#[test]
fn nothing_is_removed_within_the_minimum_age_except_on_request() {
    let config = "[execution]\nenable_auto_cleanup = false\n\
                  [history]\nmax_count = 0\nmax_bytes = 0\nmax_age_secs = 0\n";
    let daemon = Daemon::with_config(config);
    let ctl = daemon.ctl();
    let id = ctl.submit(["echo", "kept"]).to_string();
    ctl.wait(&id, 0);
    in_runtime(async {
        let client = connect(&daemon).await;
        let removed = client.cleanup_old_executions().await.unwrap();
        assert_eq!((removed.executions, removed.log_bytes), (0, 0));
    });
    assert_eq!(ctl.run(["logs", &id]).expect(0).out(), "kept\n");
    assert_eq!(ctl.json(["rm", &id])["executions"], 1);
}

#[test]
fn a_flood_of_one_user_costs_another_neither_a_result_nor_a_record() {
    if !require_root("commands of several users") {
        return;
    }
    const FLOOD: usize = 12;
    let config = "[daemon]\nsocket_mode = \"0666\"\n[execution]\ncleanup_interval_secs = 1\n";
    let daemon = Daemon::with_config(config);
    let [flooder, other] = [61_001, 61_002].map(|uid| daemon.ctl().as_user(uid, uid, &[]));
    let run = |ctl: &Ctl, script: &str| {
        let id = ctl.submit(["-w", "/", "sh", "-c", script]).to_string();
        ctl.wait(&id, 0);
        id
    };
    let kept = run(&other, "echo mine");
    let flood: Vec<String> = (0..FLOOD)
        .map(|_| run(&flooder, "head -c 20000 /dev/zero"))
        .collect();
    // Room for five records, and for five of the large logs.
    limit_history(
        &daemon,
        config,
        "max_count = 5\nmax_bytes = 70000\nmin_age = \"0s\"",
    );
    watch::until_removed(&daemon.home().log(flood[FLOOD - 4].parse().unwrap()));
    assert_eq!(other.run(["result", &kept]).expect(0).out(), "mine\n");
    let left = flooder.json_lines(["ps", "-a"]);
    let left: Vec<(&Value, &Value)> = left
        .iter()
        .map(|line| (&line["id"], &line["log_removed"]))
        .collect();
    let expected: Vec<(Value, Value)> = flood
        .iter()
        .rev()
        .zip([false, false, false, true])
        .map(|(id, is_removed)| (id.as_str().into(), is_removed.into()))
        .collect();
    let expected: Vec<(&Value, &Value)> = expected.iter().map(|(id, gone)| (id, gone)).collect();
    assert_eq!(left, expected, "the flooder has lost its oldest");
    let quota = other.json(["quota"]);
    assert_eq!(
        (&quota["finished"], &quota["finished_share"]),
        (&1.into(), &2.into()),
        "{quota}"
    );
}

#[test]
fn a_long_command_is_cut_in_the_record_once_it_has_ended() {
    let daemon = Daemon::with_config("[execution]\nmax_in_memory_executions = 1\n");
    let gate = daemon.home().fifo("gate");
    in_runtime(async {
        let client = connect(&daemon).await;
        let script = format!("read line < {} # {}", gate.name(), "x".repeat(100_000));
        let request = ExecutionRequest {
            key: Some("long".into()),
            ..shell(&script)
        };
        let id = client.execute(request.clone()).await.unwrap().id;
        let size = |record: &ExecutionRecord| -> usize {
            // The text for the shell is the last.
            record.command.to_argv().last().unwrap().len()
        };
        let record = client.get_status(id).await.unwrap();
        assert!(!record.command_cut && size(&record) > 100_000);
        gate.write_line("go");
        let ended = client.wait_for_completion(id).await.unwrap();
        assert!(ended.command_cut && size(&ended) <= KEPT_COMMAND_BYTES);
        let other = client.execute(exec(["true"])).await.unwrap().id;
        client.wait_for_completion(other).await.unwrap();
        assert_eq!(
            client.get_status(id).await.unwrap(),
            ended,
            "from the store"
        );
        // The key still stands for the whole request.
        let again = client.execute(request.clone()).await.unwrap();
        assert_eq!((again.id, again.existing), (id, true));
        let changed = ExecutionRequest {
            key: Some("long".into()),
            ..shell(&format!("{script}x"))
        };
        let conflict = client.execute(changed).await.unwrap_err();
        assert_eq!(conflict.as_api().unwrap().code, ErrorCode::KEY_CONFLICT);
    });
}

#[test]
fn whoever_reads_a_log_when_it_is_removed_is_told_so_and_keeps_nothing_of_it() {
    let daemon = Daemon::start();
    let ctl = daemon.ctl();
    // More than escherd reads ahead for a client.
    let script = "head -c 8000000 /dev/zero | tr '\\0' x";
    let id = ctl.submit(["--shell", script]);
    ctl.wait(id, 0);
    let log = File::open(daemon.home().log(id)).unwrap();
    in_runtime(async {
        let client: Client = connect(&daemon).await;
        let mut output = client.read_logs(id, OutputRange::default()).await.unwrap();
        let is_output = |item: OutputItem| {
            let chunk = item.into_chunk().expect("no gap");
            chunk.data.iter().all(|byte| *byte == b'x')
        };
        assert!(is_output(output.next().await.unwrap().unwrap()));
        assert_eq!(client.remove_execution(id).await.unwrap().executions, 1);
        // It goes after the log.
        watch::until_removed(&daemon.home().index(id));
        let error = loop {
            match output.next().await.expect("the end is an error") {
                Ok(item) => assert!(is_output(item)),
                Err(error) => break error,
            }
        };
        let code = error.as_api().unwrap().code;
        assert_eq!(code, ErrorCode::OUTPUT_UNAVAILABLE);
        assert!(client.get_status(id).await.is_err());
    });
    assert_eq!(log.metadata().unwrap().len(), 0);
}

#[test]
fn the_environment_of_a_command_is_not_stored() {
    let daemon = Daemon::start();
    let canary = "canary-in-the-environment";
    in_runtime(async {
        let client = connect(&daemon).await;
        let request = ExecutionRequest {
            environment: vec![("SECRET".into(), canary.into())],
            ..shell("test -n \"$SECRET\"")
        };
        let id = client.execute(request).await.unwrap().id;
        assert_eq!(
            client.wait_for_completion(id).await.unwrap().status,
            Status::Completed
        );
    });
    // A clean stop writes everything into the database itself.
    let home = daemon.home().clone();
    let mut daemon = daemon;
    daemon.terminate();
    let mut found = Vec::new();
    for entry in fs::read_dir(home.state()).unwrap().flatten() {
        let mut bytes = Vec::new();
        if entry.path().is_file() {
            fs::File::open(entry.path())
                .unwrap()
                .read_to_end(&mut bytes)
                .unwrap();
        }
        if bytes
            .windows(canary.len())
            .any(|window| window == canary.as_bytes())
        {
            found.push(entry.path());
        }
    }
    assert!(found.is_empty(), "the variable is stored in {found:?}");
    daemon.stop();
}
