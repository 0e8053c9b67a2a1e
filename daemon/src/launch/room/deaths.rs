//! What follows from the death of shims.

use std::path::PathBuf;
use std::time::Duration;

use escher_launcher::exit_record;
use escher_launcher::wire::Remains;
use escher_protocol::{ExecutionId, Leftovers, Timestamp};
use tokio::time::Instant;
use tracing::warn;

use super::Room;
use crate::engine::Engine;
use crate::execution::Loss;

/// How long the launcher may take to end what a killed shim has left behind: longer than it waits itself.
const SWEEP_DEADLINE: Duration = Duration::from_secs(15);

impl Room {
    /// A shim has gone before its result was safe. Its launcher ends what is left of its command, and says
    /// what came of that.
    pub(super) fn bereave(&mut self, id: ExecutionId, pid: u32) {
        let is_known = self.forked.contains(&pid) && self.connection.is_some();
        match self.died.remove(&pid) {
            Some(leftovers) => self.conclude(id, leftovers),
            None if is_known => {
                let until = Instant::now() + SWEEP_DEADLINE;
                self.bereaved.insert(pid, (id, until));
            }
            None => self.conclude(id, Leftovers::Unknown),
        }
    }

    pub(super) fn sweep_deadline(&self) -> Option<Instant> {
        self.bereaved.values().map(|bereaved| bereaved.1).min()
    }

    pub(super) fn stop_waiting_for_sweeps(&mut self) {
        let now = Instant::now();
        let overdue: Vec<u32> = self
            .bereaved
            .iter()
            .filter(|(_, (_, until))| *until <= now)
            .map(|(pid, _)| *pid)
            .collect();
        for pid in overdue {
            self.conclude_bereaved(pid, Leftovers::Unknown);
        }
    }

    pub(super) fn conclude_bereaved(&mut self, pid: u32, leftovers: Leftovers) {
        self.forked.remove(&pid);
        if let Some((id, _)) = self.bereaved.remove(&pid) {
            self.conclude(id, leftovers);
        }
    }

    /// A dead shim has left an exit record, or the execution is lost.
    fn conclude(&self, id: ExecutionId, leftovers: Leftovers) {
        let exits = self.settings.state_dir.join(exit_record::DIRECTORY);
        let path: PathBuf = exits.join(exit_record::file_name(id));
        let engine = self.engine.clone();
        tokio::spawn(async move {
            let read = tokio::task::spawn_blocking(move || exit_record::read(&path));
            let record = read.await.ok().and_then(Result::ok);
            let tell = move |engine: &mut Engine| match record {
                Some(record) => engine.record_found(Box::new(record), Timestamp::now()),
                None => engine.shim_lost(id, Loss::ShimKilled(leftovers), Timestamp::now()),
            };
            let _ = engine.tell(tell).await;
        });
    }

    pub(super) fn shim_died(&mut self, pid: u32, leftovers: Leftovers) {
        if self.bereaved.contains_key(&pid) {
            return self.conclude_bereaved(pid, leftovers);
        }
        self.forked.remove(&pid);
        match self.ready.iter().position(|shim| shim.pid() == pid) {
            Some(place) => {
                let shim = self.ready.swap_remove(place);
                warn!(shim = pid, "a ready shim was killed");
                let last = shim.last().into_iter().collect();
                self.removals.add(Remains::Claim, last);
            }
            // Its socket will tell as well.
            None => drop(self.died.insert(pid, leftovers)),
        }
    }
}
