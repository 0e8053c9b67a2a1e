//! The scheduler against a model of everything around it: a store, shims, clients, crashes, time.
//!
//! A run is a list of steps. Whatever they are, in the end the world comes to rest (escherd is there, every
//! command ends, everything that is under way arrives), and then nothing may be lost, have run twice, or
//! contradict what commands did and clients were told. A list that breaks this is shrunk by proptest.
//!
//! `PROPTEST_CASES=100000 cargo test -p escherd scheduler::model` runs that many lists.

mod clients;
mod disk;
mod shims;
mod world;

use proptest::prelude::*;

use world::World;

/// One thing that happens. Numbers choose among what there is at that moment.
#[derive(Debug, Clone)]
enum Step {
    /// A client submits, with one of a few keys or none, and a limit or none.
    Submit { key: Option<u8>, limited: bool },
    /// A client waits for one of the executions that it knows.
    Wait(u8),
    /// A client wants the end of one.
    Cancel { which: u8, kill: bool },
    /// A client has one stopped, or go on.
    Pause { which: u8, pause: bool },
    /// A client has one forgotten.
    Forget(u8),
    /// The store commits so much of what waits for it.
    Commit(u8),
    /// The store tries and cannot: no room.
    FailToCommit,
    /// An effect is carried out.
    CarryOut,
    /// The launcher deletes what it was told to.
    Delete,
    /// Something that a shim has said arrives.
    Deliver(u8),
    /// A command ends by itself.
    End { which: u8, code: bool },
    /// A shim is killed, and what is left of its command with it.
    KillShim(u8),
    /// escherd is killed, with so much of what waits for the store committed, and starts anew.
    Crash { committed: u8, carried_out: u8 },
    /// The host goes down without warning, and comes back.
    Reboot { committed: u8 },
    /// Time passes; what is old leaves memory.
    Pass,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (prop::option::of(0..4_u8), any::<bool>())
            .prop_map(|(key, limited)| Step::Submit { key, limited }),
        3 => any::<u8>().prop_map(Step::Wait),
        2 => (any::<u8>(), any::<bool>()).prop_map(|(which, kill)| Step::Cancel { which, kill }),
        1 => (any::<u8>(), any::<bool>()).prop_map(|(which, pause)| Step::Pause { which, pause }),
        1 => any::<u8>().prop_map(Step::Forget),
        8 => (1..5_u8).prop_map(Step::Commit),
        1 => Just(Step::FailToCommit),
        8 => Just(Step::CarryOut),
        1 => Just(Step::Delete),
        8 => any::<u8>().prop_map(Step::Deliver),
        4 => (any::<u8>(), any::<bool>()).prop_map(|(which, code)| Step::End { which, code }),
        1 => any::<u8>().prop_map(Step::KillShim),
        2 => (any::<u8>(), any::<u8>())
            .prop_map(|(committed, carried_out)| Step::Crash { committed, carried_out }),
        1 => any::<u8>().prop_map(|committed| Step::Reboot { committed }),
        1 => Just(Step::Pass),
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
            world.take(&step);
        }
        world.come_to_rest();
        world.judge();
    }
}
