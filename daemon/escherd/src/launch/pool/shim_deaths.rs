//! What follows from the death of shims.

use std::path::PathBuf;
use std::time::Duration;

use escher_launcher::ipc::exit_record;
use escher_launcher::ipc::wire::{Artifact, FIRST_ATTEMPT};
use escher_protocol::{ExecutionId, Leftovers, Timestamp};
use tokio::time::Instant;
use tracing::{error, warn};

use super::Room;
use crate::execution::Loss;
use crate::scheduler::Scheduler;

/// How long the launcher may take to end what a killed shim has left behind: longer than it waits itself.
const SWEEP_DEADLINE: Duration = Duration::from_secs(15);

impl Room {
    /// A shim has gone before its result was safe. Its launcher ends what is left of its command, and says
    /// what came of that.
    pub(super) fn bereave(&mut self, id: ExecutionId, pid: u32) {
        let is_known = self.forked.contains(&pid) && self.connection.is_some();
        match self.died.remove(&pid) {
            Some(leftovers) => self.sweep(id, leftovers),
            None if is_known => {
                let until = Instant::now() + SWEEP_DEADLINE;
                self.bereaved.insert(pid, (id, until));
            }
            None => self.sweep(id, Leftovers::Unknown),
        }
    }

    pub(super) fn sweep_deadline(&self) -> Option<Instant> {
        let bereaved = self.bereaved.values().map(|bereaved| bereaved.1);
        let sweeping = self.sweeping.values().map(|sweeping| sweeping.1);
        bereaved.chain(sweeping).min()
    }

    pub(super) fn stop_waiting_for_sweeps(&mut self) {
        let now = Instant::now();
        self.stop_waiting_for_deaths_until(now);
        let overdue = self.sweeping.extract_if(|_, (_, until)| *until <= now);
        for (id, (leftovers, _)) in overdue.collect::<Vec<_>>() {
            self.conclude(id, leftovers);
        }
    }

    /// The launcher is gone, and tells of none any more.
    pub(super) fn stop_waiting_for_deaths(&mut self) {
        self.stop_waiting_for_deaths_until(Instant::now() + SWEEP_DEADLINE);
    }

    fn stop_waiting_for_deaths_until(&mut self, then: Instant) {
        let bereaved = self.bereaved.extract_if(|_, (_, until)| *until <= then);
        for (pid, (id, _)) in bereaved.collect::<Vec<_>>() {
            self.forked.remove(&pid);
            self.sweep(id, Leftovers::Unknown);
        }
    }

    /// Has the launcher end what is left in the execution's cgroup, this one or the next, whichever has forked the shim;
    /// `leftovers` is what is known without.
    fn sweep(&mut self, id: ExecutionId, leftovers: Leftovers) {
        if !self.has_cgroups {
            return self.conclude(id, leftovers);
        }
        let until = Instant::now() + SWEEP_DEADLINE;
        self.sweeping.insert(id, (leftovers, until));
        if let Some(connection) = &self.connection {
            // One that does not hear it is about to be gone.
            let _ = connection.kill_cgroup(id);
        }
    }

    /// There is another launcher, which was not asked.
    pub(super) fn ask_for_sweeps(&mut self) {
        for (id, (leftovers, _)) in std::mem::take(&mut self.sweeping) {
            self.sweep(id, leftovers);
        }
    }

    /// The launcher has done so.
    pub(super) fn swept(&mut self, id: ExecutionId, leftovers: Leftovers) {
        if let Some((known, _)) = self.sweeping.remove(&id) {
            self.conclude(id, taken_together(known, leftovers));
        }
    }

    /// A dead shim has left an exit record, or the execution is lost.
    fn conclude(&self, id: ExecutionId, leftovers: Leftovers) {
        let exits = self.settings.state_dir.join(exit_record::DIRECTORY);
        let path: PathBuf = exits.join(exit_record::file_name(id, FIRST_ATTEMPT));
        let engine = self.engine.clone();
        tokio::spawn(async move {
            let read = tokio::task::spawn_blocking(move || exit_record::read(&path));
            let report = match read.await {
                Ok(Ok(report)) => Some(report),
                Ok(Err(problem)) if problem.is_of_another_version() => {
                    error!("{problem}; it is left for an escherd that understands it");
                    return;
                }
                Ok(Err(_)) | Err(_) => None,
            };
            let tell = move |engine: &mut Scheduler| match report {
                Some(report) => engine.record_found(Box::new(report), Timestamp::now()),
                None => engine.shim_lost(id, Loss::ShimKilled(leftovers), Timestamp::now()),
            };
            let _ = engine.post(tell).await;
        });
    }

    pub(super) fn shim_died(&mut self, pid: u32, leftovers: Leftovers) {
        // A launcher that was there before escherd tells of shims that were, too. Their sockets tell as well.
        if !self.forked.remove(&pid) {
            return;
        }
        if let Some((id, _)) = self.bereaved.remove(&pid) {
            return self.sweep(id, leftovers);
        }
        match self.ready.iter().position(|shim| shim.pid() == pid) {
            Some(place) => {
                let shim = self.ready.swap_remove(place);
                warn!(shim = pid, "a ready shim was killed");
                let last = shim.last().into_iter().collect();
                let attempt = FIRST_ATTEMPT;
                self.removals.add(Artifact::Claim { attempt }, last);
            }
            // Its socket will tell as well.
            None => drop(self.died.insert(pid, leftovers)),
        }
    }
}

/// What is known of the processes of a shim, from the launcher that was its parent and from its cgroup.
fn taken_together(parent: Leftovers, cgroup: Leftovers) -> Leftovers {
    match (parent, cgroup) {
        (Leftovers::Unkillable, _) | (_, Leftovers::Unkillable) => Leftovers::Unkillable,
        (Leftovers::Killed, _) | (_, Leftovers::Killed) => Leftovers::Killed,
        (Leftovers::None, _) | (_, Leftovers::None) => Leftovers::None,
        (Leftovers::Unknown, Leftovers::Unknown) => Leftovers::Unknown,
    }
}
