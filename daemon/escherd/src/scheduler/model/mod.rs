//! The scheduler against a model of everything around it: a store, shims, clients, crashes, time.
//!
//! A run is a list of steps. At its end the world is quiesced: escherd runs, every command ends, and every message
//! arrives. Then nothing may be lost, have run twice, or contradict what commands did and clients were answered. All
//! the time slots must be given to users in turn, what logs may take must be charged to their users, and no command may
//! begin whose cancel was answered.
//! proptest shrinks a list that breaks this.
//!
//! `PROPTEST_CASES=100000 cargo test -p escherd scheduler::model` runs 100,000 lists.

mod clients;
mod disk;
mod shims;
mod world;

use proptest::prelude::*;

use world::World;

/// One step. Numbers select among the candidates at that moment.
#[derive(Debug, Clone)]
enum Step {
    /// A client of a user submits, with one of a few keys or none, with or without a limit, a small or a large request,
    /// with or without an environment to inherit.
    Submit {
        uid: u32,
        key: Option<u8>,
        limited: bool,
        large: bool,
        inherits: bool,
    },
    /// A client waits for one of the executions that it knows of.
    Wait(u8),
    /// A client cancels one.
    Cancel { which: u8, kill: bool },
    /// A client pauses or resumes one.
    Pause { which: u8, pause: bool },
    /// A client sends a signal to one.
    Signal(u8),
    /// A client removes one.
    Remove(u8),
    /// The log of one is removed to keep the limits of the history.
    RemoveLog(u8),
    /// The store commits this many changes.
    Commit(u8),
    /// The database takes what only the journal has.
    ApplyJournal,
    /// The store fails to commit, because the disk is full.
    FailToCommit,
    /// The submission of an execution gets damaged on the disk.
    Damage(u8),
    /// The next effect is performed.
    PerformEffect,
    /// The launcher ends, or the next one comes.
    Launcher(bool),
    /// The launcher performs the deletions it was sent.
    Delete,
    /// A message of a shim arrives.
    Deliver(u8),
    /// A command fills its log.
    FillLog(u8),
    /// A command ends by itself.
    End { which: u8, code: bool },
    /// A shim is killed, and the processes of its command with it.
    KillShim(u8),
    /// escherd is killed after some of its changes were committed and effects performed, and starts again.
    Crash { committed: u8, performed: u8 },
    /// The host loses power and boots again.
    Reboot { committed: u8 },
    /// Time passes, and finished executions are evicted.
    PassTime,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..4_u32, prop::option::of(0..4_u8), any::<bool>(), any::<bool>(), any::<bool>())
            .prop_map(|(uid, key, limited, large, inherits)| Step::Submit { uid, key, limited, large, inherits }),
        3 => any::<u8>().prop_map(Step::Wait),
        2 => (any::<u8>(), any::<bool>()).prop_map(|(which, kill)| Step::Cancel { which, kill }),
        1 => (any::<u8>(), any::<bool>()).prop_map(|(which, pause)| Step::Pause { which, pause }),
        2 => any::<u8>().prop_map(Step::Signal),
        1 => any::<u8>().prop_map(Step::Remove),
        1 => any::<u8>().prop_map(Step::RemoveLog),
        8 => (1..5_u8).prop_map(Step::Commit),
        2 => Just(Step::ApplyJournal),
        1 => Just(Step::FailToCommit),
        1 => any::<u8>().prop_map(Step::Damage),
        8 => Just(Step::PerformEffect),
        1 => any::<bool>().prop_map(Step::Launcher),
        1 => Just(Step::Delete),
        8 => any::<u8>().prop_map(Step::Deliver),
        2 => any::<u8>().prop_map(Step::FillLog),
        4 => (any::<u8>(), any::<bool>()).prop_map(|(which, code)| Step::End { which, code }),
        1 => any::<u8>().prop_map(Step::KillShim),
        2 => (any::<u8>(), any::<u8>())
            .prop_map(|(committed, performed)| Step::Crash { committed, performed }),
        1 => any::<u8>().prop_map(|committed| Step::Reboot { committed }),
        1 => Just(Step::PassTime),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        max_shrink_iters: 20_000,
        ..ProptestConfig::default()
    })]

    #[test]
    fn nothing_is_lost_and_nothing_runs_twice(
        steps in prop::collection::vec(step(), 0..120),
        power in any::<bool>(),
    ) {
        let mut world = World::new(power);
        for step in steps {
            world.step(&step);
        }
        world.quiesce();
        world.check();
    }
}
