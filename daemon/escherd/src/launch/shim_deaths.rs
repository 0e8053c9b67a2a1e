//! The deaths of shims: from the end of a shim's socket to what is known of its command's processes.
//!
//! A shim's death shows twice, in either order: its socket ends, and the launcher that forked it
//! sends a death notice
//! ([`LauncherReply::ShimDied`](escher_launcher::ipc::wire::LauncherReply::ShimDied)) once it has
//! killed the processes that the shim left behind. Where commands have
//! cgroups, the launcher then kills what is left in the execution's cgroup. Only then the execution
//! is concluded.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use escher_protocol::{ExecutionId, Leftovers};
use tokio::time::Instant;

/// How long the launcher may take for a death notice or a cgroup. Longer than its own deadlines for what it
/// kills.
const LAUNCHER_DEADLINE: Duration = Duration::from_secs(15);

/// What to do next about a dead shim.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Decision {
    /// Ask the launcher to kill the processes in the execution's cgroup. Without a launcher, nothing
    /// is to be done: [`ShimDeaths::on_connected`] repeats it.
    KillCgroup(ExecutionId),
    /// Conclude the execution: no more becomes known of its processes.
    Conclude(ExecutionId, Leftovers),
}

/// A request to kill what is left in a cgroup.
#[derive(Debug)]
struct CgroupKill {
    /// What is known of the shim's processes so far.
    known: Leftovers,
    deadline: Instant,
}

/// An execution whose shim is dead, and of which the launcher has not sent the death notice yet.
#[derive(Debug)]
struct AwaitedNotice {
    id: ExecutionId,
    deadline: Instant,
}

/// Keeps track of dead shims.
#[derive(Debug)]
pub(super) struct ShimDeaths {
    /// Whether commands have cgroups, according to the last launcher.
    has_cgroups: bool,
    /// Living shims of the connected launcher, which will send a notice of their death.
    forked: HashSet<u32>,
    /// Dead shims whose notice has not come.
    awaited_notices: HashMap<u32, AwaitedNotice>,
    /// Notices of shims whose sockets have not ended yet.
    early_notices: HashMap<u32, Leftovers>,
    cgroup_kills: HashMap<ExecutionId, CgroupKill>,
}

impl ShimDeaths {
    pub(super) fn new(has_cgroups: bool) -> Self {
        ShimDeaths {
            has_cgroups,
            forked: HashSet::new(),
            awaited_notices: HashMap::new(),
            early_notices: HashMap::new(),
            cgroup_kills: HashMap::new(),
        }
    }

    /// Adds a shim that the connected launcher has forked.
    pub(super) fn on_forked(&mut self, pid: u32) {
        self.forked.insert(pid);
    }

    /// Whether the connected launcher has forked this shim, and has not sent its death notice.
    pub(super) fn is_forked(&self, pid: u32) -> bool {
        self.forked.contains(&pid)
    }

    /// Whether the death notice of a shim has come before the end of its socket.
    pub(super) fn has_notice(&self, pid: u32) -> bool {
        self.early_notices.contains_key(&pid)
    }

    /// Forgets a shim that has no execution.
    pub(super) fn forget(&mut self, pid: u32) {
        self.forked.remove(&pid);
        self.early_notices.remove(&pid);
    }

    /// Handles the end of the socket of a shim whose execution is not recorded as finished.
    pub(super) fn on_shim_death(
        &mut self,
        id: ExecutionId,
        pid: u32,
        now: Instant,
    ) -> Option<Decision> {
        if let Some(leftovers) = self.early_notices.remove(&pid) {
            return Some(self.kill_cgroup(id, leftovers, now));
        }
        if !self.forked.contains(&pid) {
            return Some(self.kill_cgroup(id, Leftovers::Unknown, now));
        }
        let deadline = now + LAUNCHER_DEADLINE;
        self.awaited_notices
            .insert(pid, AwaitedNotice { id, deadline });
        None
    }

    /// Handles the death notice of a shim that was not ready.
    pub(super) fn on_death_notice(
        &mut self,
        pid: u32,
        leftovers: Leftovers,
        now: Instant,
    ) -> Option<Decision> {
        // A launcher also sends notices of shims that it forked for an earlier escherd. Nothing
        // waits for these; the sockets of such shims tell enough.
        if !self.forked.remove(&pid) {
            return None;
        }
        if let Some(awaited) = self.awaited_notices.remove(&pid) {
            return Some(self.kill_cgroup(awaited.id, leftovers, now));
        }
        self.early_notices.insert(pid, leftovers);
        None
    }

    /// Handles the launcher's answer to [`Decision::KillCgroup`].
    pub(super) fn on_cgroup_killed(
        &mut self,
        id: ExecutionId,
        leftovers: Leftovers,
    ) -> Option<Decision> {
        let kill = self.cgroup_kills.remove(&id)?;
        Some(Decision::Conclude(id, combine(kill.known, leftovers)))
    }

    /// Handles the loss of the launcher, which sends no more notices.
    pub(super) fn on_disconnected(&mut self, now: Instant) -> Vec<Decision> {
        self.forked.clear();
        self.early_notices.clear();
        let awaited = std::mem::take(&mut self.awaited_notices);
        awaited
            .into_values()
            .map(|awaited| self.kill_cgroup(awaited.id, Leftovers::Unknown, now))
            .collect()
    }

    /// Handles a new launcher, which can kill cgroups that the earlier one did not.
    pub(super) fn on_connected(&mut self, has_cgroups: bool, now: Instant) -> Vec<Decision> {
        self.has_cgroups = has_cgroups;
        let unanswered = std::mem::take(&mut self.cgroup_kills);
        unanswered
            .into_iter()
            .map(|(id, kill)| self.kill_cgroup(id, kill.known, now))
            .collect()
    }

    /// Returns when to call [`ShimDeaths::on_deadline`].
    pub(super) fn deadline(&self) -> Option<Instant> {
        let notices = self.awaited_notices.values().map(|notice| notice.deadline);
        let kills = self.cgroup_kills.values().map(|kill| kill.deadline);
        notices.chain(kills).min()
    }

    /// Stops waiting for notices and cgroups that are overdue at `now`.
    pub(super) fn on_deadline(&mut self, now: Instant) -> Vec<Decision> {
        let overdue = self
            .awaited_notices
            .extract_if(|_, notice| notice.deadline <= now);
        let overdue: Vec<_> = overdue.collect();
        let mut decisions = Vec::new();
        for (pid, notice) in overdue {
            self.forked.remove(&pid);
            decisions.push(self.kill_cgroup(notice.id, Leftovers::Unknown, now));
        }
        let overdue = self
            .cgroup_kills
            .extract_if(|_, kill| kill.deadline <= now)
            .map(|(id, kill)| Decision::Conclude(id, kill.known));
        decisions.extend(overdue);
        decisions
    }

    /// Has the execution's cgroup killed by this launcher or the next one, whichever of them has
    /// forked the shim. `known` is what is known of the processes so far.
    fn kill_cgroup(&mut self, id: ExecutionId, known: Leftovers, now: Instant) -> Decision {
        if !self.has_cgroups {
            return Decision::Conclude(id, known);
        }
        let deadline = now + LAUNCHER_DEADLINE;
        self.cgroup_kills.insert(id, CgroupKill { known, deadline });
        Decision::KillCgroup(id)
    }
}

/// Combines what is known of the processes of a shim from the launcher that was its parent, and from
/// its cgroup.
fn combine(parent: Leftovers, cgroup: Leftovers) -> Leftovers {
    match (parent, cgroup) {
        (Leftovers::Unkillable, _) | (_, Leftovers::Unkillable) => Leftovers::Unkillable,
        (Leftovers::Killed, _) | (_, Leftovers::Killed) => Leftovers::Killed,
        (Leftovers::None, _) | (_, Leftovers::None) => Leftovers::None,
        // Nobody who kills what is left reports that it was left.
        (Leftovers::Unknown | Leftovers::Left, _) => Leftovers::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Decision::{Conclude, KillCgroup};

    const ID: ExecutionId = ExecutionId::from_bytes([1; 16]);
    const OTHER: ExecutionId = ExecutionId::from_bytes([2; 16]);
    const PID: u32 = 11;

    fn forked(has_cgroups: bool) -> ShimDeaths {
        let mut deaths = ShimDeaths::new(has_cgroups);
        deaths.on_forked(PID);
        deaths
    }

    /// What follows once both signs of the death are there: at once, or after the cgroup.
    fn first_decision(has_cgroups: bool, leftovers: Leftovers) -> Decision {
        if has_cgroups {
            KillCgroup(ID)
        } else {
            Conclude(ID, leftovers)
        }
    }

    #[test]
    fn waits_for_both_signs_of_a_death_in_either_order() {
        let now = Instant::now();
        for has_cgroups in [false, true] {
            let expected = first_decision(has_cgroups, Leftovers::Killed);

            let mut deaths = forked(has_cgroups);
            assert_eq!(deaths.on_shim_death(ID, PID, now), None);
            assert_eq!(deaths.deadline(), Some(now + LAUNCHER_DEADLINE));
            let decision = deaths.on_death_notice(PID, Leftovers::Killed, now);
            assert_eq!(decision.as_ref(), Some(&expected), "socket first");

            let mut deaths = forked(has_cgroups);
            assert_eq!(deaths.on_death_notice(PID, Leftovers::Killed, now), None);
            assert!(deaths.has_notice(PID));
            assert_eq!(deaths.deadline(), None);
            let decision = deaths.on_shim_death(ID, PID, now);
            assert_eq!(decision.as_ref(), Some(&expected), "notice first");
            assert!(!deaths.has_notice(PID), "the notice is used up");
        }
    }

    #[test]
    fn does_not_wait_for_a_notice_of_a_shim_that_another_launcher_forked() {
        let now = Instant::now();
        for has_cgroups in [false, true] {
            let mut deaths = ShimDeaths::new(has_cgroups);
            let expected = first_decision(has_cgroups, Leftovers::Unknown);
            assert_eq!(deaths.on_death_notice(PID, Leftovers::Killed, now), None);
            assert_eq!(deaths.on_shim_death(ID, PID, now), Some(expected));
        }
    }

    #[test]
    fn concludes_with_what_notice_and_cgroup_say() {
        let now = Instant::now();
        let mut deaths = forked(true);
        let _ = deaths.on_death_notice(PID, Leftovers::Killed, now);
        let _ = deaths.on_shim_death(ID, PID, now);
        assert_eq!(deaths.on_cgroup_killed(OTHER, Leftovers::None), None);
        let decision = deaths.on_cgroup_killed(ID, Leftovers::None);
        assert_eq!(decision, Some(Conclude(ID, Leftovers::Killed)));
        let again = deaths.on_cgroup_killed(ID, Leftovers::None);
        assert_eq!((again, deaths.deadline()), (None, None));
    }

    #[test]
    fn combines_leftovers_to_the_worst_that_is_known() {
        use Leftovers::{Killed, None, Unkillable, Unknown};
        let by_weight = [Unknown, None, Killed, Unkillable];
        for (first, parent) in by_weight.into_iter().enumerate() {
            for (second, cgroup) in by_weight.into_iter().enumerate() {
                assert_eq!(combine(parent, cgroup), by_weight[first.max(second)]);
            }
        }
    }

    #[test]
    fn forgets_shims_without_an_execution() {
        let now = Instant::now();
        let mut deaths = forked(false);
        assert!(deaths.is_forked(PID));
        deaths.forget(PID);
        assert!(!deaths.is_forked(PID));
        assert_eq!(deaths.on_death_notice(PID, Leftovers::None, now), None);
        assert!(!deaths.has_notice(PID), "the notice of a forgotten shim");
        deaths.on_forked(PID);
        let _ = deaths.on_death_notice(PID, Leftovers::None, now);
        assert!(deaths.has_notice(PID) && !deaths.is_forked(PID));
        deaths.forget(PID);
        assert!(!deaths.has_notice(PID));
    }

    #[test]
    fn after_an_overdue_notice_leftovers_are_unknown_and_it_is_ignored_later() {
        let now = Instant::now();
        let (overdue, later) = (now + LAUNCHER_DEADLINE, Duration::from_secs(1));
        for has_cgroups in [false, true] {
            let mut deaths = forked(has_cgroups);
            deaths.on_forked(PID + 1);
            let _ = deaths.on_shim_death(ID, PID, now);
            let _ = deaths.on_shim_death(OTHER, PID + 1, now + later);
            assert_eq!(deaths.on_deadline(overdue - later), []);
            let expected = first_decision(has_cgroups, Leftovers::Unknown);
            assert_eq!(deaths.on_deadline(overdue), [expected]);
            assert_eq!(deaths.deadline(), Some(overdue + later), "the other shim's");
            assert_eq!(
                deaths.on_death_notice(PID, Leftovers::Killed, overdue),
                None
            );
            assert!(!deaths.has_notice(PID));
        }
    }

    #[test]
    fn an_overdue_cgroup_kill_is_not_waited_for() {
        let now = Instant::now();
        let mut deaths = forked(true);
        let _ = deaths.on_shim_death(ID, PID, now);
        let _ = deaths.on_death_notice(PID, Leftovers::Killed, now + Duration::from_secs(1));
        let overdue = now + Duration::from_secs(1) + LAUNCHER_DEADLINE;
        assert_eq!(deaths.deadline(), Some(overdue));
        assert_eq!(deaths.on_deadline(now + LAUNCHER_DEADLINE), []);
        let concluded = Conclude(ID, Leftovers::Killed);
        assert_eq!(deaths.on_deadline(overdue), [concluded]);
        assert_eq!(deaths.on_cgroup_killed(ID, Leftovers::None), None);
        assert_eq!(deaths.deadline(), None);
    }

    #[test]
    fn notices_are_not_awaited_from_a_lost_launcher() {
        let now = Instant::now();
        for has_cgroups in [false, true] {
            let mut deaths = forked(has_cgroups);
            deaths.on_forked(PID + 1);
            deaths.on_forked(PID + 2);
            let _ = deaths.on_shim_death(ID, PID, now);
            let _ = deaths.on_death_notice(PID + 1, Leftovers::Killed, now);
            let expected = first_decision(has_cgroups, Leftovers::Unknown);
            assert_eq!(deaths.on_disconnected(now), [expected]);
            assert!(!deaths.is_forked(PID) && !deaths.is_forked(PID + 2));
            assert!(!deaths.has_notice(PID + 1));
        }
    }

    #[test]
    fn the_next_launcher_kills_the_cgroups_that_the_earlier_one_did_not() {
        let now = Instant::now();
        let reconnected = now + Duration::from_secs(9);
        for (has_cgroups, decision, deadline) in [
            (true, KillCgroup(ID), Some(reconnected + LAUNCHER_DEADLINE)),
            (false, Conclude(ID, Leftovers::Killed), None),
        ] {
            let mut deaths = forked(true);
            let _ = deaths.on_shim_death(ID, PID, now);
            let _ = deaths.on_death_notice(PID, Leftovers::Killed, now);
            assert_eq!(deaths.on_disconnected(now), []);
            assert_eq!(deaths.deadline(), Some(now + LAUNCHER_DEADLINE));
            let decisions = deaths.on_connected(has_cgroups, reconnected);
            assert_eq!(decisions, [decision]);
            assert_eq!(deaths.deadline(), deadline);
        }
    }

    #[test]
    fn whether_there_are_cgroups_is_up_to_the_last_launcher() {
        let now = Instant::now();
        for (before, after) in [(false, true), (true, false)] {
            let mut deaths = ShimDeaths::new(before);
            assert_eq!(deaths.on_connected(after, now), []);
            let expected = first_decision(after, Leftovers::Unknown);
            assert_eq!(deaths.on_shim_death(ID, PID, now), Some(expected));
        }
    }
}
