//! The world of the model: one escherd at a time, and everything around it.

mod check;
mod invariants;
mod requests;

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::Duration;

use escher_launcher::ipc::wire::{Abilities, LogDirAbilities, LogLimits, ProcessDefaults};
use escher_protocol::{Controllers, ExecutionId, Leftovers, ResourceLimits, Timestamp};

use super::Step;
use super::clients::{Clients, RequestKind};
use super::disk::Disk;
use super::shims::Shims;
use crate::authz::Scope;
use crate::config::{OnBoot, Percent};
use crate::execution::{Loss, RequestLimits};
use crate::scheduler::shares::SlotLimits;
use crate::scheduler::shares::fairness::FairnessCheck;
use crate::scheduler::{Effect, RecoveredState, Scheduler, SchedulerSettings};
use crate::store::{CommitOutcome, Durability};

/// Resources that the launcher can limit.
const CONTROLLERS: Controllers = Controllers {
    memory: true,
    cpu: false,
    pids: false,
    io: false,
    io_weight: false,
};

/// What the launcher can do.
fn abilities() -> Abilities {
    Abilities {
        program: "model".into(),
        log_dir: LogDirAbilities {
            punches_holes: true,
        },
        cgroups: Some(CONTROLLERS),
        process: ProcessDefaults::default(),
    }
}

/// Most executions that run at once, unless more were adopted.
const SLOTS: SlotLimits = SlotLimits {
    ordinary: 2,
    root: 1,
};

const MAX_LAUNCH_ATTEMPTS: u32 = 2;

/// Bytes of the disk of the logs: the share of a user is that of some commands.
const LOG_CAPACITY: u64 = 4 * 1024 * 1024;

/// Returns a check that knows what the users of a scheduler have.
fn resumed(scheduler: &Scheduler) -> FairnessCheck {
    let mut fairness = FairnessCheck::new(SLOTS);
    let eligible = scheduler.shares.eligible();
    for user in scheduler.shares.users() {
        let of_user = |number: &u64| scheduler.entries[number].submitter().uid == user.uid;
        let slots = usize::try_from(scheduler.quota(user.clone()).running);
        let eligible = eligible.iter().copied().filter(of_user);
        fairness.on_resumed(user.uid, eligible, slots.expect("a small number"));
    }
    fairness
}

pub(super) struct World {
    scheduler: Scheduler,
    settings: SchedulerSettings,
    /// Effects that were not performed yet.
    effects: VecDeque<Effect>,
    /// Deletions on their way to the launcher.
    deletions: Vec<(escher_launcher::ipc::wire::ExecutionFiles, Vec<ExecutionId>)>,
    disk: Disk,
    shims: Shims,
    clients: Clients,
    scope: Scope,
    /// Sees all admissions of this escherd; `None` while it starts.
    fairness: Option<FairnessCheck>,
    /// Submissions that are not committed yet, by ticket: submitter, number, and whether it was admitted.
    submissions: HashMap<u64, (u32, u64, bool)>,
    has_been_full: bool,
    now: i64,
}

impl World {
    pub(super) fn new(power: bool) -> Self {
        let settings = SchedulerSettings {
            request: RequestLimits {
                default_timeout_ms: 0,
                max_timeout_ms: 0,
                kill_grace_ms: 1,
                max_kill_grace_ms: 60_000,
                drain_ms: 1,
                max_drain_ms: 60_000,
            },
            max_concurrent: SLOTS.ordinary,
            root_slots: SLOTS.root,
            max_pending: 6,
            max_pending_bytes: 100_000,
            user_limits: ResourceLimits::default(),
            max_left: 0,
            queue_share: Percent::new(50),
            max_in_memory: 2,
            max_launch_attempts: MAX_LAUNCH_ATTEMPTS,
            log_dir: "/logs".into(),
            log_limits: LogLimits::default(),
            log_share: Percent::new(25).expect("a share"),
            output_limit: None,
            durability: if power {
                Durability::Power
            } else {
                Durability::Crash
            },
        };
        let mut scheduler = Scheduler::new(settings.clone());
        scheduler.on_launcher_connected(&abilities());
        scheduler.set_log_capacity(Some(LOG_CAPACITY));
        World {
            scheduler,
            settings,
            effects: VecDeque::new(),
            deletions: Vec::new(),
            disk: Disk::new(!power),
            shims: Shims::default(),
            clients: Clients::default(),
            scope: Scope::for_root(),
            fairness: Some(FairnessCheck::new(SLOTS)),
            submissions: HashMap::new(),
            has_been_full: false,
            now: 1,
        }
    }

    pub(super) fn step(&mut self, step: &Step) {
        self.now += 1;
        match *step {
            Step::Submit {
                uid,
                key,
                limited,
                large,
                inherits,
            } => self.submit(RequestKind {
                uid,
                key,
                is_limited: limited,
                is_large: large,
                // The key does not stand for it.
                inherits: key.map_or(inherits, |key| key % 2 == 1),
            }),
            Step::Wait(which) => {
                if let Some(number) = self
                    .clients
                    .known(which)
                    .and_then(|id| self.number_in_memory(id))
                {
                    let answer = self.scheduler.wait(number);
                    self.clients.wait(answer);
                }
            }
            Step::Cancel { which, kill } => self.cancel(which, kill),
            Step::Pause { which, pause } => self.pause(which, pause),
            Step::Signal(which) => self.signal(which),
            Step::Remove(which) => self.remove(which),
            Step::RemoveLog(which) => self.remove_log(which),
            Step::Commit(count) => self.commit(count.into()),
            Step::ApplyJournal => self.apply_journal(),
            Step::FailToCommit => {
                self.has_been_full = true;
                let outcomes = self.disk.fail();
                self.on_commits(outcomes);
            }
            Step::Damage(which) => self.disk.damage(which.into()),
            Step::PerformEffect => self.perform_effect(),
            Step::Launcher(is_there) => {
                let now = self.time();
                self.shims.set_launcher(is_there, now);
                self.report_launcher();
            }
            Step::Delete => self.delete(),
            Step::Deliver(which) => self.deliver(which.into()),
            Step::FillLog(which) => self.shims.fill_log(which.into()),
            Step::End { which, code } => {
                let now = self.time();
                self.shims.end(which.into(), i32::from(code), now);
            }
            Step::KillShim(which) => self.kill_shim(which.into()),
            Step::Crash {
                committed,
                performed,
            } => {
                let waits = self.disk.waiting_changes() + 1;
                self.crash(usize::from(committed) % waits, performed.into());
                self.start(false);
            }
            Step::Reboot { committed } => {
                let waits = self.disk.waiting_changes() + 1;
                self.crash(usize::from(committed) % waits, 0);
                // Whether a launch has begun cannot be known after a power cut.
                let unfinished = self.disk.load().unfinished.into_iter();
                let admitted = unfinished.filter(|unfinished| unfinished.is_admitted);
                self.shims
                    .power_cut(admitted.map(|unfinished| unfinished.submission.id));
                self.start(true);
            }
            Step::PassTime => {
                self.now += 1000;
                self.scheduler
                    .evict(Duration::from_micros(500), self.time());
            }
        }
        self.after_step();
    }

    fn after_step(&mut self) {
        for effect in self.scheduler.take_effects() {
            match effect {
                Effect::Commit(entry) => {
                    self.watch_change(&entry);
                    self.disk.write(*entry);
                }
                effect => self.effects.push_back(effect),
            }
        }
        let scheduler = &self.scheduler;
        let fairness = self.fairness.get_or_insert_with(|| resumed(scheduler));
        fairness.check_no_slot_is_wasted();
        self.check_logs_are_charged();
        self.check_nothing_cancelled_has_begun();
        self.check_memory_has_what_the_database_lacks();
        self.clients.receive_answers();
    }

    /// Tells the scheduler whether there is a launcher.
    fn report_launcher(&mut self) {
        if self.shims.has_launcher() {
            self.scheduler.on_launcher_connected(&abilities());
        } else {
            self.scheduler.on_launcher_disconnected();
        }
    }

    fn time(&self) -> Timestamp {
        Timestamp::from_micros(self.now)
    }

    fn number_in_memory(&self, id: ExecutionId) -> Option<u64> {
        self.scheduler.find(&self.scope, &id.into())
    }

    fn commit(&mut self, count: usize) {
        let outcomes = self.disk.commit(count);
        self.on_commits(outcomes);
    }

    fn apply_journal(&mut self) {
        let outcomes = self.disk.apply_journal();
        self.on_commits(outcomes);
    }

    /// Passes outcomes one by one, so that the check of fairness sees what follows from each.
    fn on_commits(&mut self, outcomes: Vec<(u64, CommitOutcome)>) {
        for (ticket, outcome) in outcomes {
            self.watch_outcome(ticket, &outcome);
            let time = self.time();
            self.scheduler.on_commits(vec![(ticket, outcome)], time);
            self.after_step();
        }
    }

    fn perform_effect(&mut self) {
        match self.effects.pop_front() {
            Some(Effect::Launch(launch)) => {
                let now = self.time();
                self.shims.launch(*launch, now);
            }
            Some(Effect::Withdraw(id)) => {
                let is_withdrawn = self.shims.withdraw(id);
                let time = self.time();
                self.scheduler.on_withdrawal(id, is_withdrawn, time);
            }
            Some(Effect::Send(id, message)) => self.shims.send(id, message),
            Some(Effect::DeleteFiles(files, ids)) => self.deletions.push((files, ids)),
            Some(Effect::Commit(_) | Effect::RevokeRead { .. }) | None => {}
        }
    }

    fn delete(&mut self) {
        for (files, ids) in std::mem::take(&mut self.deletions) {
            self.shims.delete(files, &ids);
            self.scheduler.on_deleted(files, ids);
        }
    }

    fn deliver(&mut self, which: usize) {
        if let Some((id, message)) = self.shims.deliver(which) {
            self.scheduler.on_shim_message(id, message, self.time());
        }
    }

    fn kill_shim(&mut self, which: usize) {
        if let Some((id, messages)) = self.shims.kill(which) {
            let time = self.time();
            for message in messages {
                self.scheduler.on_shim_message(id, message, time);
            }
            let loss = Loss::ShimDied(Leftovers::Killed);
            self.scheduler.on_shim_death(id, loss, time);
        }
    }

    /// Kills escherd. What it has sent to shims arrives.
    fn crash(&mut self, committed: usize, performed: usize) {
        self.disk.crash(committed);
        for _ in 0..performed % (self.effects.len() + 1) {
            self.perform_effect();
        }
        self.effects.clear();
        self.deletions.clear();
        self.fairness = None;
        self.submissions.clear();
        self.shims.lose_escherd();
    }

    fn start(&mut self, rebooted: bool) {
        let loaded = self.disk.load();
        let shims = self.shims.states();
        let records: Vec<_> = self.shims.exit_records.values().cloned().collect();
        let reported = shims
            .iter()
            .map(|shim| shim.id)
            .chain(records.iter().map(|report| report.id));
        let is_finished =
            |id: &ExecutionId| self.disk.find(*id).is_some_and(|record| record.is_some());
        let recovered = RecoveredState {
            finished: reported.filter(is_finished).collect(),
            dead_claims: self.shims.claims.iter().copied().collect(),
            silent: HashSet::new(),
            has_unidentified_shim: false,
            rebooted,
            on_boot: OnBoot::Resume,
            loaded,
            shims,
            reports: records,
            for_later_escherd: HashSet::new(),
        };
        self.scheduler = Scheduler::restore(self.settings.clone(), recovered, self.time());
        self.report_launcher();
        self.scheduler.set_log_capacity(Some(LOG_CAPACITY));
        // escherd notes the new boot only once the changes that follow from it are committed.
        if rebooted {
            self.after_step();
            self.commit(usize::MAX);
        }
    }

    /// Delivers everything, and ends every command.
    pub(super) fn quiesce(&mut self) {
        self.crash(0, 0);
        self.shims.set_launcher(true, self.time());
        self.report_launcher();
        self.start(false);
        loop {
            self.after_step();
            let is_idle = self.effects.is_empty()
                && self.deletions.is_empty()
                && self.disk.waiting_changes() == 0;
            if is_idle && self.shims.running() == 0 {
                let Some((id, message)) = self.shims.deliver(0) else {
                    return;
                };
                self.scheduler.on_shim_message(id, message, self.time());
                continue;
            }
            self.now += 1;
            self.commit(usize::MAX);
            self.apply_journal();
            self.perform_effect();
            self.delete();
            self.deliver(0);
            let now = self.time();
            self.shims.end(0, 0, now);
        }
    }
}
