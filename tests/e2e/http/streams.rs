//! Output and events as they come, and resumed exactly.

use escher_tests::{Daemon, HttpAnswer, HttpPeer, http};
use serde_json::{Value, json};

fn get(daemon: &Daemon, path: &str, headers: &str) -> HttpAnswer {
    let mut peer = HttpPeer::connect(daemon);
    peer.request(&format!("GET {path}"), headers, b"");
    peer.answer()
}

#[test]
fn a_range_of_the_output_has_its_place_in_the_log() {
    let daemon = Daemon::start();
    let _ = daemon.ctl().run(["run", "printf", "0123456789"]).expect(0);
    let path = "/v1/executions/1/output";
    for (range, status, body, content_range) in [
        ("bytes=0-", 206, "0123456789", "bytes 0-9/10"),
        ("bytes=3-5", 206, "345", "bytes 3-5/10"),
        ("bytes=8-100", 206, "89", "bytes 8-9/10"),
        ("bytes=10-", 416, "", "bytes */10"),
        ("bytes=99-", 416, "", "bytes */10"),
        ("bytes=1-2,4-5", 200, "0123456789", ""),
    ] {
        let answer = get(&daemon, path, &format!("Range: {range}\r\n")).expect(status);
        assert_eq!(answer.text(), body, "{range}");
        assert_eq!(
            answer.head.header("content-range"),
            content_range,
            "{range}"
        );
    }
    let tail = get(&daemon, &format!("{path}?tail=1"), "").expect(200);
    assert_eq!(
        (tail.text(), tail.head.header("escher-offset")),
        ("0123456789", "0")
    );
    let rest = get(&daemon, &format!("{path}?offset=7"), "").expect(200);
    assert_eq!(
        (rest.text(), rest.head.header("escher-offset")),
        ("789", "7")
    );
}

#[test]
fn both_kinds_of_streams_have_the_same_objects() {
    let daemon = Daemon::start();
    let _ = daemon
        .ctl()
        .run(["run", "sh", "-c", r"echo out; printf '\377' >&2"])
        .expect(0);
    let path = "/v1/executions/1/output?follow";
    let lines = get(&daemon, path, "Accept: application/x-ndjson\r\n")
        .expect(200)
        .lines();
    let events = get(&daemon, path, "Accept: text/event-stream\r\n").expect(200);
    let data: Vec<Value> = events
        .text()
        .lines()
        .filter_map(|line| line.strip_prefix("data: "))
        .map(|data| serde_json::from_str(data).unwrap())
        .collect();
    assert_eq!(data, lines);
    assert_eq!(lines.last(), Some(&json!({"end": 5})));
    assert_eq!(
        lines[..lines.len() - 1],
        daemon.ctl().json_lines(["logs", "1"])
    );
    assert!(events.text().starts_with("retry: 1000\n\n"));
    assert!(
        events.text().contains("id: 4\nevent: stdout\n"),
        "{}",
        events.text()
    );
    let rest = get(
        &daemon,
        path,
        "Accept: text/event-stream\r\nLast-Event-ID: 4\r\n",
    )
    .expect(200);
    assert!(rest.text().contains("\"base64\":\"/w==\"") && !rest.text().contains("out"));
}

/// Follows a command over the death of escherd, by each kind of stream.
#[test]
fn output_is_resumed_exactly_over_a_killed_escherd() {
    let mut daemon = Daemon::builder().leave_commands().start();
    let home = daemon.home().clone();
    let gate = home.fifo("gate");
    let script = format!("seq 1 500; read line < {}; seq 501 1000", gate.name());
    let body = json!({"command": ["sh", "-c", script]}).to_string();
    let execution = http(&daemon, "POST /v1/executions", &body)
        .expect(201)
        .json();
    let path = format!(
        "/v1/executions/{}/output",
        execution["id"].as_str().unwrap()
    );
    let expected: String = (1..=1000).map(|number| format!("{number}\n")).collect();
    let half = (1..=500)
        .map(|number| format!("{number}\n"))
        .collect::<String>()
        .len();

    // Until the first half has arrived.
    let mut octets = HttpPeer::connect(&daemon);
    octets.request(&format!("GET {path}?follow"), "", b"");
    assert_eq!(octets.head().unwrap().status, 200);
    let mut received = Vec::new();
    while received.len() < half {
        received.extend(octets.chunk().expect("the first half"));
    }
    let mut events = HttpPeer::connect(&daemon);
    events.request(
        &format!("GET {path}?follow"),
        "Accept: text/event-stream\r\n",
        b"",
    );
    assert_eq!(events.head().unwrap().status, 200);
    let mut seen = String::new();
    while !seen.contains(&format!("id: {half}\n")) {
        seen += &String::from_utf8(events.chunk().expect("the first half")).unwrap();
    }
    daemon.kill();
    assert!(octets.chunk().is_none(), "the body is broken off");

    let next = Daemon::builder().home(&home).start();
    gate.write_line("go");
    let rest = get(
        &next,
        &format!("{path}?follow&offset={}", received.len()),
        "",
    )
    .expect(200);
    received.extend(rest.body);
    assert!(String::from_utf8(received).unwrap() == expected);
    let headers = format!("Accept: text/event-stream\r\nLast-Event-ID: {half}\r\n");
    let rest = get(&next, &format!("{path}?follow"), &headers).expect(200);
    let texts = [seen.as_str(), rest.text()].map(text_of_events).concat();
    assert!(texts == expected);
}

fn text_of_events(events: &str) -> String {
    let data = events
        .lines()
        .filter_map(|line| line.strip_prefix("data: "));
    let objects = data.map(|data| serde_json::from_str::<Value>(data).unwrap());
    objects
        .filter_map(|object| object["text"].as_str().map(str::to_owned))
        .collect()
}

#[test]
fn events_go_on_after_the_last_one() {
    let daemon = Daemon::start();
    let _ = daemon.ctl().run(["run", "true"]).expect(0);
    let all = get(&daemon, "/v1/events", "").expect(200).lines();
    assert_eq!(all.len(), 3);
    let after = get(&daemon, "/v1/events?after=1", "").expect(200).lines();
    assert_eq!(after, all[1..]);
    let mut follower = HttpPeer::connect(&daemon);
    let headers = "Accept: text/event-stream\r\nLast-Event-ID: 3\r\n";
    follower.request("GET /v1/events?follow", headers, b"");
    assert_eq!(follower.head().unwrap().status, 200);
    let id = daemon.ctl().submit(["true"]).to_string();
    let mut seen = String::new();
    while !seen.contains("event: finished") {
        seen += &String::from_utf8(follower.chunk().expect("events")).unwrap();
    }
    assert!(
        seen.contains("id: 4\nevent: submitted\n") && seen.contains(&id),
        "{seen}"
    );
}
