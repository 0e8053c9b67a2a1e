//! The socket: connections in, frames in, frames out.
//!
//! [`listener`] makes the socket, [`accept`] takes connections within limits, [`session`] speaks the protocol
//! on one, [`requests`] answers what is asked, [`outbox`] sends.

mod accept;
mod listener;
mod outbox;
mod requests;
mod session;

pub use accept::{ConnectionLimits, ROOT_RESERVE, serve};
pub use listener::{ListenError, SocketSettings, bind};
pub(crate) use requests::FORGET_AT_ONCE;

use escher_protocol::message::DaemonInfo;
use tokio::sync::{Semaphore, watch};

use crate::authz::Gate;
use crate::engine::EngineHandle;
use crate::store::Store;

/// What every session works with.
#[derive(Debug)]
pub struct Service {
    /// The state.
    pub engine: EngineHandle,
    /// The history.
    pub store: Store,
    /// How many logs may be read at once.
    pub open_logs: Semaphore,
    /// The authority.
    pub gate: Gate,
    /// What does not change about this escherd.
    pub about: DaemonInfo,
    /// The launcher's process id.
    pub launcher_pid: watch::Receiver<Option<u32>>,
}

/// Waits until escherd says goodbye.
async fn until_closing(closing: &mut watch::Receiver<bool>) {
    // An error means that nobody is left to say it.
    let _ = closing.wait_for(|closing| *closing).await;
}
