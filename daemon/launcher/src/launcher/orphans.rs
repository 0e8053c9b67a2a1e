//! Killing the processes that dead shims have left behind.
//!
//! The launcher is a child subreaper, so the processes of a dead shim become its children: every
//! child that is no shim is such an orphan. Orphans are killed until none is left. An orphan belongs
//! to the shim that has died before it appeared, or whose descendant it was when it was seen first.
//! Where several shims come into question, which die together, they are all reported as having left
//! processes, but none is blamed for one that cannot be killed: the cgroups of their executions tell
//! whose it is ([`super::cgroup_kills`]).

use std::collections::{HashMap, HashSet};
use std::time::Instant;

use escher_protocol::{Exit, Leftovers};
use nix::unistd::Pid;

use crate::os::deadline::UNKILLABLE_AFTER;
use crate::os::process_tree::{children, with_descendants};
use crate::sys::process::Reaped;

/// The number of a shim's end, by which it is told from an earlier shim with the same process id.
type EndNumber = u64;

/// The shims to which an orphan may belong, by their ends.
type Owners = HashSet<EndNumber>;

/// The orphans of all dead shims.
#[derive(Default)]
pub(super) struct Orphans {
    /// Dead shims whose orphans are still being killed.
    deaths: Vec<ShimDeath>,
    /// The shims that have ended since the last search, and those of the orphans that have. New
    /// orphans are theirs.
    candidates: Owners,
    /// The orphans that were reaped since the last search.
    reaped: HashSet<Pid>,
    /// When a child was reaped first since the last search.
    unsearched_since: Option<Instant>,
    /// How many shims have ended.
    ends: EndNumber,
    /// How many had ended at the begin of the last search. It may have missed the orphans of the others.
    ends_before_search: EndNumber,
    /// The orphans and their descendants that the last search has found. They are not reaped, or
    /// the search was followed by no other, so no other process has their ids.
    owners: HashMap<Pid, Owners>,
    /// Whether an orphan that died of SIGKILL was among the last deaths noted. The kernel kills a
    /// main process whose shim dies, and may report that death before the shim's.
    killed_before: bool,
}

/// A shim that has died.
struct ShimDeath {
    shim: Pid,
    number: EndNumber,
    give_up_at: Instant,
    /// Whether it has left processes that had to be killed.
    left_processes: bool,
}

/// An orphan with all its descendants.
pub(super) struct Family {
    orphan: Pid,
    processes: Vec<Pid>,
}

/// The children that were reaped at once.
#[derive(Default)]
pub(super) struct Ended {
    /// Shims that were done. One that could not kill its command has left it.
    pub(super) done_shims: Vec<Pid>,
    /// Shims that have died.
    pub(super) dead_shims: Vec<Pid>,
    pub(super) orphans: Vec<Reaped>,
}

impl Ended {
    fn is_empty(&self) -> bool {
        self.done_shims.is_empty() && self.dead_shims.is_empty() && self.orphans.is_empty()
    }
}

impl Orphans {
    /// Notes the children that were reaped since the last call.
    pub(super) fn note_ends(&mut self, ended: &Ended, now: Instant) {
        self.reaped
            .extend(ended.orphans.iter().map(|orphan| orphan.pid));
        if ended.is_empty() {
            return;
        }
        self.unsearched_since.get_or_insert(now);
        let mut killed = false;
        for orphan in &ended.orphans {
            let owners = self.owners.remove(&orphan.pid);
            self.candidates.extend(owners.iter().flatten());
            if !matches!(orphan.exit, Exit::Signal { signal, .. } if signal == libc::SIGKILL) {
                continue;
            }
            match owners {
                Some(owners) => {
                    let of_orphan = |death: &&mut ShimDeath| owners.contains(&death.number);
                    let deaths = self.deaths.iter_mut().filter(of_orphan);
                    deaths.for_each(|death| death.left_processes = true);
                }
                None => killed = true,
            }
        }
        let killed_before = std::mem::replace(&mut self.killed_before, killed);
        for death in &mut self.deaths {
            death.left_processes |= killed;
        }
        for shim in &ended.dead_shims {
            let number = self.number_end();
            self.deaths.push(ShimDeath {
                shim: *shim,
                number,
                give_up_at: now + UNKILLABLE_AFTER,
                left_processes: killed || killed_before,
            });
        }
        for _ in &ended.done_shims {
            self.number_end();
        }
    }

    fn number_end(&mut self) -> EndNumber {
        self.ends += 1;
        self.candidates.insert(self.ends);
        self.ends
    }

    /// Returns when to call [`Orphans::kill`] if no child ends before: at once if children have ended since it
    /// was called; `None` when nothing is being killed.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let give_up = self.deaths.iter().map(|death| death.give_up_at);
        give_up.chain(self.unsearched_since).min()
    }

    /// Kills all orphans, and returns them. To be called whenever children have ended, because the
    /// children of those are orphans now.
    ///
    /// After it all children that have ended are to be reaped, before [`Orphans::take_finished`]: a shim
    /// that had ended by now, and was not reaped yet, may own some of them. Another search is
    /// [due](Orphans::deadline) if any have ended meanwhile.
    pub(super) fn kill(&mut self, is_shim: impl Fn(Pid) -> bool) -> Vec<Family> {
        self.begin_search();
        if self.deaths.is_empty() && self.candidates.is_empty() {
            return Vec::new();
        }
        let orphans = children().into_iter().filter(|child| !is_shim(*child));
        let kill = |orphan| {
            let processes = with_descendants([orphan]);
            for process in &processes {
                process.signal(&[libc::SIGKILL]);
            }
            let processes = processes.iter().map(|process| process.pid).collect();
            Family { orphan, processes }
        };
        orphans.map(kill).collect()
    }

    fn begin_search(&mut self) {
        self.unsearched_since = None;
        self.ends_before_search = self.ends;
        self.reaped.clear();
    }

    /// Whether orphans have ended since the last search, whose children are orphans now.
    fn has_missed_children(&self) -> bool {
        !self.reaped.is_empty()
    }

    /// Returns the dead shims whose orphans are gone or unkillable, with what became of them. `found`
    /// are the orphans that were killed last.
    pub(super) fn take_finished(
        &mut self,
        mut found: Vec<Family>,
        now: Instant,
    ) -> Vec<(Pid, Leftovers)> {
        found.retain(|family| !self.reaped.contains(&family.orphan));
        self.find_owners(&found);
        let orphans: Vec<Pid> = found.iter().map(|family| family.orphan).collect();
        self.conclude(&orphans, now)
    }

    /// Finds out whose the orphans are.
    fn find_owners(&mut self, families: &[Family]) {
        let known = std::mem::take(&mut self.owners);
        // An orphan that was not seen before may also be the child of a descendant that has died.
        // What is left of a shim that was reported has got SIGKILL, and has no more children.
        let awaited: Owners = self.deaths.iter().map(|death| death.number).collect();
        let mut candidates = std::mem::take(&mut self.candidates);
        // What the search has missed may still be theirs.
        let may_own_more =
            |end: &EndNumber| self.has_missed_children() || *end > self.ends_before_search;
        let kept = candidates.iter().copied().filter(may_own_more).collect();
        self.candidates = kept;
        let of_known = known.values().flatten();
        candidates.extend(of_known.filter(|shim| awaited.contains(shim)));
        for Family { orphan, processes } in families {
            let owners = known.get(orphan).unwrap_or(&candidates);
            for process in processes.iter().chain([orphan]) {
                self.owners.insert(*process, owners.clone());
            }
        }
    }

    /// Removes and returns the deaths that are finished, given the orphans that are left.
    fn conclude(&mut self, orphans: &[Pid], now: Instant) -> Vec<(Pid, Leftovers)> {
        let mut finished = Vec::new();
        let has_missed_children = self.has_missed_children();
        self.deaths.retain_mut(|death| {
            let has_missed = has_missed_children && now < death.give_up_at;
            if has_missed || death.number > self.ends_before_search {
                return true;
            }
            let owners = orphans.iter().filter_map(|orphan| self.owners.get(orphan));
            let owners = owners.filter(|owners| owners.contains(&death.number));
            let (mut is_gone, mut has_own) = (true, false);
            for owners in owners {
                is_gone = false;
                has_own |= owners.len() == 1;
            }
            death.left_processes |= !is_gone;
            let leftovers = match (is_gone, death.left_processes) {
                (true, false) => Leftovers::None,
                (true, true) => Leftovers::Killed,
                (false, _) if now < death.give_up_at => return true,
                (false, _) if has_own => Leftovers::Unkillable,
                (false, _) => Leftovers::Unknown,
            };
            finished.push((death.shim, leftovers));
            false
        });
        finished
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHIM: Pid = Pid::from_raw(7);
    const OTHER_SHIM: Pid = Pid::from_raw(8);
    const ORPHAN: Pid = Pid::from_raw(70);
    const OTHER_ORPHAN: Pid = Pid::from_raw(80);

    fn reaped(pid: Pid, signal: i32) -> Reaped {
        Reaped {
            pid,
            exit: Exit::Signal {
                signal,
                core_dumped: false,
            },
            user_us: 0,
            system_us: 0,
            peak_memory_bytes: 0,
        }
    }

    fn killed(pid: Pid) -> Reaped {
        reaped(pid, libc::SIGKILL)
    }

    /// The state machine without processes.
    impl Orphans {
        fn shims_die(&mut self, shims: &[Pid], now: Instant) {
            let dead_shims = shims.to_vec();
            self.note_ends(
                &Ended {
                    dead_shims,
                    ..Ended::default()
                },
                now,
            );
        }

        fn orphans_die(&mut self, orphans: &[Reaped], now: Instant) {
            let orphans = orphans.to_vec();
            self.note_ends(
                &Ended {
                    orphans,
                    ..Ended::default()
                },
                now,
            );
        }

        /// A search that finds these orphans, without descendants.
        fn search(&mut self, orphans: &[Pid], now: Instant) -> Vec<(Pid, Leftovers)> {
            let alone = |orphan: &Pid| Family {
                orphan: *orphan,
                processes: Vec::new(),
            };
            self.note_ends(&Ended::default(), now);
            self.begin_search();
            self.take_finished(orphans.iter().map(alone).collect(), now)
        }
    }

    #[test]
    fn reports_none_for_a_shim_without_orphans() {
        let now = Instant::now();
        let mut orphans = Orphans::default();
        assert_eq!(orphans.deadline(), None);
        orphans.shims_die(&[SHIM], now);
        assert_eq!(orphans.search(&[], now), [(SHIM, Leftovers::None)]);
        assert_eq!(orphans.deadline(), None);
    }

    #[test]
    fn reports_a_shim_when_its_last_orphan_is_gone() {
        let now = Instant::now();
        let mut orphans = Orphans::default();
        orphans.shims_die(&[SHIM], now);
        assert_eq!(orphans.search(&[ORPHAN], now), []);
        orphans.orphans_die(&[killed(ORPHAN)], now);
        assert_eq!(orphans.search(&[], now), [(SHIM, Leftovers::Killed)]);
    }

    #[test]
    fn counts_an_orphan_that_dies_before_with_or_after_its_shim() {
        let now = Instant::now();
        let dead = [killed(ORPHAN)];
        let orders: [&[(&[Pid], &[Reaped])]; 3] = [
            &[(&[], &dead), (&[SHIM], &[])],
            &[(&[SHIM], &dead)],
            &[(&[SHIM], &[]), (&[], &dead)],
        ];
        for order in orders {
            let mut orphans = Orphans::default();
            for (shims, reaped) in order {
                let ended = Ended {
                    dead_shims: shims.to_vec(),
                    orphans: reaped.to_vec(),
                    ..Ended::default()
                };
                orphans.note_ends(&ended, now);
            }
            assert_eq!(orphans.search(&[], now), [(SHIM, Leftovers::Killed)]);
        }
        // An orphan that died of another signal was not killed by the launcher or the kernel.
        let mut orphans = Orphans::default();
        orphans.shims_die(&[SHIM], now);
        orphans.orphans_die(&[reaped(ORPHAN, libc::SIGTERM)], now);
        assert_eq!(orphans.search(&[], now), [(SHIM, Leftovers::None)]);
    }

    /// Every shim that died while such an orphan existed used to be reported to have left it.
    #[test]
    fn an_unkillable_orphan_is_reported_for_its_own_shim_only() {
        let start = Instant::now();
        let mut orphans = Orphans::default();
        orphans.shims_die(&[SHIM], start);
        let due = start + UNKILLABLE_AFTER;
        assert_eq!(orphans.search(&[ORPHAN], start), []);
        assert_eq!(orphans.deadline(), Some(due));
        // Another shim dies meanwhile, and leaves nothing.
        orphans.shims_die(&[OTHER_SHIM], start);
        let other = [(OTHER_SHIM, Leftovers::None)];
        assert_eq!(orphans.search(&[ORPHAN], start), other);
        assert_eq!(
            orphans.search(&[ORPHAN], due),
            [(SHIM, Leftovers::Unkillable)]
        );
        // It is still there when the next dies, with an orphan of its own.
        orphans.shims_die(&[OTHER_SHIM], due);
        assert_eq!(orphans.search(&[ORPHAN, OTHER_ORPHAN], due), []);
        orphans.orphans_die(&[killed(OTHER_ORPHAN), killed(ORPHAN)], due);
        assert_eq!(orphans.search(&[], due), [(OTHER_SHIM, Leftovers::Killed)]);
    }

    /// It became the launcher's child when its shim gave up, and was taken for that of the next shim
    /// that died.
    #[test]
    fn an_orphan_of_a_shim_that_was_done_is_reported_for_no_other() {
        let now = Instant::now();
        let mut orphans = Orphans::default();
        let done = Ended {
            done_shims: vec![SHIM],
            ..Ended::default()
        };
        orphans.note_ends(&done, now);
        assert_eq!(orphans.search(&[ORPHAN], now), []);
        assert_eq!(orphans.deadline(), None);
        orphans.shims_die(&[OTHER_SHIM], now);
        assert_eq!(
            orphans.search(&[ORPHAN], now),
            [(OTHER_SHIM, Leftovers::None)]
        );
    }

    /// The orphan was taken for one of the first, and the other was reported to have left nothing.
    #[test]
    fn an_orphan_that_is_found_before_its_shim_is_reaped_is_counted() {
        let now = Instant::now();
        let mut orphans = Orphans::default();
        orphans.shims_die(&[SHIM], now);
        orphans.begin_search();
        let found = Family {
            orphan: ORPHAN,
            processes: Vec::new(),
        };
        orphans.shims_die(&[OTHER_SHIM], now);
        assert_eq!(orphans.take_finished(vec![found], now), []);
        orphans.orphans_die(&[killed(ORPHAN)], now);
        let both = [SHIM, OTHER_SHIM].map(|shim| (shim, Leftovers::Killed));
        assert_eq!(orphans.search(&[], now), both);
    }

    /// It was reported to have left nothing, since the search before its death had found nothing.
    #[test]
    fn a_shim_that_dies_during_a_search_is_reported_after_the_next() {
        let now = Instant::now();
        let mut orphans = Orphans::default();
        orphans.shims_die(&[SHIM], now);
        orphans.begin_search();
        orphans.shims_die(&[OTHER_SHIM], now);
        let first = [(SHIM, Leftovers::None)];
        assert_eq!(orphans.take_finished(Vec::new(), now), first);
        assert_eq!(orphans.deadline(), Some(now), "at once");
        assert_eq!(orphans.search(&[OTHER_ORPHAN], now), []);
        orphans.orphans_die(&[killed(OTHER_ORPHAN)], now);
        let other = [(OTHER_SHIM, Leftovers::Killed)];
        assert_eq!(orphans.search(&[], now), other);
    }

    /// The shim was reported while a child was left that the orphan had created after the search.
    #[test]
    fn a_child_of_an_orphan_that_ends_during_a_search_is_awaited() {
        let now = Instant::now();
        let mut orphans = Orphans::default();
        orphans.shims_die(&[SHIM], now);
        orphans.begin_search();
        let found = Family {
            orphan: ORPHAN,
            processes: Vec::new(),
        };
        orphans.orphans_die(&[killed(ORPHAN)], now);
        assert_eq!(orphans.take_finished(vec![found], now), []);
        assert_eq!(orphans.deadline(), Some(now), "at once");
        assert_eq!(orphans.search(&[OTHER_ORPHAN], now), []);
        orphans.orphans_die(&[killed(OTHER_ORPHAN)], now);
        assert_eq!(orphans.search(&[], now), [(SHIM, Leftovers::Killed)]);
    }

    #[test]
    fn none_of_several_shims_is_blamed_for_an_unkillable_orphan_of_one() {
        let start = Instant::now();
        let due = start + UNKILLABLE_AFTER;
        let mut orphans = Orphans::default();
        orphans.shims_die(&[SHIM, OTHER_SHIM], start);
        assert_eq!(orphans.search(&[ORPHAN], start), []);
        let unknown = [SHIM, OTHER_SHIM].map(|shim| (shim, Leftovers::Unknown));
        assert_eq!(orphans.search(&[ORPHAN], due), unknown);
    }

    #[test]
    fn a_descendant_of_an_orphan_stays_its_shims() {
        let start = Instant::now();
        let due = start + UNKILLABLE_AFTER;
        let mut orphans = Orphans::default();
        orphans.shims_die(&[SHIM], start);
        orphans.begin_search();
        let family = Family {
            orphan: ORPHAN,
            processes: vec![OTHER_ORPHAN],
        };
        assert_eq!(orphans.take_finished(vec![family], start), []);
        // The orphan dies together with another shim, which makes its child the launcher's.
        let ended = Ended {
            dead_shims: vec![OTHER_SHIM],
            orphans: vec![killed(ORPHAN)],
            ..Ended::default()
        };
        orphans.note_ends(&ended, start);
        let other = [(OTHER_SHIM, Leftovers::None)];
        assert_eq!(orphans.search(&[OTHER_ORPHAN], start), other);
        let own = [(SHIM, Leftovers::Unkillable)];
        assert_eq!(orphans.search(&[OTHER_ORPHAN], due), own);
    }
}
