//! Times that people write are in their own time zone.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Output;

use escher_client::Timestamp;
use escher_client::protocol::{Request, Response};
use escher_client::{Removed, Selection};
use escher_tests::require_root;
use nix::sys::stat::{Mode, SFlag, mknod};
use tokio::process::Command;

use crate::support::escherctl::{escherctl, stderr, with_pipes};
use crate::support::{FakeDaemon, ServerConnection};

/// Half past eight on this day, in no zone.
const ARGUMENTS: [&str; 3] = ["prune", "--until", "2026-11-30 08:30"];

/// The same in UTC, in seconds since 1970.
const IN_UTC: i64 = 1_796_027_400;

/// Answers the request to remove executions, and returns until when.
async fn answer_prune(mut peer: ServerConnection) -> Option<Timestamp> {
    let (id, request) = peer.request().await;
    let Request::Prune {
        selection: Selection { until, .. },
        ..
    } = request
    else {
        panic!("{request:?}");
    };
    let removed = Response::Removed(Removed::default());
    peer.reply(id, Ok(removed)).await;
    until
}

/// Runs it against `daemon`. Returns until when it asks to remove executions.
async fn until(daemon: &FakeDaemon, mut command: Command) -> Option<Timestamp> {
    let (ended, until) = tokio::join!(command.output(), async {
        answer_prune(daemon.accept().await).await
    });
    let ended: Output = ended.unwrap();
    assert!(ended.status.success(), "{ended:?}");
    until
}

fn hours_before_utc(hours: i64) -> Option<Timestamp> {
    Some(Timestamp::from_micros((IN_UTC - hours * 3600) * 1_000_000))
}

#[tokio::test]
async fn a_local_time_is_in_the_zone_that_tz_names() {
    for (zone, hours) in [
        ("Europe/Berlin", 1),
        (":Europe/Berlin", 1),
        ("/usr/share/zoneinfo/America/New_York", -5),
        ("Asia/Tokyo", 9),
        ("CET-1CEST,M3.5.0,M10.5.0/3", 1),
        ("UTC", 0),
        ("", 0),
    ] {
        let daemon = FakeDaemon::start();
        let mut command = escherctl(&daemon, &ARGUMENTS);
        command.env("TZ", zone);
        let until = until(&daemon, command).await;
        assert_eq!(until, hours_before_utc(hours), "TZ={zone}");
    }
}

#[tokio::test]
async fn a_local_time_in_an_unknown_zone_is_an_error() {
    for zone in ["Mars/Phobos", "Europe/Berln", "no such zone"] {
        let daemon = FakeDaemon::start();
        let mut command = escherctl(&daemon, &ARGUMENTS);
        let ended = command.env("TZ", zone).output().await.unwrap();
        assert_eq!(ended.status.code(), Some(2));
        let shown = stderr(&ended);
        assert!(shown.contains(zone) && shown.contains("--until"), "{shown}");
    }
}

/// Over `/etc`, for one process: with another `/etc/localtime`, and with none.
#[tokio::test]
async fn without_tz_the_zone_is_that_of_the_host() {
    if !require_root("another /etc/localtime") {
        return;
    }
    for (link, hours) in [(Some("/usr/share/zoneinfo/Asia/Tokyo"), 9), (None, 0)] {
        let daemon = FakeDaemon::start();
        let etc = tempfile::tempdir().unwrap();
        let localtime = etc.path().join("localtime");
        match link {
            Some(target) => symlink(target, &localtime).unwrap(),
            // A whiteout (Documentation/filesystems/overlayfs.rst of Linux).
            None => mknod(&localtime, SFlag::S_IFCHR, Mode::empty(), 0).unwrap(),
        }
        fs::write(etc.path().join("timezone"), "").unwrap();
        let script =
            "mount -t overlay -o lowerdir=\"$1\":/etc overlay /etc && shift && exec \"$@\"";
        let mut command = Command::new("unshare");
        command
            .args(["--mount", "/bin/sh", "-c", script, "sh"])
            .arg(etc.path())
            .arg(env!("CARGO_BIN_EXE_escherctl"))
            .arg("--socket")
            .arg(daemon.path())
            .args(ARGUMENTS)
            .env_remove("TZ");
        with_pipes(&mut command);
        let until = until(&daemon, command).await;
        assert_eq!(until, hours_before_utc(hours), "{link:?}");
    }
}
