//! Commands that behave oddly, for tests. `child-program PART ARGUMENT…`:
//!
//! | part | what it does |
//! | --- | --- |
//! | `run-as UID:GID:GROUP,… PROGRAM ARG…` | becomes that user (from root) and runs the program |
//! | `write-in-lockstep LOGS COUNT` | writes to stdout and stderr in turn, each time waiting until it is in the log |
//! | `write-bytes COUNT` | makes COUNT writes of one byte |
//! | `count-concurrency DIRECTORY INDEX LIMIT` | counts how many of its kind run at once |
//! | `hold-lock LOCK` | holds the lock, prints `ready`, and runs until it is killed |
//! | `ignore-sigterm LOCK` | the same, and ignores SIGTERM |
//! | `daemonize LOCK` | leaves a grandchild in a session of its own that holds the lock and stdout |
//! | `stop-user` | stops all other processes of its user, again and again |
//! | `record-run FILE NAME LINES PAUSE STDIN CODE STAYS` | records its begin and end in a file, and writes foreseeable output |
//! | `print-time` | prints the time of CLOCK_MONOTONIC in nanoseconds |
//! | `count-arguments ARG…` | prints the number of its arguments and their bytes |
//! | `hold-connections SOCKET COUNT BYTES` | opens connections, sends the bytes (in hexadecimal digits), if any, over each and waits for an answer, prints `ready`, and holds them until its standard input ends. Each line there is more bytes to send over each; then it prints `sent` |

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Seek, Write};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use escher_tests::{LONG_DEADLINE, monotonic, recorded_line, watch};
use nix::fcntl::{Flock, FlockArg};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Gid, Pid, Uid, setgid, setgroups, setsid, setuid};

fn main() {
    let mut arguments = std::env::args_os().skip(1);
    let part = arguments.next().expect("a part");
    let arguments: Vec<OsString> = arguments.collect();
    let text = |index: usize| arguments[index].to_str().expect("UTF-8");
    match part.to_str().expect("UTF-8") {
        "run-as" => run_as(text(0), &arguments[1..]),
        "write-in-lockstep" => write_in_lockstep(Path::new(text(0)), text(1).parse().unwrap()),
        "write-bytes" => write_bytes(text(0).parse().unwrap()),
        "count-concurrency" => {
            count_concurrency(Path::new(text(0)), text(1), text(2).parse().unwrap());
        }
        "hold-lock" => hold_lock(Path::new(text(0))),
        "ignore-sigterm" => ignore_sigterm(text(0)),
        "daemonize" => daemonize(text(0)),
        "hold-lock-in-session" => hold_lock_in_session(text(0)),
        "stop-user" => stop_user(),
        "record-run" => record_run(&arguments),
        "print-time" => println!("{}", monotonic().as_nanos()),
        "count-arguments" => count_arguments(&arguments),
        "hold-connections" => hold_connections(text(0), text(1).parse().unwrap(), text(2)),
        other => panic!("no such part: {other}"),
    }
}

fn run_as(user: &str, command: &[OsString]) {
    let fields: Vec<&str> = user.split(':').collect();
    let groups: Vec<Gid> = fields[2]
        .split_terminator(',')
        .map(|group| Gid::from_raw(group.parse().unwrap()))
        .collect();
    setgroups(&groups).expect("root");
    setgid(Gid::from_raw(fields[1].parse().unwrap())).expect("root");
    setuid(Uid::from_raw(fields[0].parse().unwrap())).expect("root");
    let error = Command::new(&command[0]).args(&command[1..]).exec();
    panic!("{}: {error}", command[0].display());
}

/// Polls the log: how soon it grows is what the test is about.
fn write_in_lockstep(logs: &Path, count: u64) {
    let id = std::env::var("ESCHER_EXECUTION_ID").expect("run by escher");
    let path = logs.join(format!("{id}.log"));
    let mut log = None;
    let mut written = 0;
    let mut write = |stream: &mut dyn Write, line: &str| {
        stream.write_all(line.as_bytes()).unwrap();
        written += line.len() as u64;
        loop {
            log = log.take().or_else(|| File::open(&path).ok());
            let length = log.as_ref().map_or(0, |log| log.metadata().unwrap().len());
            if length >= written {
                return;
            }
            std::thread::yield_now();
        }
    };
    let (mut stdout, mut stderr) = (unbuffered(std::io::stdout()), unbuffered(std::io::stderr()));
    for index in 0..count {
        write(&mut stdout, &format!("out {index}\n"));
        write(&mut stderr, &format!("err {index}\n"));
    }
}

fn unbuffered(descriptor: impl AsFd) -> File {
    descriptor.as_fd().try_clone_to_owned().unwrap().into()
}

fn write_bytes(count: u64) {
    let mut stdout = unbuffered(std::io::stdout());
    for index in 0..count {
        let byte = b"0123456789abcde\n"[(index % 16) as usize];
        stdout.write_all(&[byte]).unwrap();
    }
}

/// The first `limit` of its kind wait until that many have run at once: with a daemon that runs fewer, the
/// test gets no further.
fn count_concurrency(directory: &Path, index: &str, limit: u64) {
    let started = update_counts(directory, |counts| {
        counts.running += 1;
        counts.started += 1;
        counts.most = counts.most.max(counts.running);
        let mut order = OpenOptions::new();
        let order = order
            .create(true)
            .append(true)
            .open(directory.join("order"));
        writeln!(order.unwrap(), "{index}").unwrap();
        counts.started
    });
    if started <= limit {
        let have_started = || {
            let started = update_counts(directory, |counts| counts.started);
            (started >= limit).then_some(())
        };
        watch::within(directory, LONG_DEADLINE, have_started).expect("others start");
    }
    update_counts(directory, |counts| counts.running -= 1);
    println!("{index}");
    std::process::exit(index.parse::<i32>().unwrap() % 7);
}

/// The numbers in the file `counts`.
struct Counts {
    running: u64,
    started: u64,
    /// Most that ran at once.
    most: u64,
}

/// Changes the numbers in `<directory>/counts` under a lock.
fn update_counts<T>(directory: &Path, change: impl FnOnce(&mut Counts) -> T) -> T {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(directory.join("counts"))
        .unwrap();
    let mut file = Flock::lock(file, FlockArg::LockExclusive).unwrap();
    let mut text = String::new();
    file.read_to_string(&mut text).unwrap();
    let mut numbers = text
        .split_ascii_whitespace()
        .map(|number| number.parse().unwrap());
    let mut next = || numbers.next().unwrap_or(0);
    let mut counts = Counts {
        running: next(),
        started: next(),
        most: next(),
    };
    let result = change(&mut counts);
    let Counts {
        running,
        started,
        most,
    } = counts;
    let changed = format!("{running} {started} {most} \n");
    // Without a change nothing is written: processes that wait for changes would wake each other for ever.
    if changed != text {
        file.set_len(0).unwrap();
        file.rewind().unwrap();
        file.write_all(changed.as_bytes()).unwrap();
    }
    result
}

/// A shell can ignore a signal for the program that it becomes.
fn ignore_sigterm(lock: &str) {
    let script = "trap '' TERM; exec \"$0\" hold-lock \"$1\"";
    let this = std::env::current_exe().unwrap();
    let error = Command::new("/bin/sh")
        .args(["-c", script])
        .arg(this)
        .arg(lock)
        .exec();
    panic!("/bin/sh: {error}");
}

fn hold_lock(path: &Path) {
    let file = File::create(path).unwrap();
    let _lock = Flock::lock(file, FlockArg::LockExclusive).unwrap();
    println!("ready");
    loop {
        nix::unistd::pause();
    }
}

fn daemonize(lock: &str) {
    let mut child = this_program(&["hold-lock-in-session", lock])
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    assert!(child.wait().unwrap().success());
    println!("main is done");
}

/// The middle of a double fork: a session leader that exits once its child holds the lock.
#[expect(
    clippy::zombie_processes,
    reason = "to be left behind is what it is for"
)]
fn hold_lock_in_session(lock: &str) {
    setsid().unwrap();
    // The grandchild's output comes here, and its standard input is the command's standard output, which it
    // so keeps open.
    let (reader, writer) = std::io::pipe().unwrap();
    let stdout = std::io::stdout().as_fd().try_clone_to_owned().unwrap();
    this_program(&["hold-lock", lock])
        .stdin(stdout)
        .stdout(writer)
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(reader).read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n");
}

fn this_program(arguments: &[&str]) -> Command {
    let mut command = Command::new("/proc/self/exe");
    command.args(arguments);
    command
}

fn stop_user() {
    println!("ready");
    loop {
        // To all processes that it may signal, but not to itself (kill(2)).
        let _ = kill(Pid::from_raw(-1), Signal::SIGSTOP);
    }
}

fn count_arguments(arguments: &[OsString]) {
    let bytes: usize = arguments
        .iter()
        .map(|argument| argument.as_bytes().len())
        .sum();
    println!("{} {bytes}", arguments.len());
}

/// Holds a lock on its file while it lives, writes there when it begins and when it ends, and writes lines
/// to both outputs.
fn record_run(arguments: &[OsString]) {
    let text = |index: usize| arguments[index].to_str().expect("UTF-8");
    let mut file = OpenOptions::new();
    let file = file.create(true).append(true).open(text(0)).unwrap();
    let mut file = Flock::lock(file, FlockArg::LockExclusive).unwrap();
    let name = text(1);
    let (lines, pause_ms): (u64, u64) = (text(2).parse().unwrap(), text(3).parse().unwrap());
    let (copies_stdin, code, stays) = (
        text(4) == "true",
        text(5).parse().unwrap(),
        text(6) == "true",
    );
    file.write_all(b"begin\n").unwrap();
    let (mut stdout, mut stderr) = (unbuffered(std::io::stdout()), unbuffered(std::io::stderr()));
    for index in 0..lines {
        let line = recorded_line(name, index);
        match index % 7 {
            3 => stderr.write_all(line.as_bytes()).unwrap(),
            _ => stdout.write_all(line.as_bytes()).unwrap(),
        }
        if index % 10 == 9 && index < 500 {
            std::thread::sleep(Duration::from_millis(pause_ms));
        }
    }
    if copies_stdin {
        std::io::copy(&mut std::io::stdin().lock(), &mut stdout).unwrap();
    }
    if stays {
        loop {
            nix::unistd::pause();
        }
    }
    writeln!(file, "end {code}").unwrap();
    std::process::exit(code);
}

/// In a process of its own: so many descriptors would be in the way of other tests.
fn hold_connections(socket: &str, count: u64, bytes: &str) {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).unwrap();
    let bytes = from_hexadecimal(bytes);
    let connect = |_| {
        let mut stream = UnixStream::connect(socket).expect("escherd listens");
        if !bytes.is_empty() {
            // Until there is an answer, or escherd has refused it and hung up.
            let _ = stream.write_all(&bytes);
            let _ = stream.read(&mut [0]);
        }
        stream
    };
    let mut connections: Vec<UnixStream> = (0..count).map(connect).collect();
    println!("ready");
    for line in std::io::stdin().lines() {
        let bytes = from_hexadecimal(&line.unwrap());
        for stream in &mut connections {
            stream.write_all(&bytes).expect("escherd has not hung up");
        }
        println!("sent");
    }
    drop(connections);
}

fn from_hexadecimal(digits: &str) -> Vec<u8> {
    let pairs = digits.as_bytes().chunks(2);
    pairs
        .map(|pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}
