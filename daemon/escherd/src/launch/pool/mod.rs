//! The task that starts commands.

mod shim_deaths;

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::Duration;

use escher_launcher::ipc::wire::{Artifact, Assignment, FIRST_ATTEMPT, ToShim};
use escher_protocol::{ExecutionId, Leftovers};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};
use tracing::{error, info, warn};

use super::adoption::Adoption;
use super::launcher::{Connection, Heard, LaunchError, LauncherSettings};
use super::removals::Removals;
use super::shim::{self, Returned, Shim};
use super::state::LauncherState;
use crate::scheduler::{Effect, Scheduler, SchedulerHandle};

/// How long shims beyond [`LauncherSettings::warm_shims`] are kept after a burst.
const KEEP_IDLE: Duration = Duration::from_secs(10);

/// Pause before another try when a launcher or a shim could not be had. Not the pace of anything: the first
/// try is always at once.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// A launch that waits for a shim, with what its execution was told meanwhile.
struct Waiting {
    assignment: Box<Assignment>,
    orders: Vec<ToShim>,
}

impl Waiting {
    fn id(&self) -> ExecutionId {
        self.assignment.spec.id
    }
}

struct Room {
    settings: LauncherSettings,
    engine: SchedulerHandle,
    /// `None` while there is no launcher.
    connection: Option<Connection>,
    connected_at: Instant,
    told: watch::Sender<Option<LauncherState>>,
    ready: Vec<Shim>,
    /// Shims that the launcher was asked for and has not sent.
    expected: u32,
    waiting: VecDeque<Waiting>,
    running: HashMap<ExecutionId, mpsc::UnboundedSender<ToShim>>,
    /// Shims that this launcher has forked and that were not let go: it tells of their deaths.
    forked: HashSet<u32>,
    /// Dead shims whose remains the launcher is ending, with the time until which that is waited for.
    bereaved: HashMap<u32, (ExecutionId, Instant)>,
    /// Shims of whose death the launcher has told before their sockets did.
    died: HashMap<u32, Leftovers>,
    /// The user that every launcher has to be: who may do what depends on it.
    uid: u32,
    /// Whether commands have cgroups, by the last launcher.
    has_cgroups: bool,
    /// Executions of dead shims whose cgroups the launcher is clearing: what is known of their processes without, and
    /// the time until which that is waited for.
    sweeping: HashMap<ExecutionId, (Leftovers, Instant)>,
    removals: Removals,
    returns: mpsc::UnboundedSender<Returned>,
    trim_at: Option<Instant>,
    retry_at: Option<Instant>,
    /// Why there is no launcher, as it was said last.
    complaint: Option<String>,
    /// A new launcher on its way.
    opening: Option<JoinHandle<Result<Connection, LaunchError>>>,
}

/// Carries out `effects` until the engine is gone, and then lets the launcher go. Where there is none yet, it is waited
/// for; it has to be root's then. `told` tells which launcher
/// there is.
pub async fn run(
    settings: LauncherSettings,
    connection: Option<Connection>,
    adoption: Adoption,
    engine: SchedulerHandle,
    mut effects: mpsc::UnboundedReceiver<Effect>,
    told: watch::Sender<Option<LauncherState>>,
) {
    // Unbounded: there are as many as shims.
    let (returns, mut returned) = mpsc::unbounded_channel();
    let abilities = connection.as_ref().map(Connection::abilities);
    let mut room = Room {
        has_cgroups: abilities.is_some_and(|abilities| abilities.cgroups.is_some()),
        uid: connection.as_ref().map_or(0, Connection::uid),
        settings,
        engine,
        retry_at: connection.is_none().then(|| Instant::now() + RETRY_AFTER),
        connection,
        connected_at: Instant::now(),
        told,
        ready: Vec::new(),
        expected: 0,
        waiting: VecDeque::new(),
        running: HashMap::new(),
        forked: HashSet::new(),
        bereaved: HashMap::new(),
        died: HashMap::new(),
        sweeping: HashMap::new(),
        removals: Removals::default(),
        returns,
        trim_at: None,
        complaint: None,
        opening: None,
    };
    for (shim, state) in adoption.shims {
        room.attend(state.id, shim, Vec::new());
    }
    for (shim, id) in adoption.silent {
        room.attend(id, shim, Vec::new());
    }
    loop {
        let (retry_removals_at, sweep_deadline) = (room.removals.retry_at(), room.sweep_deadline());
        room.tell_launcher();
        room.order_shims();
        if let Some(connection) = &room.connection {
            room.removals.send_next(connection);
        }
        tokio::select! {
            effect = effects.recv() => match effect {
                Some(effect) => room.carry_out(effect),
                None => break,
            },
            Some(back) = returned.recv() => room.take_back(back),
            heard = hear(&mut room.connection) => room.heard(heard),
            () = at(room.trim_at) => room.trim(),
            () = at(room.retry_at) => room.retry(),
            () = at(retry_removals_at) => room.removals.retry(),
            () = at(sweep_deadline) => room.stop_waiting_for_sweeps(),
            opened = opened(&mut room.opening) => room.connected(opened),
        }
    }
    // Ready shims go now; those with a command go on alone.
    room.ready.clear();
    if let Some(connection) = room.connection {
        connection.close().await;
    }
}

async fn opened(
    opening: &mut Option<JoinHandle<Result<Connection, LaunchError>>>,
) -> Result<Connection, String> {
    let result = match opening {
        Some(task) => task.await,
        None => std::future::pending().await,
    };
    *opening = None;
    match result {
        Ok(opened) => opened.map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    }
}

async fn hear(connection: &mut Option<Connection>) -> Heard {
    match connection {
        Some(connection) => connection.hear().await,
        None => std::future::pending().await,
    }
}

async fn at(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

impl Room {
    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Launch(assignment) => {
                self.waiting.push_back(Waiting {
                    assignment,
                    orders: Vec::new(),
                });
                self.launch_waiting();
            }
            Effect::Remove(artifact, ids) => self.removals.add(artifact, ids),
            // Those go to the store.
            Effect::Record(_) => {}
            Effect::Send(id, order) => match self.running.get(&id) {
                // A shim that has just gone has told the engine so.
                Some(orders) => drop(orders.send(order)),
                None => {
                    let is_its = |waiting: &&mut Waiting| waiting.id() == id;
                    if let Some(waiting) = self.waiting.iter_mut().find(is_its) {
                        waiting.orders.push(order);
                    } else if order == ToShim::Recorded {
                        // It was killed after its report.
                        let attempt = FIRST_ATTEMPT;
                        self.removals.add(Artifact::Claim { attempt }, vec![id]);
                    }
                }
            },
        }
    }

    fn launch_waiting(&mut self) {
        while let Some(waiting) = self.waiting.pop_front() {
            let Some(mut shim) = self.ready.pop() else {
                self.waiting.push_front(waiting);
                return;
            };
            let id = waiting.id();
            if let Err(error) = shim.launch(&waiting.assignment) {
                // Killed while it waited: it has not seen the launch.
                warn!(execution = %id, shim = shim.pid(), %error, "a ready shim is gone; taking another");
                self.waiting.push_front(waiting);
                continue;
            }
            self.attend(id, shim, waiting.orders);
        }
    }

    fn attend(&mut self, id: ExecutionId, shim: Shim, first: Vec<ToShim>) {
        let (orders, carried) = mpsc::unbounded_channel();
        for order in first {
            let _ = orders.send(order);
        }
        self.running.insert(id, orders);
        let (engine, returns) = (self.engine.clone(), self.returns.clone());
        tokio::spawn(shim::attend(id, shim, carried, engine, returns));
    }

    fn take_back(&mut self, back: Returned) {
        self.running.remove(&back.id);
        match back.shim {
            Some(shim) => {
                self.ready.push(shim);
                self.launch_waiting();
            }
            None => self.bereave(back.id, back.pid),
        }
        if self.ready.len() > self.settings.warm_shims && self.trim_at.is_none() {
            self.trim_at = Some(Instant::now() + KEEP_IDLE);
        }
    }

    fn trim(&mut self) {
        self.trim_at = None;
        for shim in self
            .ready
            .drain(self.settings.warm_shims.min(self.ready.len())..)
        {
            self.forked.remove(&shim.pid());
        }
    }

    fn heard(&mut self, heard: Heard) {
        match heard {
            Heard::Shim(shim) => {
                self.expected = self.expected.saturating_sub(1);
                self.forked.insert(shim.pid());
                self.ready.push(shim);
                self.launch_waiting();
            }
            Heard::ShimDied { pid, leftovers } => self.shim_died(pid, leftovers),
            Heard::CgroupKilled { id, leftovers } => self.swept(id, leftovers),
            Heard::Removed { artifact, ids } => {
                self.removals.answered(&ids);
                let engine = self.engine.clone();
                tokio::spawn(async move {
                    let deleted = move |engine: &mut Scheduler| engine.on_deleted(artifact, ids);
                    let _ = engine.post(deleted).await;
                });
            }
            Heard::ForkFailed(reason) => {
                self.expected = self.expected.saturating_sub(1);
                error!(%reason, "the launcher cannot fork a shim");
                self.retry_at.get_or_insert(Instant::now() + RETRY_AFTER);
            }
            Heard::Gone(reason) => {
                error!(%reason, "the launcher is gone; running commands are not touched by that");
                self.connection = None;
                self.expected = 0;
                self.removals.ask_again();
                self.died.clear();
                self.stop_waiting_for_deaths();
                self.forked.clear();
                // At once, unless it died at once.
                self.retry_at = Some(Instant::now().max(self.connected_at + RETRY_AFTER));
            }
        }
    }

    /// Asks for the shims that are missing.
    fn order_shims(&mut self) {
        let Some(connection) = &self.connection else {
            return;
        };
        if self.retry_at.is_some() {
            return;
        }
        let wanted = self.settings.warm_shims + self.waiting.len();
        let missing = wanted.saturating_sub(self.ready.len());
        let missing = u32::try_from(missing).unwrap_or(u32::MAX);
        if missing > self.expected {
            match connection.order(missing - self.expected) {
                Ok(()) => self.expected = missing,
                Err(error) => {
                    warn!(%error, "the launcher takes no order");
                    self.retry_at = Some(Instant::now() + RETRY_AFTER);
                }
            }
        }
    }

    /// Starts a new launcher, if that is what is missing.
    fn retry(&mut self) {
        self.retry_at = None;
        if self.connection.is_none() && self.opening.is_none() {
            let settings = self.settings.clone();
            self.opening = Some(tokio::spawn(
                async move { Connection::open(&settings).await },
            ));
        }
    }

    fn connected(&mut self, opened: Result<Connection, String>) {
        let of_our_user = opened.and_then(|connection| if connection.uid() == self.uid { Ok(connection) } else { Err(format!(
            "the launcher runs as user {}, and has to run as {}; restart escherd if that is meant",
            connection.uid(),
            self.uid
        )) });
        match of_our_user {
            Ok(connection) => {
                info!(pid = connection.pid(), "a new launcher is there");
                let controllers = connection.abilities().cgroups;
                self.has_cgroups = controllers.is_some();
                let engine = self.engine.clone();
                tokio::spawn(async move {
                    let tell = move |engine: &mut Scheduler| engine.set_controllers(controllers);
                    let _ = engine.post(tell).await;
                });
                self.connection = Some(connection);
                self.connected_at = Instant::now();
                self.complaint = None;
                self.ask_for_sweeps();
            }
            Err(error) => {
                self.retry_at = Some(Instant::now() + RETRY_AFTER);
                // Once, not with each try: a launcher that was stopped may stay so for days.
                if self.complaint.as_ref() != Some(&error) {
                    error!(%error, "there is no launcher; commands wait");
                    self.complaint = Some(error);
                }
            }
        }
    }

    fn tell_launcher(&self) {
        let launcher = self.connection.as_ref().map(Connection::state);
        self.told.send_if_modified(|known| {
            let changed = *known != launcher;
            *known = launcher;
            changed
        });
    }
}
