//! Commands that behave oddly, for tests. `actor PART ARGUMENT…`:
//!
//! | part | what it does |
//! | --- | --- |
//! | `as UID:GID:GROUP,… PROGRAM ARG…` | becomes that user (from root) and runs the program |
//! | `lockstep LOGS COUNT` | writes to stdout and stderr in turn, each time waiting until it is in the log |
//! | `bytes COUNT` | so many writes of one byte |
//! | `census FOLDER INDEX LIMIT` | counts how many of its kind run at once |
//! | `stubborn LOCK` | holds the lock, says `ready`, and does not mind SIGTERM |
//! | `daemonize LOCK` | leaves a grandchild in a session of its own that holds the lock and stdout |
//! | `holder LOCK` | holds the lock, says `ready`, and stays until it is killed |
//! | `freeze` | stops all other processes of its user, again and again |
//! | `witness ACCOUNT NAME LINES PAUSE STDIN CODE STAYS` | keeps an account of what it does, and writes what can be foretold |
//! | `farewell` | tells the time of CLOCK_MONOTONIC in nanoseconds as its last act |
//! | `measure ARG…` | tells the number of its arguments and their bytes |

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Seek, Write};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use escher_tests::{LONG_DEADLINE, monotonic, watch};
use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Gid, Pid, Uid, setgid, setgroups, setsid, setuid};

fn main() {
    let mut arguments = std::env::args_os().skip(1);
    let part = arguments.next().expect("a part");
    let arguments: Vec<OsString> = arguments.collect();
    let text = |index: usize| arguments[index].to_str().expect("UTF-8");
    match part.to_str().expect("UTF-8") {
        "as" => become_user(text(0), &arguments[1..]),
        "lockstep" => lockstep(Path::new(text(0)), text(1).parse().unwrap()),
        "bytes" => bytes(text(0).parse().unwrap()),
        "census" => census(text(0).into(), text(1), text(2).parse().unwrap()),
        "stubborn" => stubborn(text(0)),
        "daemonize" => daemonize(text(0)),
        "holder" => hold(Path::new(text(0))),
        "in-session" => in_session(text(0)),
        "freeze" => freeze(),
        "farewell" => println!("{}", monotonic().as_nanos()),
        "measure" => measure(&arguments),
        "witness" => witness(&arguments),
        other => panic!("no such part: {other}"),
    }
}

fn become_user(user: &str, command: &[OsString]) {
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

/// Here the growth of a file is what is measured: looking at it again and again is the point.
fn lockstep(logs: &Path, count: u64) {
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

fn bytes(count: u64) {
    let mut stdout = unbuffered(std::io::stdout());
    for index in 0..count {
        let byte = b"0123456789abcde\n"[(index % 16) as usize];
        stdout.write_all(&[byte]).unwrap();
    }
}

/// Whoever is among the first `limit` waits until that many have run at once: a daemon that ran fewer would
/// never get any further.
fn census(folder: PathBuf, index: &str, limit: u64) {
    let started = tally(&folder, |running, started, most| {
        *running += 1;
        *started += 1;
        *most = (*most).max(*running);
        let mut order = OpenOptions::new()
            .create(true)
            .append(true)
            .open(folder.join("order"))
            .unwrap();
        writeln!(order, "{index}").unwrap();
        *started
    });
    if started <= limit {
        watch::until(&folder, LONG_DEADLINE, || {
            let all = tally(&folder, |_, started, _| *started);
            (all >= limit).then_some(())
        });
    }
    tally(&folder, |running, _, _| *running -= 1);
    println!("{index}");
    std::process::exit(index.parse::<i32>().unwrap() % 7);
}

/// Changes the numbers (running now, started, most at once) in `<folder>/census`, alone. Writes only what
/// has changed, lest those who wait for a change wake each other for ever.
fn tally<T>(folder: &Path, change: impl FnOnce(&mut u64, &mut u64, &mut u64) -> T) -> T {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(folder.join("census"))
        .unwrap();
    let mut file = Flock::lock(file, FlockArg::LockExclusive).unwrap();
    let mut text = String::new();
    file.read_to_string(&mut text).unwrap();
    let mut numbers = text
        .split_ascii_whitespace()
        .map(|number| number.parse().unwrap());
    let mut number = || numbers.next().unwrap_or(0);
    let (mut running, mut started, mut most) = (number(), number(), number());
    let result = change(&mut running, &mut started, &mut most);
    let changed = format!("{running} {started} {most} \n");
    if changed != text {
        file.set_len(0).unwrap();
        file.rewind().unwrap();
        file.write_all(changed.as_bytes()).unwrap();
    }
    result
}

/// By a shell, which can ignore a signal for what it runs.
fn stubborn(lock: &str) {
    let script = "trap '' TERM; exec \"$0\" holder \"$1\"";
    let this = std::env::current_exe().unwrap();
    let error = Command::new("/bin/sh")
        .args(["-c", script])
        .arg(this)
        .arg(lock)
        .exec();
    panic!("/bin/sh: {error}");
}

/// Holds the lock until the end of this process.
fn hold(path: &Path) {
    let file = File::create(path).unwrap();
    let _lock = Flock::lock(file, FlockArg::LockExclusive).unwrap();
    println!("ready");
    loop {
        nix::unistd::pause();
    }
}

fn daemonize(lock: &str) {
    let mut child = again(&["in-session", lock])
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    assert!(child.wait().unwrap().success());
    println!("main is done");
}

/// The middle of a double fork: a session leader that is gone once its child holds the lock.
#[expect(
    clippy::zombie_processes,
    reason = "to be left behind is what it is for"
)]
fn in_session(lock: &str) {
    setsid().unwrap();
    // What the grandchild says comes here; it has both of the command's outputs all the same.
    let (said, says) = std::io::pipe().unwrap();
    let stdout = std::io::stdout().as_fd().try_clone_to_owned().unwrap();
    again(&["holder", lock])
        .stdin(stdout)
        .stdout(says)
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(said).read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n");
}

fn again(arguments: &[&str]) -> Command {
    let mut command = Command::new("/proc/self/exe");
    command.args(arguments);
    command
}

fn freeze() {
    println!("ready");
    loop {
        // To all processes that it may signal, but not to itself (kill(2)).
        let _ = kill(Pid::from_raw(-1), Signal::SIGSTOP);
    }
}

fn measure(arguments: &[OsString]) {
    let bytes: usize = arguments
        .iter()
        .map(|argument| argument.as_bytes().len())
        .sum();
    println!("{} {bytes}", arguments.len());
}

/// Holds a lock on its account while it lives, notes there when it begins and when it ends, and writes lines
/// to both outputs.
fn witness(arguments: &[OsString]) {
    let text = |index: usize| arguments[index].to_str().expect("UTF-8");
    let account = OpenOptions::new()
        .create(true)
        .append(true)
        .open(text(0))
        .unwrap();
    let mut account = Flock::lock(account, FlockArg::LockExclusive).unwrap();
    let (name, lines, pause): (_, u64, u64) =
        (text(1), text(2).parse().unwrap(), text(3).parse().unwrap());
    let (stdin, code, stays) = (text(4), text(5).parse().unwrap(), text(6));
    account.write_all(b"begin\n").unwrap();
    let (mut stdout, mut stderr) = (unbuffered(std::io::stdout()), unbuffered(std::io::stderr()));
    for index in 0..lines {
        let line = escher_tests::witness_line(name, index);
        match index % 7 {
            3 => stderr.write_all(line.as_bytes()).unwrap(),
            _ => stdout.write_all(line.as_bytes()).unwrap(),
        }
        if index % 10 == 9 && index < 500 {
            std::thread::sleep(std::time::Duration::from_millis(pause));
        }
    }
    if stdin == "true" {
        std::io::copy(&mut std::io::stdin().lock(), &mut stdout).unwrap();
    }
    if stays == "true" {
        loop {
            nix::unistd::pause();
        }
    }
    writeln!(account, "end {code}").unwrap();
    std::process::exit(code);
}
