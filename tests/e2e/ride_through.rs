//! Clients that reconnect when escherd is restarted or killed.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Command, Stdio};
use std::sync::Arc;

use escher_client::{Client, Connector, EventsRequest, OutputRange, Status};
use escher_tests::{
    Ctl, DEADLINE, Daemon, DaemonBuilder, Digest, Home, ProgramOutput, RunningProgram, in_runtime,
    shell, watch,
};

/// The escherds of one home, one after another. The last one serves.
struct Restarts {
    home: Arc<Home>,
    all: Vec<Daemon>,
}

impl Restarts {
    fn start() -> Self {
        Restarts::start_with(Daemon::builder())
    }

    /// Starts the first one with these options; the next ones have none.
    fn start_with(first: DaemonBuilder) -> Self {
        let first = first.leave_commands().start();
        Restarts {
            home: first.home().clone(),
            all: vec![first],
        }
    }

    fn ctl(&self) -> Ctl {
        self.all[0].ctl()
    }

    /// Kills the serving one, and starts another.
    fn kill(&mut self) {
        self.all.last_mut().unwrap().kill();
        self.start_next();
    }

    /// Stops the serving one, and starts another.
    fn restart(&mut self) {
        self.all.last_mut().unwrap().terminate();
        self.start_next();
    }

    fn start_next(&mut self) {
        let next = Daemon::builder().home(&self.home).leave_commands().start();
        self.all.push(next);
    }
}

impl Drop for Restarts {
    fn drop(&mut self) {
        while let Some(daemon) = self.all.pop() {
            drop(daemon);
        }
    }
}

/// An escherctl whose output is read line by line, which shows how far it is.
struct LineReader {
    program: RunningProgram,
    output: BufReader<ProgramOutput>,
    /// The first line, until it is returned.
    first: String,
}

impl LineReader {
    /// Starts it, and waits for its first line.
    fn spawn(mut command: Command) -> Self {
        command.stdin(Stdio::null());
        let mut program = RunningProgram::spawn_unread(command, DEADLINE);
        let output = BufReader::new(program.stdout());
        let mut reader = LineReader {
            program,
            output,
            first: String::new(),
        };
        reader.first = reader.line();
        reader
    }

    fn line(&mut self) -> String {
        let mut line = std::mem::take(&mut self.first);
        if line.is_empty() {
            self.output.read_line(&mut line).unwrap();
        }
        line
    }

    /// Waits for its end. Returns its exit status and the rest of its output.
    fn rest(mut self) -> (i32, String) {
        let mut all = self.first;
        self.output.read_to_string(&mut all).unwrap();
        (self.program.wait().code, all)
    }
}

#[test]
fn run_outlasts_two_restarts_and_exits_with_the_status_of_the_command() {
    let mut escherd = Restarts::start();
    let (ready, gate) = (escherd.home.fifo("ready"), escherd.home.fifo("gate"));
    let script = format!(
        "echo one; echo up > {0}; read a < {1}; echo two >&2; echo up > {0}; read b < {1}; echo three; exit 42",
        ready.name(),
        gate.name()
    );
    let run = escherd.ctl().start(["run", "-q", "--shell", &script]);
    assert_eq!(ready.read_line(), "up");
    escherd.kill();
    gate.write_line("on");
    assert_eq!(ready.read_line(), "up");
    escherd.restart();
    gate.write_line("on");
    let ended = run.wait().expect(42);
    assert_eq!(ended.out(), "one\nthree\n");
    assert_eq!(ended.err(), "two\n");
}

#[test]
fn wait_attach_logs_and_events_continue_over_a_restart() {
    // Its log shows when a request has arrived.
    let mut escherd = Restarts::start_with(Daemon::builder().env("ESCHER_LOG", "debug"));
    let (ready, gate) = (escherd.home.fifo("ready"), escherd.home.fifo("gate"));
    let script = format!(
        "seq 1 1000; echo up > {}; read a < {}; seq 1001 2000; exit 5",
        ready.name(),
        gate.name()
    );
    let ctl = escherd.ctl();
    let id = ctl.submit(["sh", "-c", &script]).to_string();
    assert_eq!(ready.read_line(), "up");
    let wait = ctl.start(["-q", "wait", &id]);
    watch::until(escherd.home.path(), || {
        let log = escherd.all[0].log();
        log.contains("received Wait").then_some(())
    });
    let attach = LineReader::spawn(ctl.command(["-q", "attach", &id]));
    let logs = LineReader::spawn(ctl.command(["-q", "logs", "-f", &id]));
    let mut events = LineReader::spawn(ctl.command(["--json", "events", "-f", "-n", "100"]));
    escherd.kill();
    gate.write_line("on");
    let numbers: String = (1..=2000).map(|number| format!("{number}\n")).collect();
    assert_eq!(wait.wait().code, 5);
    assert_eq!(attach.rest(), (5, numbers.clone()));
    assert_eq!(logs.rest(), (0, numbers));
    // The end of another one is the last event.
    let last = ctl.submit(["true"]).to_string();
    let mut sequences = Vec::new();
    loop {
        let event: serde_json::Value = serde_json::from_str(&events.line()).unwrap();
        sequences.push(event["sequence"].as_u64().unwrap());
        if event["id"] == last.as_str() && event["kind"] == "finished" {
            break;
        }
    }
    let expected: Vec<u64> = (1..=6).collect();
    assert_eq!(sequences, expected, "a gap or a repeat");
}

#[test]
fn standard_input_is_exact_over_a_restart() {
    let mut escherd = Restarts::start();
    let ready = escherd.home.fifo("ready");
    let gate = escherd.home.fifo("gate");
    // It reads nothing at first: more than fits into a pipe is on its way when escherd is killed.
    let script = format!("echo up > {}; read a < {}; cat", ready.name(), gate.name());
    let mut command = escherd
        .ctl()
        .command(["run", "-q", "-i", "--shell", &script]);
    command.stdin(Stdio::piped());
    let mut run = RunningProgram::spawn(command, DEADLINE);
    let mut stdin = run.stdin();
    let input: Vec<u8> = (0..3_000_000_u32)
        .map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8)
        .collect();
    let feeding = std::thread::spawn({
        let input = input.clone();
        move || stdin.write_all(&input).unwrap()
    });
    assert_eq!(ready.read_line(), "up");
    escherd.kill();
    gate.write_line("on");
    let ended = run.wait().expect(0);
    feeding.join().unwrap();
    assert!(
        ended.stdout == input,
        "{} of {} bytes",
        ended.stdout.len(),
        input.len()
    );
}

#[test]
fn submissions_during_a_kill_run_once() {
    let mut escherd = Restarts::start();
    let marks = escherd.home.work().join("marks");
    let script = format!("echo mark >> {}", marks.display());
    // Many at once, so that the kill hits some at every stage.
    let ctl = escherd.ctl();
    let submits: Vec<RunningProgram> = (0..20)
        .map(|_| ctl.start(["submit", "--shell", &script]))
        .collect();
    escherd.kill();
    let mut ids = Vec::new();
    for submit in submits {
        let ended = submit.wait();
        // It fails if it has not connected before the kill.
        if ended.code == 0 {
            ids.push(ended.out().trim().to_owned());
        }
    }
    let mut known = 0;
    for execution in ctl.json_lines(["ps", "-a"]) {
        let id = execution["id"].as_str().unwrap().to_owned();
        let _ = ctl.run(["wait", &id]);
        // Of such an execution nobody was told, and its command was submitted again.
        if ctl.inspect(&id)["error"]["code"] == "launch-abandoned" {
            assert!(!ids.contains(&id), "{id} was acknowledged and has not run");
        } else {
            ctl.wait(&id, 0);
            known += 1;
        }
    }
    let ran = std::fs::read_to_string(&marks)
        .unwrap_or_default()
        .lines()
        .count();
    assert_eq!(
        (ran, known),
        (known, known),
        "every known execution has run once"
    );
    assert!(ids.len() <= known);
}

#[test]
fn a_run_that_cannot_reconnect_names_the_command_to_continue_with() {
    let mut daemon = Daemon::builder().leave_commands().start();
    let ready = daemon.home().fifo("ready");
    let script = format!("echo out; echo up > {}; exec sleep 3", ready.name());
    let ctl = daemon.ctl();
    let command = ctl.command(["run", "--reconnect", "300ms", "--shell", &script]);
    let mut run = LineReader::spawn(command);
    // It knows its id once it has passed on output.
    assert_eq!(run.line(), "out\n");
    assert_eq!(ready.read_line(), "up");
    daemon.kill();
    let ended = run.program.wait().expect(125);
    assert!(ended.err().contains("escherctl wait"), "{ended:?}");
}

/// Size of the long output. `ESCHER_TEST_FOLLOW_BYTES` overrides it.
fn follow_bytes() -> u64 {
    let set = std::env::var("ESCHER_TEST_FOLLOW_BYTES").ok();
    set.map_or(400_000_000, |text| text.parse().expect("a number"))
}

#[test]
fn followed_output_is_exact_while_escherd_is_killed_ten_times() {
    let total = follow_bytes();
    let mut escherd = Restarts::start();
    let socket = escherd.home.socket();
    let (sender, progress) = std::sync::mpsc::channel();
    let follower = std::thread::spawn(move || {
        in_runtime(async {
            let client: Client = Connector::new(socket).connect().await.unwrap();
            // Numbered lines, so that a gap or a repeat of any length shows.
            let script = format!("seq 1 10000000000 | head -c {total}");
            let id = client.execute(shell(&script)).await.unwrap().id;
            let mut output = client.follow(id, OutputRange::default()).await.unwrap();
            let ((digest, mut written), mut offset) = (Digest::of_pipe(), 0);
            while let Some(chunk) = output.next().await {
                let chunk = chunk.unwrap().into_chunk().unwrap();
                assert_eq!(chunk.offset, offset, "a gap or a repeat");
                offset += chunk.data.len() as u64;
                written.write_all(&chunk.data).unwrap();
                let _ = sender.send(offset);
            }
            let record = client.wait_for_completion(id).await.unwrap();
            assert_eq!(record.status, Status::Completed);
            drop(written);
            (digest.hex(), offset)
        })
    });
    for kill in 1..=10 {
        // After another eleventh each time.
        while progress
            .recv()
            .is_ok_and(|offset| offset < total / 11 * kill)
        {}
        escherd.kill();
    }
    while progress.recv().is_ok() {}
    let (digest, length) = follower.join().unwrap();
    assert_eq!(length, total);
    let mut same = Command::new("sh")
        .args(["-c", &format!("seq 1 10000000000 | head -c {total}")])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let expected = Digest::of_reader(same.stdout.take().unwrap()).hex();
    same.wait().unwrap();
    assert_eq!(digest, expected);
}

#[test]
fn the_library_receives_each_event_once() {
    let mut escherd = Restarts::start();
    let socket = escherd.home.socket();
    let (sender, received) = std::sync::mpsc::channel();
    let ctl = escherd.ctl();
    let follower = std::thread::spawn(move || {
        in_runtime(async {
            let client = Client::connect(socket).await.unwrap();
            let all = EventsRequest {
                follow: true,
                ..EventsRequest::default()
            };
            let mut events = client.events(all).await.unwrap();
            let mut sequences = Vec::new();
            while sequences.len() < 30 {
                let event = events.next().await.unwrap().unwrap();
                sequences.push(event.sequence);
                let _ = sender.send(event.sequence);
            }
            sequences
        })
    });
    for round in 0..10 {
        let _ = ctl.run(["run", "true"]).expect(0);
        if round % 3 == 0 {
            let _ = received.recv();
            escherd.kill();
        }
    }
    let expected: Vec<u64> = (1..=30).collect();
    assert_eq!(follower.join().unwrap(), expected);
}
