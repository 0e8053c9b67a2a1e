//! Clients that do not keep to HTTP get a clear answer, or are disconnected; others notice nothing.

use escher_tests::{Daemon, HttpPeer, http};
use serde_json::json;

fn assert_serves(daemon: &Daemon) {
    let _ = http(daemon, "GET /v1/info", "").expect(200);
}

#[test]
fn malformed_heads_are_refused() {
    let daemon = Daemon::start();
    let long = "x".repeat(17 * 1024);
    let many = "A: b\r\n".repeat(200);
    for (head, status) in [
        ("GET\r\n\r\n".to_owned(), 400),
        (
            "GET /v1/info HTTP/1.1\r\nHost escher\r\n\r\n".to_owned(),
            400,
        ),
        (format!("GET /v1/info HTTP/1.1\r\nA: {long}\r\n\r\n"), 431),
        (format!("GET /v1/info HTTP/1.1\r\n{many}\r\n"), 431),
        (format!("GET /{long} HTTP/1.1\r\nHost: escher\r\n\r\n"), 431),
        (
            "POST /v1/executions HTTP/1.1\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}"
                .to_owned(),
            400,
        ),
        (
            "POST /v1/executions HTTP/1.1\r\nContent-Length: -1\r\n\r\n".to_owned(),
            400,
        ),
        (
            "POST /v1/executions HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n".to_owned(),
            400,
        ),
    ] {
        let mut peer = HttpPeer::connect(&daemon);
        peer.send(&head);
        let shown = &head[..head.len().min(60)];
        let answer = peer
            .head()
            .unwrap_or_else(|| panic!("no answer to {shown:?}"));
        assert_eq!(answer.status, status, "{shown:?}");
        assert!(peer.rest().len() < 1024, "the connection ends: {shown:?}");
    }
    let mut peer = HttpPeer::connect(&daemon);
    peer.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    assert!(peer.head().is_none(), "HTTP/2 is not spoken here");
    assert_serves(&daemon);
}

#[test]
fn a_body_that_is_too_long_is_refused_by_its_length() {
    let daemon = Daemon::start();
    for (first, length) in [
        ("POST /v1/executions", 8 * 1024 * 1024 + 1),
        ("POST /v1/executions/1/cancel", 128 * 1024 + 1),
        ("PUT /v1/executions/1/stdin", 128 * 1024 + 1),
    ] {
        let mut peer = HttpPeer::connect(&daemon);
        // It asks first, and so is told before it sends anything.
        let headers = format!("Content-Length: {length}\r\nExpect: 100-continue\r\n");
        peer.request(first, &headers, b"");
        assert_eq!(peer.answer().expect(413).json()["code"], "frame-too-large");
    }
    // Without a length it is refused once it is too long.
    let mut peer = HttpPeer::connect(&daemon);
    peer.request(
        "POST /v1/executions/1/cancel",
        "Transfer-Encoding: chunked\r\n",
        b"",
    );
    let chunk = format!("8000\r\n{}\r\n", " ".repeat(0x8000));
    for _ in 0..5 {
        peer.send(&chunk);
    }
    let _ = peer.answer().expect(413);
    assert_serves(&daemon);
}

#[test]
fn expected_chunked_and_pipelined_requests_are_answered_in_order() {
    let daemon = Daemon::start();
    let body = json!({"command": ["true"]}).to_string();
    let mut peer = HttpPeer::connect(&daemon);
    let headers = format!(
        "Content-Type: application/json\r\nContent-Length: {}\r\nExpect: 100-continue\r\n",
        body.len()
    );
    peer.request("POST /v1/executions", &headers, b"");
    assert_eq!(peer.head().unwrap().status, 100);
    peer.send(&body);
    assert_eq!(peer.answer().expect(201).json()["number"], 1);

    let headers = "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n";
    peer.request("POST /v1/executions", headers, b"");
    for byte in body.bytes() {
        peer.send([b"1\r\n", &[byte][..], b"\r\n"].concat());
    }
    peer.send("0\r\n\r\n");
    assert_eq!(peer.answer().expect(201).json()["number"], 2);

    for number in [2, 1, 3] {
        peer.request(&format!("GET /v1/executions/{number}"), "", b"");
    }
    assert_eq!(peer.answer().expect(200).json()["number"], 2);
    assert_eq!(peer.answer().expect(200).json()["number"], 1);
    let _ = peer.answer().expect(404);
}

#[test]
fn clients_of_http_1_0_get_a_body_that_ends_with_the_connection() {
    let daemon = Daemon::start();
    let _ = daemon.ctl().run(["run", "echo", "hello"]).expect(0);
    let mut peer = HttpPeer::connect(&daemon);
    peer.send("GET /v1/executions/1/output?follow HTTP/1.0\r\n\r\n");
    let answer = peer.answer().expect(200);
    assert_eq!(answer.head.header("transfer-encoding"), "");
    assert_eq!(answer.text(), "hello\n");
}

#[test]
fn any_host_is_accepted() {
    let daemon = Daemon::start();
    for host in ["Host: %2Frun%2Fescher%2Fescherd.sock\r\n", "Host: \r\n", ""] {
        let mut peer = HttpPeer::connect(&daemon);
        peer.send(format!("GET /v1/info HTTP/1.1\r\n{host}\r\n"));
        let _ = peer.answer().expect(200);
    }
}

/// A head that never ends keeps nobody from stopping escherd.
#[test]
fn unfinished_requests_do_not_delay_a_stop() {
    let daemon = Daemon::start();
    let mut head = HttpPeer::connect(&daemon);
    head.send("GET /v1/info HTT");
    let mut idle = HttpPeer::connect(&daemon);
    idle.request("GET /v1/info", "", b"");
    let _ = idle.answer().expect(200);
    let mut follower = HttpPeer::connect(&daemon);
    follower.request(
        "GET /v1/events?follow",
        "Accept: text/event-stream\r\n",
        b"",
    );
    assert_eq!(follower.head().unwrap().status, 200);
    daemon.stop();
    let rest = String::from_utf8_lossy(&follower.rest()).into_owned();
    assert!(rest.contains("shutting-down"), "{rest}");
}
