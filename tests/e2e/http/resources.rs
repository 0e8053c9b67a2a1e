//! Resources, their answers and their errors.

use escher_tests::{Daemon, HttpPeer, child_program, http, require_program, require_root};
use serde_json::{Value, json};

fn submit(daemon: &Daemon, body: &Value) -> Value {
    http(daemon, "POST /v1/executions", &body.to_string())
        .expect(201)
        .json()
}

#[test]
fn a_command_is_submitted_awaited_and_read() {
    let daemon = Daemon::start();
    let body = json!({"command": ["sh", "-c", "echo out; echo err >&2; exit 3"], "name": "n"});
    let submitted = http(&daemon, "POST /v1/executions", &body.to_string()).expect(201);
    let id = submitted.json()["id"].as_str().unwrap().to_owned();
    let location = submitted.head.header("location");
    assert_eq!(location, format!("/v1/executions/{id}"));
    let finished = http(&daemon, &format!("GET {location}?wait=60"), "").expect(200);
    assert_eq!(finished.json()["exit_code"], 3);
    let result = http(&daemon, &format!("GET {location}/result"), "").expect(200);
    assert_eq!(result.json()["stdout"], "out\n");
    assert_eq!(result.json()["stderr"], "err\n");
    let stdout = http(&daemon, &format!("GET {location}/output?stream=stdout"), "").expect(200);
    assert_eq!(stdout.text(), "out\n");
    let removed = http(&daemon, &format!("DELETE {location}"), "").expect(200);
    assert_eq!(removed.json()["executions"], 1);
    let _ = http(&daemon, &format!("GET {location}"), "").expect(404);
}

#[test]
fn a_key_names_the_execution_that_it_has_made() {
    let daemon = Daemon::start();
    let body = json!({"command": ["true"], "key": "k"}).to_string();
    let first = http(&daemon, "POST /v1/executions", &body)
        .expect(201)
        .json();
    let second = http(&daemon, "POST /v1/executions", &body)
        .expect(200)
        .json();
    assert_eq!(first["id"], second["id"]);
    assert_eq!(
        (&first["existing"], &second["existing"]),
        (&json!(false), &json!(true))
    );

    let with_header = |key: &str, body: &str| {
        let mut peer = HttpPeer::connect(&daemon);
        let headers = format!("Content-Type: application/json\r\nIdempotency-Key: {key}\r\n");
        peer.request("POST /v1/executions", &headers, body.as_bytes());
        peer.answer()
    };
    let third = with_header("k", r#"{"command":["true"]}"#)
        .expect(200)
        .json();
    assert_eq!(first["id"], third["id"]);
    let differing = with_header("other", &body).expect(422).json();
    assert_eq!(differing["field"], "Idempotency-Key");
    let conflict = with_header("k", r#"{"command":["false"]}"#)
        .expect(422)
        .json();
    assert_eq!(conflict["code"], "key-conflict");
}

/// What both faces say of an execution is the same object.
#[test]
fn records_are_those_of_the_framed_face() {
    let daemon = Daemon::start();
    let ctl = daemon.ctl();
    let _ = ctl
        .run([
            "run",
            "-l",
            "a=b",
            "--name",
            "n",
            "sh",
            "-c",
            "echo x; exit 2",
        ])
        .expect(2);
    let _ = ctl.run(["run", "printf", r"\377"]).expect(0);
    let id = ctl.submit(["sleep", "1000"]).to_string();
    escher_tests::in_runtime(async {
        escher_tests::wait_started(&escher_tests::connect(&daemon).await, id.parse().unwrap())
            .await;
    });
    let items = |path: &str| http(&daemon, path, "").expect(200).json()["items"].clone();
    assert_eq!(
        items("GET /v1/executions?all"),
        json!(ctl.json_lines(["ps", "-a"]))
    );
    assert_eq!(items("GET /v1/executions"), json!(ctl.json_lines(["ps"])));
    for number in ["1", "2"] {
        let path = format!("GET /v1/executions/{number}");
        let record = http(&daemon, &path, "").expect(200).json();
        assert_eq!(record, ctl.inspect(number));
        let result = http(&daemon, &format!("{path}/result"), "")
            .expect(200)
            .json();
        assert_eq!(
            result,
            daemon.ctl().run(["--json", "result", number]).json_lines()[0]
        );
    }
    assert_eq!(
        items("GET /v1/settings"),
        json!(ctl.json_lines(["config", "show"]))
    );
    assert_eq!(items("GET /v1/quotas"), json!(ctl.json_lines(["quota"])));
    let info = http(&daemon, "GET /v1/info", "").expect(200).json();
    assert_eq!(info, ctl.json(["info"]));
    let lines = http(&daemon, "GET /v1/events", "").expect(200).lines();
    assert_eq!(lines, ctl.json_lines(["events"]));
    let metrics = http(&daemon, "GET /metrics", "").expect(200);
    assert!(metrics.text().ends_with("# EOF\n"));
    let _ = http(&daemon, "GET /v1/doctor", "").expect(200);
    let cancelled = http(
        &daemon,
        &format!("POST /v1/executions/{id}/cancel"),
        "{\"kill\":true}",
    );
    assert_eq!(cancelled.expect(200).json()["outcome"], "ending");
    ctl.wait(&id, 137);
}

#[test]
fn a_list_is_read_page_by_page() {
    let daemon = Daemon::start();
    for _ in 0..5 {
        let _ = daemon.ctl().run(["run", "true"]).expect(0);
    }
    let (mut numbers, mut cursor) = (Vec::new(), String::new());
    loop {
        let path = format!("GET /v1/executions?all&limit=2{cursor}");
        let page = http(&daemon, &path, "").expect(200).json();
        let items = page["items"].as_array().unwrap();
        numbers.push(
            items
                .iter()
                .map(|item| item["number"].as_u64().unwrap())
                .collect::<Vec<_>>(),
        );
        match page["next"].as_u64() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(numbers, [vec![5, 4], vec![3, 2], vec![1]]);
    let none = http(&daemon, "GET /v1/executions?all&status=failed", "").expect(200);
    assert_eq!(none.json(), json!({"items": [], "next": null}));
    let dry = http(&daemon, "POST /v1/executions:prune?status=completed", "")
        .expect(200)
        .json();
    assert_eq!(dry["executions"], 5);
    let _ = http(&daemon, "GET /v1/executions/1", "").expect(200);
    let pruned = http(&daemon, "POST /v1/executions:prune", "{\"dry_run\":false}").expect(200);
    assert_eq!(pruned.json()["executions"], 5);
}

#[test]
fn a_standard_input_is_written_piece_by_piece() {
    let daemon = Daemon::start();
    let execution = submit(&daemon, &json!({"command": ["cat"], "stdin": true}));
    let path = format!("/v1/executions/{}", execution["id"].as_str().unwrap());
    let put = |query: &str, bytes: &[u8]| {
        let mut peer = HttpPeer::connect(&daemon);
        peer.request(&format!("PUT {path}/stdin{query}"), "", bytes);
        peer.answer()
    };
    assert_eq!(put("?offset=0", b"hello ").expect(200).json()["offset"], 6);
    let gap = put("?offset=9", b"x").expect(409).json();
    assert_eq!(
        (&gap["code"], &gap["offset"]),
        (&json!("stdin-offset"), &json!(6))
    );
    // A repeat after a lost answer does no harm.
    assert_eq!(put("?offset=0", b"hello ").expect(200).json()["offset"], 6);
    let large = vec![b'x'; 128 * 1024];
    assert_eq!(
        put("?offset=6&end", &large).expect(200).json()["offset"],
        6 + 128 * 1024
    );
    let result = http(&daemon, &format!("GET {path}/output?follow"), "").expect(200);
    assert_eq!(result.body.len(), 6 + 128 * 1024);
    assert!(result.body.starts_with(b"hello x"));
    let _ = put("?end", b"").expect(409);
}

#[test]
fn errors_name_their_cause_and_what_to_do() {
    let daemon = Daemon::start();
    let _ = daemon.ctl().run(["run", "--name", "n", "true"]).expect(0);
    for (first, body, status, code, field) in [
        ("GET /v1/nothing", "", 404, "not-found", Value::Null),
        ("PUT /v1/info", "", 405, "invalid-request", Value::Null),
        ("GET /v1/executions/17", "", 404, "not-found", Value::Null),
        (
            "GET /v1/executions?lable=x",
            "",
            422,
            "invalid-request",
            json!("lable"),
        ),
        (
            "GET /v1/executions?status=gone",
            "",
            422,
            "invalid-request",
            json!("status"),
        ),
        (
            "GET /v1/executions?limit=0",
            "",
            422,
            "invalid-request",
            json!("limit"),
        ),
        (
            "POST /v1/executions",
            "{\"command\":[\"x\"],\"nmae\":\"n\"}",
            422,
            "invalid-request",
            json!("nmae"),
        ),
        (
            "POST /v1/executions",
            "{\"command\":[\"x\"],\"limits\":{\"memory_max\":\"1G\"}}",
            422,
            "invalid-request",
            json!("limits.memory_max"),
        ),
        (
            "POST /v1/executions",
            "{\"command\":[]}",
            422,
            "invalid-request",
            Value::Null,
        ),
        (
            "POST /v1/executions",
            "{",
            422,
            "invalid-request",
            Value::Null,
        ),
        (
            "POST /v1/executions",
            "",
            422,
            "invalid-request",
            Value::Null,
        ),
        (
            "POST /v1/executions/1/signal",
            "{\"signal\":15}",
            409,
            "not-running",
            Value::Null,
        ),
    ] {
        let answer = http(&daemon, first, body).expect(status);
        assert_eq!(
            answer.head.header("content-type"),
            "application/problem+json"
        );
        let problem = answer.json();
        assert_eq!(problem["code"], code, "{first}");
        assert_eq!(problem["status"], status, "{first}");
        assert_eq!(problem["field"], field, "{first}: {problem}");
        let path = format!("GET {}", problem["type"].as_str().unwrap());
        assert_eq!(http(&daemon, &path, "").expect(200).json()["code"], code);
    }
    let misspelled = http(&daemon, "POST /v1/executions", "{\"comand\":[\"x\"]}").expect(422);
    assert_eq!(misspelled.json()["hint"], "did you mean command?");
    let mut peer = HttpPeer::connect(&daemon);
    peer.request("GET /v1/info", "Origin: http://localhost\r\n", b"");
    let _ = peer.answer().expect(403);
    let mut peer = HttpPeer::connect(&daemon);
    peer.request("POST /v1/executions", "Content-Type: text/plain\r\n", b"{}");
    let _ = peer.answer().expect(415);
    let mut peer = HttpPeer::connect(&daemon);
    peer.request("GET /v1/executions/1/output", "Accept: text/html\r\n", b"");
    let _ = peer.answer().expect(406);
}

#[test]
fn users_reach_their_own_executions_alone() {
    if !require_root("connections of other users")
        || !require_program("curl", "requests of other users")
    {
        return;
    }
    let daemon = Daemon::with_config("[daemon]\nsocket_mode = \"0666\"\n");
    let curl = |uid: u32, arguments: &[&str]| {
        let socket = daemon.home().socket();
        let mut command = std::process::Command::new(child_program());
        command
            .args([
                "run-as",
                &format!("{uid}:{uid}:"),
                "curl",
                "-sS",
                "--unix-socket",
            ])
            .arg(socket)
            .args(arguments)
            .current_dir("/");
        let output = command.output().unwrap();
        assert!(output.status.success(), "{output:?}");
        serde_json::from_slice::<Value>(&output.stdout).unwrap()
    };
    let submission = r#"{"command":["id","-u"],"working_dir":"/","name":"hers"}"#;
    let base = "http://escher/v1/executions";
    let json_type = "Content-Type: application/json";
    let hers = curl(61_001, &["-H", json_type, "-d", submission, base]);
    assert_eq!(hers["uid"], 61_001);
    let id = hers["id"].as_str().unwrap();
    let own = curl(61_001, &[&format!("{base}/{id}/result")]);
    assert_eq!(own["stdout"], "61001\n");
    for path in ["", "/result", "/output"] {
        let foreign = curl(61_002, &[&format!("{base}/{id}{path}")]);
        let missing_id = "01920f3e-6d2c-7c31-8f35-0d6c7e9b1a42";
        let missing = curl(61_002, &[&format!("{base}/{missing_id}{path}")]);
        assert_eq!(foreign["code"], "not-found");
        // Another user's execution and one that does not exist look the same.
        assert_eq!(
            foreign.to_string().replace(id, missing_id),
            missing.to_string()
        );
    }
    assert_eq!(curl(61_002, &[&format!("{base}?all")])["items"], json!([]));
    assert_eq!(
        curl(61_002, &["-X", "POST", "http://escher/v1/reload"])["code"],
        "permission-denied"
    );
    let by_user = curl(0, &[&format!("{base}/hers?user=61001")]);
    assert_eq!(by_user["id"], hers["id"]);
}
