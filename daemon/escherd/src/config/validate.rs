//! What values must be like beyond their own ranges: beside each other, and on this host.

use std::path::Path;

use nix::sys::statfs::{PROC_SUPER_MAGIC, SYSFS_MAGIC, statfs};
use nix::sys::sysinfo::sysinfo;
use nix::unistd::{AccessFlags, eaccess};

use super::error::Fault;
use super::layers::{Held, Layers};
use super::schema::KEYS;
use super::value_type::{Given, Kind};

/// All that is wrong.
pub(super) fn check(layers: &Layers) -> Vec<Fault> {
    let faults = [
        sockets(layers),
        timeouts(layers),
        tail(layers),
        log_dir(layers),
    ];
    let memory = sysinfo().map_or(u64::MAX, |info| info.ram_total());
    faults
        .into_iter()
        .flatten()
        .chain(sizes(layers, memory))
        .collect()
}

fn number(held: &Held) -> u64 {
    match held.value {
        Given::Number(number) => number,
        _ => 0,
    }
}

/// Two sockets cannot be in one place.
fn sockets(layers: &Layers) -> Option<Fault> {
    let (metrics, clients) = layers.pair("daemon.metrics_socket", "daemon.socket")?;
    if metrics.value != clients.value {
        return None;
    }
    let right = "must be another path than daemon.socket, which is where clients connect";
    Some(Fault::new(&metrics.said, right))
}

/// The fault is that of the one that somebody has set.
fn timeouts(layers: &Layers) -> Option<Fault> {
    const DEFAULT: &str = "execution.default_timeout_ms";
    const MAX: &str = "execution.max_timeout_ms";
    let (default, max) = layers.pair(DEFAULT, MAX)?;
    if number(max) == 0 || (1..=number(max)).contains(&number(default)) {
        return None;
    }
    if max.origin.is_a_choice() && !default.origin.is_a_choice() {
        let right = format!(
            "must be at least {DEFAULT}, which is {} ({}), or 0 for any timeout",
            number(default),
            default.origin
        );
        return Some(Fault::new(&max.said, right));
    }
    let right = format!(
        "must be from 1 to {MAX}, which is {} ({}); only if that is 0 may this be 0 or anything",
        number(max),
        max.origin
    );
    Some(Fault::new(&default.said, right))
}

fn tail(layers: &Layers) -> Option<Fault> {
    const LIMIT: &str = "execution.max_output_size_bytes";
    let (tail, limit) = layers.pair("execution.keep_tail_bytes", LIMIT)?;
    if number(tail) == 0 || number(tail) < number(limit) {
        return None;
    }
    let right = format!(
        "must be less than {LIMIT}, which is {} ({})",
        number(limit),
        limit.origin
    );
    Some(Fault::new(&tail.said, right))
}

/// What somebody has set and this host has not enough `memory` for.
fn sizes(layers: &Layers, memory: u64) -> Vec<Fault> {
    let mut faults = Vec::new();
    for key in KEYS {
        let Kind::Number { memory: each, .. } = key.kind else {
            continue;
        };
        if each > 0
            && let Some(held) = layers.get(key.name)
            && held.origin.is_a_choice()
            && number(held) > memory / each
        {
            let right = format!(
                "must be at most {}, or it would not fit into this host's memory",
                memory / each
            );
            faults.push(Fault::new(&held.said, right));
        }
    }
    faults
}

/// Where somebody has said where logs go, they must be able to.
fn log_dir(layers: &Layers) -> Option<Fault> {
    if layers.get("daemon.launcher_socket").is_some() {
        // The launcher writes there, and escherd need not be able to.
        return None;
    }
    let held = layers.get("execution.log_dir")?;
    let Given::Text(path) = &held.value else {
        return None;
    };
    if !held.origin.is_a_choice() {
        return None;
    }
    let path = Path::new(path);
    // What is not there yet will be made.
    let nearest = path
        .ancestors()
        .find(|ancestor| ancestor.symlink_metadata().is_ok())?;
    let obstacle = match eaccess(nearest, AccessFlags::W_OK | AccessFlags::X_OK) {
        _ if !nearest.is_dir() => "is no directory".to_owned(),
        // root is told that it may write there, and then nothing can be made.
        Ok(()) if is_the_kernels(nearest) => "is the kernel's own".to_owned(),
        Ok(()) => return None,
        Err(error) => format!("cannot be written to ({})", error.desc()),
    };
    let obstacle = if nearest == path {
        format!("it {obstacle}")
    } else {
        format!("{} {obstacle}", nearest.display())
    };
    let right = format!("must be a directory that escherd can write to, but {obstacle}");
    Some(Fault::new(&held.said, right))
}

/// Whether it is in /proc or /sys.
fn is_the_kernels(dir: &Path) -> bool {
    let kind = statfs(dir).map(|found| found.filesystem_type());
    kind.is_ok_and(|kind| [PROC_SUPER_MAGIC, SYSFS_MAGIC].contains(&kind))
}
