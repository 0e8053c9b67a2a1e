//! Starting commands: the launcher, the shims that are ready, and those that run something.
//!
//! One task, [`run`], carries out the engine's [`Effect`]s. It keeps a pool of ready shims, so that a launch
//! is one packet to one of them. Each shim with a command has a task of its own ([`shim`]) that carries
//! orders to it and news to the engine; afterwards the shim comes back to the pool.

mod connection;
mod packets;
mod shim;

pub use connection::{Connection, LaunchError, LauncherSettings};

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use escher_launcher::wire::{LaunchSpec, ToShim};
use escher_protocol::ExecutionId;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};
use tracing::{error, info, warn};

use crate::engine::{Effect, EngineHandle};
use connection::Heard;
use shim::{Returned, Shim};

/// How long shims beyond [`LauncherSettings::warm_shims`] are kept after a burst.
const KEEP_IDLE: Duration = Duration::from_secs(10);

/// Pause before another try when a launcher or a shim could not be had. Not the pace of anything: the first
/// try is always at once.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// A launch that waits for a shim, with what its execution was told meanwhile.
struct Waiting {
    spec: Box<LaunchSpec>,
    orders: Vec<ToShim>,
}

struct Room {
    settings: LauncherSettings,
    engine: EngineHandle,
    /// `None` while there is no launcher.
    connection: Option<Connection>,
    connected_at: Instant,
    pid: watch::Sender<Option<u32>>,
    ready: Vec<Shim>,
    /// Shims that the launcher was asked for and has not sent.
    expected: u32,
    waiting: VecDeque<Waiting>,
    running: HashMap<ExecutionId, mpsc::UnboundedSender<ToShim>>,
    returns: mpsc::UnboundedSender<Returned>,
    trim_at: Option<Instant>,
    retry_at: Option<Instant>,
    /// A new launcher on its way.
    opening: Option<JoinHandle<Result<Connection, LaunchError>>>,
}

/// Carries out `effects` until the engine is gone, and then lets the launcher go. `pid` tells the launcher's
/// process id.
pub async fn run(
    settings: LauncherSettings,
    connection: Connection,
    engine: EngineHandle,
    mut effects: mpsc::UnboundedReceiver<Effect>,
    pid: watch::Sender<Option<u32>>,
) {
    // Unbounded: there are as many as shims.
    let (returns, mut returned) = mpsc::unbounded_channel();
    let mut room = Room {
        settings,
        engine,
        connection: Some(connection),
        connected_at: Instant::now(),
        pid,
        ready: Vec::new(),
        expected: 0,
        waiting: VecDeque::new(),
        running: HashMap::new(),
        returns,
        trim_at: None,
        retry_at: None,
        opening: None,
    };
    loop {
        room.tell_pid();
        room.order_shims();
        tokio::select! {
            effect = effects.recv() => match effect {
                Some(effect) => room.carry_out(effect),
                None => break,
            },
            Some(back) = returned.recv() => room.take_back(back),
            heard = hear(&mut room.connection) => room.heard(heard),
            () = at(room.trim_at) => room.trim(),
            () = at(room.retry_at) => room.retry(),
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
) -> Option<Connection> {
    let result = match opening {
        Some(task) => task.await,
        None => std::future::pending().await,
    };
    *opening = None;
    match result {
        Ok(Ok(connection)) => Some(connection),
        Ok(Err(error)) => {
            error!(%error, "no launcher can be started; commands wait");
            None
        }
        Err(error) => {
            error!(%error, "starting a launcher has failed");
            None
        }
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
            Effect::Launch(spec) => {
                self.waiting.push_back(Waiting {
                    spec,
                    orders: Vec::new(),
                });
                self.launch_waiting();
            }
            Effect::Order(id, order) => match self.running.get(&id) {
                // A shim that has just gone has told the engine so.
                Some(orders) => drop(orders.send(order)),
                None => {
                    if let Some(waiting) = self.waiting.iter_mut().find(|w| w.spec.id == id) {
                        waiting.orders.push(order);
                    }
                }
            },
        }
    }

    fn launch_waiting(&mut self) {
        while let Some(waiting) = self.waiting.pop_front() {
            let Some(shim) = self.ready.pop() else {
                self.waiting.push_front(waiting);
                return;
            };
            let id = waiting.spec.id;
            if let Err(error) = shim.launch(&waiting.spec) {
                // Killed while it waited: it has not seen the launch.
                warn!(execution = %id, shim = shim.pid(), %error, "a ready shim is gone; taking another");
                self.waiting.push_front(waiting);
                continue;
            }
            let (orders, carried) = mpsc::unbounded_channel();
            for order in waiting.orders {
                let _ = orders.send(order);
            }
            self.running.insert(id, orders);
            let (engine, returns) = (self.engine.clone(), self.returns.clone());
            tokio::spawn(shim::attend(id, shim, carried, engine, returns));
        }
    }

    fn take_back(&mut self, back: Returned) {
        self.running.remove(&back.id);
        if let Some(shim) = back.shim {
            self.ready.push(shim);
            self.launch_waiting();
        }
        if self.ready.len() > self.settings.warm_shims && self.trim_at.is_none() {
            self.trim_at = Some(Instant::now() + KEEP_IDLE);
        }
    }

    fn trim(&mut self) {
        self.trim_at = None;
        self.ready.truncate(self.settings.warm_shims);
    }

    fn heard(&mut self, heard: Heard) {
        match heard {
            Heard::Shim(shim) => {
                self.expected = self.expected.saturating_sub(1);
                self.ready.push(shim);
                self.launch_waiting();
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

    fn connected(&mut self, connection: Option<Connection>) {
        match connection {
            Some(connection) => {
                info!(pid = connection.pid(), "a new launcher is there");
                self.connection = Some(connection);
                self.connected_at = Instant::now();
            }
            None => self.retry_at = Some(Instant::now() + RETRY_AFTER),
        }
    }

    fn tell_pid(&self) {
        let pid = self.connection.as_ref().map(Connection::pid);
        self.pid.send_if_modified(|known| {
            let changed = *known != pid;
            *known = pid;
            changed
        });
    }
}
