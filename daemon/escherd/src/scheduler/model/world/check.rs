//! What must hold once a world has come to rest.

use escher_protocol::message::CancelAnswer;
use escher_protocol::{ExecutionRecord, Status};

use super::super::clients::Clients;
use super::super::shims::Environment;
use super::requests::{limits, text_bytes};
use super::{MAX_LAUNCH_ATTEMPTS, World};

impl World {
    /// Checks that nothing is lost, nothing has run twice, and no answer was wrong.
    pub(in crate::scheduler::model) fn check(&self) {
        let Clients {
            acknowledged,
            results,
            cancelled,
            removed,
            paused,
            signalled,
            ..
        } = &self.clients;
        for (id, kind) in acknowledged {
            let found = self.disk.find(*id);
            assert!(
                found.is_some() || removed.contains_key(id),
                "{id} {kind:?} was acknowledged and is not there"
            );
            assert!(
                found.is_none() || removed.get(id) != Some(&true),
                "{id} was removed and is there"
            );
        }
        for (id, end) in self.disk.all() {
            let record = end.unwrap_or_else(|| panic!("{id} never ends"));
            let runs = self.shims.runs.get(&id).copied().unwrap_or(0);
            let expected = match (record.status, self.shims.ends.get(&id)) {
                (Status::Lost, _) => self.shims.killed.contains(&id),
                (status, Some(end)) => {
                    crate::execution::status_of(end.clone()) == status
                        && record.resources.measured == end.measured
                        && record.signals == end.signals
                        && runs == 1
                }
                (Status::Cancelled, None) => runs == 0,
                (Status::Failed, None) => {
                    let attempts = self.disk.launch_attempts(id);
                    // It may have lost its inherited environment if no client knows of it.
                    let is_unknown = !acknowledged.iter().any(|(known, _)| *known == id);
                    let has_reason = attempts >= MAX_LAUNCH_ATTEMPTS || self.disk.is_damaged(id);
                    runs == 0 && (has_reason || is_unknown)
                }
                (_, None) => false,
            };
            assert!(
                expected,
                "{record:?} after {runs} runs, {:?}",
                self.shims.ends.get(&id)
            );
            assert!(
                !record.command_cut || self.disk.is_damaged(id),
                "{id} has lost a part of its command"
            );
            // While the disk is full a result is returned on the report of its shim alone. A shim that is killed
            // before there is room takes the result with it.
            let is_sure = !(self.has_been_full && self.shims.killed.contains(&id));
            for result in results.iter().filter(|result| is_sure && result.id == id) {
                // The log may have been removed since.
                let mut result = ExecutionRecord {
                    log_removed: record.log_removed,
                    ..result.clone()
                };
                if result.command_cut || record.command_cut {
                    // escherd completes the first before the client gets it; the second has lost its end to damage.
                    result.command.clone_from(&record.command);
                    result.command_cut = record.command_cut;
                }
                assert_eq!(result, *record, "the answer was another");
            }
        }
        for (id, kind) in acknowledged {
            let limits = limits(*kind);
            let mut ends = self
                .disk
                .all()
                .filter_map(|(other, end)| Some((other, end?)));
            let kept = ends
                .find(|(other, _)| other == id)
                .map(|found| found.1.resources.limits);
            assert!(kept.is_none_or(|kept| kept == limits), "{id}: {kept:?}");
            let enforced = self.shims.limits.get(id);
            assert!(enforced.is_none_or(|enforced| *enforced == limits), "{id}");
            let environment = self.shims.environments.get(id);
            let is_whole = |environment: &Environment| {
                environment.bytes >= text_bytes(*kind) && environment.is_inherited == kind.inherits
            };
            assert!(
                environment.is_none_or(is_whole),
                "{id} was started with {environment:?}"
            );
        }
        for id in paused {
            assert!(self.shims.paused.contains(id), "{id} was never paused");
        }
        for (id, serial) in signalled {
            let sent = self.shims.signals.get(id);
            assert!(
                sent.is_some_and(|sent| sent.contains(serial)),
                "{id} never got its signal"
            );
        }
        for (id, runs) in &self.shims.runs {
            assert!(*runs <= 1, "{id} has run {runs} times");
        }
        for (id, outcome) in cancelled {
            match outcome {
                CancelAnswer::Withdrawn => {
                    assert!(
                        !self.shims.runs.contains_key(id),
                        "{id} was withdrawn and has run"
                    );
                }
                CancelAnswer::Ending | CancelAnswer::AlreadyEnding => {
                    let shims = &self.shims;
                    let was_over = shims.ends.contains_key(id) || shims.killed.contains(id);
                    // A crash came before its launch: then it needs none any more.
                    let has_run = shims.runs.contains_key(id);
                    assert!(
                        shims.ended_by_request.contains(id) || was_over || !has_run,
                        "{id} was never ended"
                    );
                }
                CancelAnswer::AlreadyFinished(status) => {
                    let found = self.disk.find(*id).flatten().map(|record| record.status);
                    let is_sure = !(self.has_been_full && self.shims.killed.contains(id));
                    assert!(!is_sure || found.is_none_or(|found| found == *status));
                }
            }
        }
        let sequences: Vec<u64> = self
            .disk
            .events()
            .iter()
            .map(|event| event.sequence)
            .collect();
        assert!(
            sequences.windows(2).all(|pair| pair[0] < pair[1]),
            "{sequences:?}"
        );
        let on_disk = self.disk.log_bytes();
        for uid in 0..4 {
            let bytes = on_disk.get(&uid).copied().unwrap_or(0);
            assert_eq!(
                self.scheduler.log_budgets.used(uid),
                bytes,
                "{uid} is charged"
            );
        }
        assert_eq!(
            self.shims.alive(),
            0,
            "a shim keeps a report that is on disk"
        );
        assert!(self.shims.claims.is_empty(), "{:?}", self.shims.claims);
        assert!(
            self.shims.exit_records.is_empty(),
            "{:?}",
            self.shims.exit_records
        );
        assert_eq!(self.disk.undeleted(), 0, "logs were not deleted");
    }
}
