//! Clients that follow a command, and disconnect: neither affects the command or its output.

use escher_client::{Client, OutputRange, Status};
use escher_tests::{Daemon, Fifo, RunningProgram, collect, connect, in_runtime, next_chunk, shell};
use nix::sys::signal::Signal;

/// A script that writes 1000 lines, waits for a line at `gate`, and writes 1000 more.
fn two_halves(gate: &Fifo) -> String {
    format!(
        "seq 1 1000; read line < {}; seq 1001 2000; exit 4",
        gate.name()
    )
}

fn both_halves() -> String {
    (1..=2000).map(|n| format!("{n}\n")).collect()
}

#[test]
fn a_client_killed_while_following_leaves_the_command_running() {
    let daemon = Daemon::start();
    let gate = daemon.home().fifo("gate");
    let command = daemon
        .ctl()
        .command(["run", "--name", "long", "sh", "-c", &two_halves(&gate)]);
    let mut run = RunningProgram::spawn_unread(command, escher_tests::DEADLINE);
    // Until the first half has arrived.
    let mut half = [0; 3893];
    std::io::Read::read_exact(&mut run.stdout(), &mut half).unwrap();
    assert!(half.ends_with(b"\n1000\n"));
    run.signal(Signal::SIGKILL);
    let _ = run.wait().expect(-9);

    assert_eq!(daemon.ctl().inspect("long")["status"], "running");
    let attach = daemon.ctl().start(["attach", "long"]);
    let follow = daemon.ctl().start(["logs", "-f", "long"]);
    gate.write_line("go");
    let attached = attach.wait().expect(4);
    assert!(attached.out() == both_halves(), "{attached:?}");
    let followed = follow.wait().expect(0);
    assert!(followed.out() == both_halves(), "{followed:?}");
    assert!(daemon.ctl().run(["attach", "long"]).expect(4).out() == both_halves());
}

#[test]
fn a_client_that_disconnects_does_not_cancel() {
    let daemon = Daemon::start();
    let gate = daemon.home().fifo("gate");
    let id = in_runtime(async {
        let client = connect(&daemon).await;
        let id = client.execute(shell(&two_halves(&gate))).await.unwrap().id;
        let mut output = client.follow(id, OutputRange::default()).await.unwrap();
        output.next().await.unwrap().unwrap();
        id
    });
    gate.write_line("go");
    in_runtime(async {
        let record = connect(&daemon)
            .await
            .wait_for_completion(id)
            .await
            .unwrap();
        assert_eq!(record.status, Status::Failed);
        assert_eq!(record.cancelled_by, None);
    });
}

/// Reads a few chunks, disconnects, and goes on at the offset over a new connection, up to the end.
#[test]
fn reading_from_an_offset_has_neither_gap_nor_repeat() {
    let daemon = Daemon::start();
    let gate = daemon.home().fifo("gate");
    let script = format!(
        "seq 1 200000; read line < {}; seq 200001 400000",
        gate.name()
    );
    let lines = |range: std::ops::RangeInclusive<u32>| range.map(|n| format!("{n}\n")).collect();
    let half: String = lines(1..=200_000);
    let expected: String = lines(1..=400_000);
    in_runtime(async {
        let id = connect(&daemon)
            .await
            .execute(shell(&script))
            .await
            .unwrap()
            .id;
        let (mut text, mut offset) = (Vec::new(), 0);
        let mut connections = 0;
        loop {
            let client: Client = connect(&daemon).await;
            connections += 1;
            let range = OutputRange::from_offset(offset);
            let mut output = client.follow(id, range).await.unwrap();
            let mut is_at_end = false;
            for _ in 0..3 {
                match output.next().await {
                    Some(chunk) => {
                        let chunk = chunk.unwrap().into_chunk().unwrap();
                        assert_eq!(chunk.offset, offset);
                        offset += chunk.data.len() as u64;
                        text.extend_from_slice(&chunk.data);
                    }
                    None => is_at_end = true,
                }
                if offset == half.len() as u64 {
                    gate.write_line("go"); // The first half was read.
                }
            }
            if is_at_end {
                break;
            }
        }
        assert!(connections > 2, "{connections}");
        assert!(text == expected.as_bytes(), "{} bytes", text.len());
    });
}

/// Offsets count bytes: they may be in the middle of a character, a line or a chunk.
#[test]
fn any_offset_is_valid() {
    let daemon = Daemon::start();
    in_runtime(async {
        let client = connect(&daemon).await;
        let id = client
            .execute(shell("echo Grüße; echo ß >&2"))
            .await
            .unwrap()
            .id;
        client.wait_for_completion(id).await.unwrap();
        let all = |range| client.follow(id, range);
        let (out, err, end) = collect(all(OutputRange::default()).await.unwrap(), 0).await;
        let whole = [out, err].concat();
        for offset in 0..=end {
            let range = OutputRange::from_offset(offset);
            let (out, err, last) = collect(all(range).await.unwrap(), offset).await;
            assert_eq!([out, err].concat(), &whole[offset as usize..]);
            assert_eq!(last, end);
        }
    });
}

#[test]
fn output_is_followed_live() {
    let daemon = Daemon::start();
    let gate = daemon.home().fifo("gate");
    let script = format!(
        "while read line < {}; do echo \"got $line\"; done",
        gate.name()
    );
    in_runtime(async {
        let client = connect(&daemon).await;
        let id = client.execute(shell(&script)).await.unwrap().id;
        let mut output = client.follow(id, OutputRange::default()).await.unwrap();
        for round in 0..100 {
            gate.write_line(&round.to_string());
            let expected = format!("got {round}\n");
            let mut text = Vec::new();
            while text.len() < expected.len() {
                text.extend_from_slice(&next_chunk(&mut output).await.data);
            }
            assert_eq!(String::from_utf8(text).unwrap(), expected);
        }
        client
            .cancel(id, escher_client::CancelMode::Kill)
            .await
            .unwrap();
        assert!(
            output.next().await.is_none(),
            "the stream ends with the command"
        );
    });
}

#[test]
fn many_clients_follow_one_command() {
    let daemon = Daemon::start();
    let gate = daemon.home().fifo("gate");
    in_runtime(async {
        let client = connect(&daemon).await;
        let id = client.execute(shell(&two_halves(&gate))).await.unwrap().id;
        let mut followers = Vec::new();
        for _ in 0..20 {
            let follower = connect(&daemon).await;
            followers.push(follower.follow(id, OutputRange::default()).await.unwrap());
        }
        gate.write_line("go");
        for follower in followers {
            let (stdout, _, _) = collect(follower, 0).await;
            assert!(stdout == both_halves().as_bytes());
        }
    });
}

#[test]
fn logs_shows_the_last_lines_and_then_follows() {
    let daemon = Daemon::start();
    let gate = daemon.home().fifo("gate");
    let ctl = daemon.ctl();
    let id = ctl.submit(["sh", "-c", &two_halves(&gate)]).to_string();
    in_runtime(async {
        // Until the first half has arrived.
        let client = connect(&daemon).await;
        let mut output = client
            .follow(id.as_str(), OutputRange::default())
            .await
            .unwrap();
        let mut length = 0;
        while length < 3893 {
            length += next_chunk(&mut output).await.data.len();
        }
    });
    assert_eq!(
        ctl.run(["logs", "-n", "2", &id]).expect(0).out(),
        "999\n1000\n"
    );
    assert_eq!(ctl.run(["logs", "-n", "0", &id]).expect(0).out(), "");
    let mut command = ctl.command(["logs", "-f", "-n", "1", &id]);
    command.stdin(std::process::Stdio::null());
    let mut follow = RunningProgram::spawn_unread(command, escher_tests::DEADLINE);
    let mut stdout = follow.stdout();
    let mut first = [0; 5];
    std::io::Read::read_exact(&mut stdout, &mut first).unwrap();
    assert_eq!(&first, b"1000\n");
    gate.write_line("go");
    let mut rest = String::new();
    std::io::Read::read_to_string(&mut stdout, &mut rest).unwrap();
    let expected: String = (1001..=2000).map(|n| format!("{n}\n")).collect();
    assert!(rest == expected);
    let _ = follow.wait().expect(0);
}
