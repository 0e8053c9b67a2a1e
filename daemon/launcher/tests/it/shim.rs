//! escherd's end of a shim.

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};

use escher_launcher::ipc::packet::{PacketSocket, Waiting};
use escher_launcher::ipc::wire::{
    Assignment, ExitReport, FromShim, LaunchSpec, MAX_PACKET_BYTES, ShimState, SignalOrder, ToShim,
};
use escher_protocol::{
    Blob, CancelMode, Canceller, SignalAnswer, SignalRecipients, SignalSerial, User, codec,
};
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use serde::Serialize;

use crate::commands::assignment;
use crate::raw;
use escher_testkit::wait::readable;

pub(crate) struct Shim {
    pid: u32,
    pidfd: OwnedFd,
    socket: PacketSocket,
}

/// The user in whose name [`Shim::cancel`] cancels.
pub(crate) fn cancelling_user() -> Canceller {
    Canceller::User(User {
        uid: 77,
        name: Some("ada".into()),
    })
}

impl Shim {
    pub(crate) fn new(pid: u32, socket: PacketSocket) -> Self {
        let pidfd = raw::pidfd(pid).unwrap();
        Shim { pid, pidfd, socket }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    pub(crate) fn pidfd(&self) -> OwnedFd {
        self.pidfd.try_clone().unwrap()
    }

    pub(crate) fn send(&self, message: &ToShim) {
        self.send_bytes(&codec::encode(message).unwrap(), None);
    }

    pub(crate) fn send_bytes(&self, bytes: &[u8], descriptor: Option<&File>) {
        let descriptor = descriptor.map(AsFd::as_fd);
        self.socket
            .send(bytes, descriptor, Waiting::Allowed)
            .unwrap();
    }

    /// Assigns a command without a submission backup and without limits.
    pub(crate) fn launch(&self, spec: &LaunchSpec) {
        self.assign(&assignment(spec.clone()));
    }

    /// Sends an assignment: as a packet, or, where it is too long for one, in sealed memory.
    pub(crate) fn assign(&self, assignment: &Assignment) {
        let packet = codec::encode(&ToShim::Assign(Box::new(assignment.clone()))).unwrap();
        if packet.len() <= MAX_PACKET_BYTES {
            self.send_bytes(&packet, None)
        } else {
            self.send_with_memory(&ToShim::AssignFromMemory, assignment, SealFlag::all());
        }
    }

    pub(crate) fn send_with_memory(
        &self,
        message: &ToShim,
        content: &impl Serialize,
        seals: SealFlag,
    ) {
        let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
        let mut memory = File::from(memfd_create(c"launch", flags).unwrap());
        memory.write_all(&codec::encode(content).unwrap()).unwrap();
        fcntl(&memory, FcntlArg::F_ADD_SEALS(seals)).unwrap();
        self.send_bytes(&codec::encode(message).unwrap(), Some(&memory));
    }

    /// Receives the next message; `None` once the shim has disconnected.
    pub(crate) fn receive(&self) -> Option<FromShim> {
        assert!(readable(&self.socket), "the shim sends nothing");
        let mut buffer = vec![0; MAX_PACKET_BYTES];
        let packet = self.socket.receive(&mut buffer, Waiting::Never).unwrap()?;
        Some(codec::decode(&buffer[..packet.length]).unwrap())
    }

    /// Waits for a message, and leaves it unread.
    pub(crate) fn wait_for_message(&self) {
        assert!(readable(&self.socket), "the shim sends nothing");
    }

    pub(crate) fn signal(&self, signal: i32) {
        raw::signal(self.pidfd.as_fd(), signal).unwrap();
    }

    /// Expects the start of a command and returns its process id.
    pub(crate) fn receive_started(&self) -> u32 {
        match self.receive() {
            Some(FromShim::Started { pid, .. }) => pid,
            other => panic!("not started but {other:?}"),
        }
    }

    /// Launches and waits for the start.
    pub(crate) fn start(&self, spec: &LaunchSpec) -> u32 {
        self.launch(spec);
        self.receive_started()
    }

    /// Waits for the exit report, ignoring other messages, and acknowledges it.
    pub(crate) fn finish(&self) -> ExitReport {
        loop {
            match self.receive() {
                Some(FromShim::Exited(report)) => {
                    self.send(&ToShim::Recorded);
                    return *report;
                }
                Some(_) => {}
                None => panic!("the shim is gone"),
            }
        }
    }

    /// Runs a command to its end.
    pub(crate) fn run(&self, spec: &LaunchSpec) -> ExitReport {
        self.launch(spec);
        self.finish()
    }

    /// Waits until the log is longer than `seen` and returns its length.
    pub(crate) fn log_longer_than(&self, seen: u64) -> u64 {
        self.send(&ToShim::Watch { known_bytes: seen });
        match self.receive() {
            Some(FromShim::LogGrew { log_bytes }) => log_bytes,
            other => panic!("no growth but {other:?}"),
        }
    }

    /// Has a signal sent, as no one has sent before, and returns the answer.
    pub(crate) fn send_signal(&self, signal: i32, recipients: SignalRecipients) -> SignalAnswer {
        let order = signal_order(signal, recipients);
        let serial = order.serial;
        self.send(&ToShim::Signal(order));
        match self.receive() {
            Some(FromShim::Signalled {
                serial: of, answer, ..
            }) if of == serial => answer,
            other => panic!("not signalled but {other:?}"),
        }
    }

    pub(crate) fn cancel(&self, kill: bool) {
        let by = cancelling_user();
        let mode = if kill {
            CancelMode::Kill
        } else {
            CancelMode::Graceful
        };
        self.send(&ToShim::Cancel { by, mode });
    }

    pub(crate) fn input(&self, data: impl Into<Blob>, end: bool) {
        let data = data.into();
        self.send(&ToShim::Input { data, end });
    }

    /// Receives the first message to an adopting escherd.
    pub(crate) fn receive_state(&self) -> ShimState {
        match self.receive() {
            Some(FromShim::Adoptable(state)) => *state,
            other => panic!("not adoptable but {other:?}"),
        }
    }

    /// Kills the shim, not the command.
    pub(crate) fn kill(&self) {
        self.signal(libc::SIGKILL);
        assert!(readable(&self.pidfd), "a killed shim does not end");
    }

    /// Disconnects and waits for the shim's end.
    pub(crate) fn wait_for_end(self) {
        self.disconnect().wait_for_end();
    }

    /// Closes the connection, as when escherd dies.
    pub(crate) fn disconnect(self) -> Orphan {
        Orphan {
            pid: self.pid,
            pidfd: self.pidfd,
        }
    }
}

/// A signal that no one has sent before, for the user 7.
pub(crate) fn signal_order(signal: i32, recipients: SignalRecipients) -> SignalOrder {
    SignalOrder {
        signal,
        recipients,
        by: User { uid: 7, name: None },
        serial: SignalSerial::unique(),
    }
}

/// A shim without a connection to escherd.
pub(crate) struct Orphan {
    pid: u32,
    pidfd: OwnedFd,
}

impl Orphan {
    /// Waits for its end.
    pub(crate) fn wait_for_end(self) {
        assert!(readable(&self.pidfd), "the shim does not end");
    }

    /// Returns the shim with `socket`, a new connection to it.
    pub(crate) fn reconnected(&self, socket: PacketSocket) -> Shim {
        Shim {
            pid: self.pid,
            pidfd: self.pidfd.try_clone().unwrap(),
            socket,
        }
    }

    pub(crate) fn signal(&self, signal: i32) {
        raw::signal(self.pidfd.as_fd(), signal).unwrap();
    }
}
