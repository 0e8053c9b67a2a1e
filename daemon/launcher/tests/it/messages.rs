//! The messages of launcher and shims, and their order.

use std::os::unix::fs::PermissionsExt;

use escher_launcher::ipc::wire::{
    Abilities, Assignment, EndCause, FIRST_ATTEMPT, FromShim, LauncherHello, LauncherReply,
    LauncherRequest, LogDirAbilities, MAX_PACKET_BYTES, ToShim, WIRE_VERSION,
};
use escher_protocol::{Exit, Leftovers, OutputTotals, Part, Parts, SignalRecipients, Timestamp};
use nix::fcntl::SealFlag;
use nix::unistd::geteuid;

use crate::commands::assignment;
use crate::launcher::names;
use crate::shim::signal_order;
use crate::{Launcher, Output, exec, shell};

#[test]
fn the_launcher_says_hello() {
    let launcher = Launcher::start();
    let expected = LauncherHello {
        version: WIRE_VERSION,
        pid: launcher.pid(),
        uid: geteuid().as_raw(),
        directories: Ok(launcher.directories()),
        abilities: Abilities {
            program: env!("CARGO_PKG_VERSION").into(),
            // The directories of tests are on file systems that have holes.
            log_dir: LogDirAbilities {
                punches_holes: true,
            },
            cgroups: None,
            process: launcher.hello().abilities.process,
        },
        parts: Parts::new(),
    };
    assert_eq!(launcher.hello(), &expected);
}

#[test]
fn a_launch_is_answered_by_started_and_exited() {
    let launcher = Launcher::start();
    let shim = launcher.shim();
    let before = Timestamp::now();
    let spec = shell("echo $$; echo $PPID; exit 3");
    shim.launch(&spec);
    let Some(FromShim::Started { pid, at }) = shim.receive() else {
        panic!("not started");
    };
    let Some(FromShim::Exited(report)) = shim.receive() else {
        panic!("not ended");
    };
    shim.send(&ToShim::Recorded);

    let text = format!("{pid}\n{}\n", shim.pid());
    assert_eq!(Output::of(&launcher, spec.id).text(), text);
    assert_eq!((report.id, report.exit), (spec.id, Exit::Code(3)));
    assert_eq!(report.cause, EndCause::Itself);
    assert_eq!(report.ladder_signal, None);
    assert_eq!(report.leftovers, Leftovers::None);
    assert_eq!(report.started_at, Some(at));
    assert!(before <= at && at <= report.ended_at && report.ended_at <= Timestamp::now());
    let bytes = text.len() as u64;
    let totals = OutputTotals {
        stdout_bytes: bytes,
        log_bytes: bytes,
        ..OutputTotals::default()
    };
    assert_eq!(report.output, totals);
}

#[test]
fn usage_counts_the_whole_process_tree() {
    let launcher = Launcher::start();
    let shim = launcher.shim();
    let idle = shim.run(&exec(["true"]));
    let busy = shim.run(&shell("head -c 60000000 /dev/urandom | sha256sum; :"));
    let cpu = |report: &escher_launcher::ipc::wire::ExitReport| {
        report.usage.user_us + report.usage.system_us
    };
    assert!(cpu(&busy) > cpu(&idle) + 10_000, "{busy:?} {idle:?}");
    assert!(busy.duration_us > 10_000);
}

/// The memory of the shim was reported as that of each of its commands.
#[test]
fn peak_memory_is_that_of_the_command_or_not_measured() {
    let launcher = Launcher::start();
    let shim = launcher.shim();
    assert_eq!(shim.run(&exec(["true"])).usage.peak_memory_bytes, 0);
    let spec = shell("x=$(head -c 67108864 /dev/zero | tr '\\0' x)");
    let peak = shim.run(&spec).usage.peak_memory_bytes;
    assert!((64 << 20..1 << 30).contains(&peak), "{peak}");
}

#[test]
fn one_shim_serves_many_commands() {
    let launcher = Launcher::start();
    let shim = launcher.shim();
    for round in 0..100 {
        let spec = shell(&format!("echo {round} $PPID; exit {round}"));
        let report = shim.run(&spec);
        assert_eq!((report.id, report.exit), (spec.id, Exit::Code(round)));
        let text = format!("{round} {}\n", shim.pid());
        assert_eq!(Output::of(&launcher, spec.id).text(), text);
    }
    assert_eq!(names(&launcher.log_dir()).len(), 200);
    assert!(launcher.exit_records().is_empty());
}

#[test]
fn many_shims_run_commands_at_once() {
    let launcher = Launcher::start();
    let shims = launcher.shims(8);
    let spec = || escher_launcher::ipc::wire::LaunchSpec {
        stdin: true,
        ..shell("read line; echo $line")
    };
    let specs: Vec<_> = shims.iter().map(|_| spec()).collect();
    for (shim, spec) in shims.iter().zip(&specs) {
        shim.start(spec);
    }
    for (index, shim) in shims.iter().enumerate().rev() {
        shim.input(format!("{index}\n").as_str(), true);
        assert_eq!(shim.finish().exit, Exit::Code(0));
    }
    for (index, spec) in specs.iter().enumerate() {
        assert_eq!(Output::of(&launcher, spec.id).text(), format!("{index}\n"));
    }
}

#[test]
fn a_long_command_line_is_passed_in_sealed_memory() {
    let launcher = Launcher::start();
    let shim = launcher.shim();
    let argument = "x".repeat(64 * 1024);
    let arguments = (0..16).map(|_| argument.as_str());
    let script = "printf %s \"$@\" | wc -c";
    let spec = exec(["/bin/sh", "-c", script, "sh"].into_iter().chain(arguments));
    assert_eq!(shim.run(&spec).exit, Exit::Code(0));
    assert_eq!(Output::of(&launcher, spec.id).text(), "1048576\n");
    assert_eq!(shim.run(&exec(["true"])).exit, Exit::Code(0));
}

#[test]
fn an_assignment_in_memory_without_all_seals_is_refused() {
    let launcher = Launcher::start();
    let all = SealFlag::F_SEAL_WRITE | SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW;
    let seals = [
        SealFlag::empty(),
        all - SealFlag::F_SEAL_WRITE,
        all - SealFlag::F_SEAL_SHRINK,
        all - SealFlag::F_SEAL_GROW,
    ];
    for seals in seals {
        let shim = launcher.shim();
        let assignment = assignment(shell("echo started"));
        shim.send_with_memory(&ToShim::AssignFromMemory, &assignment, seals);
        assert_eq!(shim.receive(), None);
        shim.wait_for_end();
    }
    let file = std::fs::File::open("/dev/null").unwrap();
    let shim = launcher.shim();
    let bytes = escher_protocol::codec::encode(&ToShim::AssignFromMemory).unwrap();
    shim.send_bytes(&bytes, Some(&file));
    assert_eq!(shim.receive(), None);
    assert!(names(&launcher.log_dir()).is_empty());
    assert!(launcher.exit_records().is_empty());
}

#[test]
fn an_assignment_with_an_unknown_required_part_is_refused_before_it_is_claimed() {
    let launcher = Launcher::start();
    let shim = launcher.shim();
    let before = launcher.sockets();
    let with = |spec, tag| Assignment {
        parts: Parts::try_from(vec![Part::new(tag, "later")]).unwrap(),
        ..assignment(spec)
    };
    for length in [0, MAX_PACKET_BYTES] {
        let mut spec = shell("echo started");
        spec.argv.push(vec![b'x'; length].into());
        let id = spec.id;
        shim.assign(&with(spec, 4_711));
        let Some(FromShim::Exited(report)) = shim.receive() else {
            panic!("not refused");
        };
        assert_eq!(report.cause, EndCause::UnsupportedPart { tag: 4_711 });
        assert!(matches!(report.exit, Exit::NotStarted { .. }));
        assert_eq!((report.id, report.started_at), (id, None));
        assert_eq!(launcher.sockets(), before);
        shim.send(&ToShim::Recorded);
    }
    assert!(names(&launcher.log_dir()).is_empty());
    // An optional part is skipped, by the same shim.
    shim.assign(&with(shell("exit 3"), 4_710));
    assert_eq!(shim.finish().exit, Exit::Code(3));
}

#[test]
fn the_refusal_of_an_assignment_leaves_an_exit_record_without_escherd() {
    let launcher = Launcher::start();
    let shim = launcher.shim();
    let spec = shell("echo started");
    shim.assign(&Assignment {
        parts: Parts::try_from(vec![Part::new(4_711, "later")]).unwrap(),
        ..assignment(spec.clone())
    });
    shim.wait_for_end();
    let report = launcher.exit_record(spec.id);
    assert_eq!(report.cause, EndCause::UnsupportedPart { tag: 4_711 });
    assert!(launcher.sockets().is_empty());
}

#[test]
fn messages_for_a_command_that_has_ended_are_ignored() {
    let launcher = Launcher::start();
    let shim = launcher.shim();
    assert_eq!(shim.run(&exec(["true"])).exit, Exit::Code(0));
    shim.cancel(true);
    let signal = signal_order(9, SignalRecipients::MainProcess);
    shim.send(&ToShim::Signal(signal));
    shim.send(&ToShim::Watch { known_bytes: 0 });
    shim.input("late", true);
    shim.send(&ToShim::Recorded);
    let spec = shell("echo unharmed");
    assert_eq!(shim.run(&spec).exit, Exit::Code(0));
    assert_eq!(Output::of(&launcher, spec.id).text(), "unharmed\n");
}

#[test]
fn a_second_launch_while_a_command_runs_is_ignored() {
    let launcher = Launcher::start();
    let shim = launcher.shim();
    let first = escher_launcher::ipc::wire::LaunchSpec {
        stdin: true,
        ..shell("read line; exit 4")
    };
    shim.start(&first);
    let second = shell("echo second");
    shim.launch(&second);
    shim.input("go\n", true);
    let report = shim.finish();
    assert_eq!((report.id, report.exit), (first.id, Exit::Code(4)));
    assert_eq!(shim.run(&exec(["true"])).exit, Exit::Code(0));
    assert!(!launcher.log(second.id).exists());
}

#[test]
fn an_invalid_message_ends_a_ready_shim_but_not_a_running_command() {
    let launcher = Launcher::start();
    let idle = launcher.shim();
    idle.send_bytes(b"\xff nonsense", None);
    assert_eq!(idle.receive(), None);

    let running = launcher.shim();
    let spec = shell("echo done; exit 5");
    running.launch(&spec);
    running.send_bytes(&vec![b'x'; MAX_PACKET_BYTES + 1], None);
    running.wait_for_end();
    assert_eq!(launcher.exit_record(spec.id).exit, Exit::Code(5));
}

#[test]
fn an_invalid_message_ends_the_launcher_but_not_its_shims() {
    let mut launcher = Launcher::start();
    let shim = launcher.shim();
    launcher.send(b"\xff nonsense");
    assert!(launcher.receive().is_none());
    assert_eq!(launcher.wait_for_end().code(), Some(1));
    assert_eq!(shim.run(&exec(["true"])).exit, Exit::Code(0));
}

#[test]
fn a_failed_fork_is_reported_with_its_errno() {
    // One descriptor more than the launcher has; a socket pair needs two.
    let launcher = Launcher::start_by(&["/bin/sh", "-c", "ulimit -n 9; exec \"$0\" \"$@\""]);
    launcher.request(&LauncherRequest::Fork { count: 2 });
    for _ in 0..2 {
        let (reply, socket) = launcher.receive().unwrap();
        assert!(socket.is_none());
        let errno = libc::EMFILE;
        assert_eq!(reply, LauncherReply::ForkFailed { errno });
    }
}

#[test]
fn files_and_directories_are_closed_to_other_users() {
    let launcher = Launcher::start();
    let shim = launcher.shim();
    let spec = shell("echo secret");
    shim.run(&spec);
    let other = exec(["true"]);
    shim.launch(&other);
    shim.wait_for_end();
    let record = escher_launcher::ipc::exit_record::file_name(other.id, FIRST_ATTEMPT);
    // Where several users are served, others may enter it and not list it.
    let log_dir = if geteuid().is_root() { 0o751 } else { 0o750 };
    let expected = [
        (launcher.log_dir(), log_dir),
        (launcher.log(spec.id), 0o640),
        (launcher.index(spec.id), 0o640),
        (launcher.exit_dir(), 0o700),
        (launcher.shim_dir(), 0o700),
        (launcher.exit_dir().join(record), 0o640),
    ];
    for (path, most) in expected {
        let mode = path.metadata().unwrap().permissions().mode() & 0o7777;
        assert_eq!(mode & !most, 0, "{path:?} has mode {mode:o}");
    }
}

/// What an administrator may get wrong in a unit.
#[test]
fn the_launcher_names_what_is_wrong_with_its_options() {
    // Nothing can be made there.
    const NOWHERE: &str = "/dev/null/nowhere";
    let run = |arguments: &[&str]| {
        let mut command = std::process::Command::new(crate::launcher::PROGRAM);
        command.args(arguments).stdin(std::process::Stdio::null());
        command.output().unwrap()
    };
    let directories = [
        "--log-dir",
        NOWHERE,
        "--state-dir",
        NOWHERE,
        "--runtime-dir",
        NOWHERE,
    ];
    let with = |more: &[&'static str]| [&directories[..], more].concat();
    for (arguments, status, message) in [
        (vec!["--keep"], 2, "--log-dir is missing\n"),
        (directories[..2].to_vec(), 2, "--state-dir is missing\n"),
        (directories[..4].to_vec(), 2, "--runtime-dir is missing\n"),
        (with(&["--keep"]), 2, "--socket is missing\n"),
        (
            with(&["--keep", "--socket", NOWHERE]),
            2,
            "--for is missing\n",
        ),
        (vec!["--odd"], 2, "invalid option '--odd'\n"),
        (
            with(&["--for", "no-such-user"]),
            2,
            "--for: user no-such-user does not exist\n",
        ),
        (
            with(&["--keep", "--socket", NOWHERE, "--for", "no-such-user"]),
            1,
            "escherd's user no-such-user does not exist on this host\n",
        ),
        (
            with(&["--keep", "--socket", NOWHERE, "--for", "root"]),
            1,
            "cannot listen on /dev/null/nowhere: ",
        ),
        (
            with(&[]),
            1,
            "cannot use the directory /dev/null/nowhere: Not a directory",
        ),
    ] {
        let ended = run(&arguments);
        let shown = String::from_utf8_lossy(&ended.stderr);
        let expected = format!("escher-launcher: {message}");
        assert!(shown.starts_with(&expected), "{expected}: {shown}");
        assert_eq!(
            shown.ends_with("Try 'escher-launcher --help'.\n"),
            status == 2
        );
        assert_eq!(ended.status.code(), Some(status), "{shown}");
    }
    for argument in ["--help", "--version"] {
        assert_eq!(run(&[argument]).status.code(), Some(0));
    }
}
