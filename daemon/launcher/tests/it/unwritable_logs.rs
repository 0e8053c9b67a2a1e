//! Logs that cannot be written: existing files, full disks.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use escher_launcher::ipc::wire::{FromShim, LaunchSpec};
use escher_protocol::{Exit, OutputTotals};

use crate::commands::shell_with;
use crate::small_disk::with_a_small_disk;
use crate::{Fifo, Launcher, Output, require_root, shell};
use escher_testkit::fill_disk;

const ALL_DROPPED: OutputTotals = OutputTotals {
    stdout_bytes: 7,
    stderr_bytes: 0,
    log_bytes: 0,
    dropped_bytes: 7,
    forgotten_bytes: 0,
    reserved_bytes: 0,
};

#[test]
fn an_existing_file_with_the_name_of_a_log_or_index_is_not_touched() {
    let launcher = Launcher::start();
    let shim = launcher.shim();
    let precious = launcher.path("precious");
    let plants: [fn(&Path, &Path); 4] = [
        |precious, place| symlink(precious, place).unwrap(),
        |precious, place| symlink(precious.with_file_name("absent"), place).unwrap(),
        |precious, place| fs::hard_link(precious, place).unwrap(),
        |precious, place| assert!(fs::copy(precious, place).is_ok()),
    ];
    for plant in plants {
        for ending in ["log", "idx"] {
            fs::write(&precious, "mine").unwrap();
            let spec = shell("echo lost; echo");
            let place = launcher.log_dir().join(format!("{}.{ending}", spec.id));
            plant(&precious, &place);
            let report = shim.run(&spec);
            assert_eq!(report.exit, Exit::Code(0));
            let totals = OutputTotals {
                stdout_bytes: 6,
                dropped_bytes: 6,
                ..ALL_DROPPED
            };
            assert_eq!(report.output, totals);
            assert_eq!(fs::read(&precious).unwrap(), b"mine");
            assert!(!launcher.path("absent").exists());
            // The other of the two files was not created.
            let ours = crate::launcher::names(&launcher.log_dir());
            let id = spec.id.to_string();
            assert_eq!(ours.iter().filter(|name| name.starts_with(&id)).count(), 1);
        }
    }
}

fn read(logs: &Path, spec: &LaunchSpec) -> Output {
    let file = |ending| fs::read(logs.join(format!("{}.{ending}", spec.id))).unwrap();
    Output::parse(file("log"), &file("idx"))
}

#[test]
fn output_that_a_full_disk_cannot_take_is_counted_and_the_rest_is_exact() {
    if !require_root("a full disk") {
        return;
    }
    let (launcher, logs) = with_a_small_disk("--log-dir", 256);
    fill_disk(&logs, 64 * 1024);
    let spec = shell("seq 1 100000; seq 1 1000 >&2; exit 3");
    let report = launcher.shim().run(&spec);
    assert_eq!(report.exit, Exit::Code(3));
    let output = read(&logs, &spec);
    let totals = report.output;
    assert_eq!((totals.stdout_bytes, totals.stderr_bytes), (588_895, 3_893));
    assert_eq!(totals.log_bytes, output.log.len() as u64);
    assert_eq!(totals.log_bytes + totals.dropped_bytes, 588_895 + 3_893);
    assert!(totals.log_bytes > 30_000, "{totals:?}");
    let whole = (1..=100_000).fold(String::new(), |text, n| text + &n.to_string() + "\n");
    assert!(whole.as_bytes().starts_with(&output.stdout()));
}

#[test]
fn output_is_logged_again_once_a_full_disk_has_space() {
    if !require_root("a full disk that has room again") {
        return;
    }
    let (launcher, logs) = with_a_small_disk("--log-dir", 256);
    let shim = launcher.shim();
    let fifo = Fifo::create(launcher.path("fifo"));
    let text = "printf missing; echo said > \"$0\"; read line; read line; echo kept; echo this >&2";
    let spec = LaunchSpec {
        stdin: true,
        ..shell_with(text, fifo.path())
    };
    let ballast = fill_disk(&logs, 0);
    shim.start(&spec);
    assert_eq!(fifo.read_line(), "said");
    // The shim reads output before messages: once this is accepted, the output before it was
    // dropped.
    shim.input("first\n", false);
    assert_eq!(shim.receive(), Some(FromShim::InputAccepted));
    fs::remove_file(ballast).unwrap();
    shim.input("second\n", true);
    let report = shim.finish();
    let totals = OutputTotals {
        stdout_bytes: 12,
        stderr_bytes: 5,
        log_bytes: 10,
        dropped_bytes: 7,
        forgotten_bytes: 0,
        reserved_bytes: 0,
    };
    assert_eq!(report.output, totals);
    let output = read(&logs, &spec);
    assert_eq!(output.stdout(), b"kept\n");
    assert_eq!(output.stderr(), b"this\n");
    // There was no index yet when the gap began.
    assert_eq!(output.missing, [(0, 0), (0, 7)]);
}
