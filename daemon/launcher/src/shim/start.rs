//! From a task to its running command: the claim, a cgroup, a process.

use std::io;
use std::os::fd::AsFd;

use escher_protocol::{ExecutionId, Exit, ResourceLimits, StartStage};

use super::Workshop;
use super::link::Link;
use super::spawn::{self, Cradle, Started};
use crate::ipc::wire::Assignment;
use crate::os::cgroup::{Cgroup, Cgroups};
use crate::sys::process::ChildMemory;

/// The claim comes before the process: where there is none, nothing was started.
pub(super) fn claim_and_start(
    assignment: &mut Assignment,
    link: &mut Link,
    workshop: &Workshop,
) -> Result<(Started, Option<Cgroup>), Exit> {
    let not_started = |stage| {
        move |error: io::Error| Exit::NotStarted {
            stage,
            errno: error.raw_os_error().unwrap_or(libc::EIO),
        }
    };
    let spec = &mut assignment.spec;
    let claimed = link.claim(workshop.directories.shims.as_fd(), spec.id, spec.attempt);
    claimed.map_err(not_started(StartStage::Prepare))?;
    let cgroup = make_cgroup(spec.id, &assignment.limits, workshop.cgroups.as_ref());
    let cgroup = cgroup.map_err(not_started(StartStage::Limits))?;
    let entrance = cgroup.as_ref().map(Cgroup::entrance).transpose();
    let entrance = entrance.map_err(not_started(StartStage::Limits))?;
    let cradle = Cradle {
        memory: match assignment.limits.memory_max {
            None => workshop.surroundings.child_memory,
            // For want of memory the kernel kills whoever shares it, and a child that has just entered the cgroup
            // shares the shim's.
            Some(_) => ChildMemory::Copied,
        },
        entrance: entrance.as_ref().map(AsFd::as_fd),
    };
    let started = spawn::start(spec, cradle, workshop)?;
    Ok((started, cgroup))
}

/// A cgroup for the command. Where it cannot be had and nothing hangs on it, the command does without.
fn make_cgroup(
    id: ExecutionId,
    limits: &ResourceLimits,
    cgroups: Option<&Cgroups>,
) -> io::Result<Option<Cgroup>> {
    let made = match cgroups {
        Some(cgroups) => cgroups.create(id, limits).map(Some),
        None => Err(io::Error::from_raw_os_error(libc::EOPNOTSUPP)),
    };
    match made {
        Err(_) if limits.is_unlimited() => Ok(None),
        made => made,
    }
}
