//! Standard input of commands, by `escherctl run -i` and by the library.

use std::fs;
use std::process::{Command, Stdio};

use escher_client::{ErrorCode, ExecutionRequest, StdinMode};
use escher_tests::{
    Daemon, Digest, LONG_DEADLINE, RunningProgram, connect, exec, in_runtime, sha256sum, shell,
};

/// The request with standard input from the client.
fn with_stdin(request: ExecutionRequest) -> ExecutionRequest {
    ExecutionRequest {
        stdin: StdinMode::Stream,
        ..request
    }
}

#[test]
fn a_gibibyte_of_input_is_exact() {
    let daemon = Daemon::start();
    let source = "head -c 1073741824 /dev/urandom | tee copy";
    let work = daemon.home().work();
    nix::unistd::mkfifo(&work.join("copy"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let mut source = Command::new("sh")
        .args(["-c", source])
        .current_dir(&work)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let sent = std::thread::spawn({
        let copy = work.join("copy");
        move || Digest::of_reader(fs::File::open(copy).unwrap()).hex()
    });
    let mut command = daemon.ctl().command(["run", "-i", "sha256sum"]);
    command.stdin(source.stdout.take().unwrap());
    let ended = RunningProgram::spawn(command, LONG_DEADLINE)
        .wait()
        .expect(0);
    source.wait().unwrap();
    assert_eq!(ended.out().split(' ').next().unwrap(), sent.join().unwrap());
}

#[test]
fn input_is_passed_on_as_it_is() {
    let daemon = Daemon::start();
    let all: Vec<u8> = (0..=255).cycle().take(3_000_001).collect();
    for input in [&b""[..], b"x", b"no newline", &all] {
        let ended = daemon
            .ctl()
            .run_with_input(input, ["run", "-i", "cat"])
            .expect(0);
        assert!(ended.stdout == input, "{} bytes: {ended:?}", input.len());
    }
}

#[test]
fn without_i_the_command_reads_nothing() {
    let daemon = Daemon::start();
    let ended = daemon
        .ctl()
        .run_with_input("not for you\n", ["run", "cat"])
        .expect(0);
    assert!(ended.stdout.is_empty(), "{ended:?}");
}

/// The input is much larger than a pipe.
#[test]
fn a_command_that_never_reads_does_not_hang_escherctl() {
    let daemon = Daemon::start();
    let input = vec![b'x'; 10_000_000];
    let _ = daemon
        .ctl()
        .run_with_input(&input, ["run", "-i", "true"])
        .expect(0);
    let _ = daemon
        .ctl()
        .run_with_input(&input, ["run", "-i", "sh", "-c", "exit 9"])
        .expect(9);
}

/// Only the end of the command can end `run`.
#[test]
fn an_input_that_stays_open_does_not_hang_escherctl() {
    let daemon = Daemon::start();
    for script in ["exit 5", "read line; exit 5", "exec <&-; exit 5"] {
        let mut command = daemon.ctl().command(["run", "-i", "sh", "-c", script]);
        command.stdin(Stdio::piped());
        let mut run = RunningProgram::spawn(command, escher_tests::DEADLINE);
        let mut stdin = run.stdin();
        // escherctl may have exited already.
        let _ = std::io::Write::write_all(&mut stdin, b"a line\n");
        let _ = run.wait().expect(5);
        drop(stdin);
    }
}

#[test]
fn a_command_that_reads_a_part_gets_that_part() {
    let daemon = Daemon::start();
    let input = "first line\n".to_owned() + &"x".repeat(5_000_000);
    let ended = daemon
        .ctl()
        .run_with_input(&input, ["run", "-i", "head", "-n", "1"])
        .expect(0);
    assert_eq!(ended.out(), "first line\n");
}

#[test]
fn input_arrives_as_soon_as_it_is_written() {
    let daemon = Daemon::start();
    let answers = daemon.home().fifo("answers");
    let script = format!(
        "while read line; do echo \"got $line\" > {}; done",
        answers.name()
    );
    let mut command = daemon.ctl().command(["run", "-i", "sh", "-c", &script]);
    command.stdin(Stdio::piped());
    let mut run = RunningProgram::spawn(command, escher_tests::DEADLINE);
    let mut stdin = run.stdin();
    for line in ["one", "two", "three"] {
        std::io::Write::write_all(&mut stdin, format!("{line}\n").as_bytes()).unwrap();
        assert_eq!(answers.read_line(), format!("got {line}"));
    }
    drop(stdin);
    let _ = run.wait().expect(0);
}

#[test]
fn the_writer_of_the_library_delivers_all_input_and_its_end() {
    let daemon = Daemon::start();
    let input: Vec<u8> = (0..=255).cycle().take(2_000_003).collect();
    in_runtime(async {
        let client = connect(&daemon).await;
        let id = client
            .execute(with_stdin(exec(["sha256sum"])))
            .await
            .unwrap()
            .id;
        let mut writer = client.stdin(id);
        for piece in input.chunks(300_001) {
            writer.write(piece).await.unwrap();
        }
        assert_eq!(writer.finish().await.unwrap(), input.len() as u64);
        let result = client.get_result(id).await.unwrap();
        let sum = String::from_utf8(result.stdout).unwrap();
        assert_eq!(sum.split(' ').next().unwrap(), sha256sum(&input));
    });
}

#[test]
fn repeated_writes_at_an_offset_are_written_once() {
    let daemon = Daemon::start();
    in_runtime(async {
        let client = connect(&daemon).await;
        let id = client.execute(with_stdin(exec(["cat"]))).await.unwrap().id;
        assert_eq!(client.write_stdin(id, 0, "abc", false).await.unwrap(), 3);
        assert_eq!(
            client.write_stdin(id, 0, "abc", false).await.unwrap(),
            3,
            "a repeat"
        );
        assert_eq!(
            client.write_stdin(id, 1, "bcde", false).await.unwrap(),
            5,
            "an overlap"
        );
        let gap = client.write_stdin(id, 9, "x", false).await.unwrap_err();
        assert_eq!(gap.as_api().unwrap().code, ErrorCode::STDIN_OFFSET);
        client.write_stdin(id, 5, "f", true).await.unwrap();
        let result = client.get_result(id).await.unwrap();
        assert_eq!(result.stdout, b"abcdef");
        let late = client.write_stdin(id, 6, "g", false).await.unwrap_err();
        let code = late.as_api().unwrap().code;
        assert!(
            [ErrorCode::STDIN_CLOSED, ErrorCode::NOT_RUNNING].contains(&code),
            "{code}"
        );
    });
}

#[test]
fn writing_to_a_command_without_input_is_an_error() {
    let daemon = Daemon::start();
    let gate = daemon.home().fifo("gate");
    in_runtime(async {
        let client = connect(&daemon).await;
        let request = shell(&format!("read line < {}", gate.name()));
        let id = client.execute(request).await.unwrap().id;
        let error = client.write_stdin(id, 0, "x", false).await.unwrap_err();
        assert_eq!(error.as_api().unwrap().code, ErrorCode::STDIN_CLOSED);
        gate.write_line("go");
        client.wait_for_completion(id).await.unwrap();
    });
}

/// A writer that disconnects without an end of input leaves it open for the next one.
#[test]
fn another_connection_can_continue_the_input() {
    let daemon = Daemon::start();
    in_runtime(async {
        let first = connect(&daemon).await;
        let id = first.execute(with_stdin(exec(["cat"]))).await.unwrap().id;
        let mut writer = first.stdin(id);
        writer.write(b"from the first, ").await.unwrap();
        first
            .write_stdin(id, 0, "from the first, ", false)
            .await
            .unwrap();
        drop((writer, first));
        let second = connect(&daemon).await;
        second
            .write_stdin(id, 16, "from the second", true)
            .await
            .unwrap();
        let result = second.get_result(id).await.unwrap();
        assert_eq!(result.stdout, b"from the first, from the second");
    });
}
