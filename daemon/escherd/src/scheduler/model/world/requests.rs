//! What clients ask of escherd.

use escher_protocol::{
    Blob, CancelMode, Command, ExecutionRequest, ResourceLimits, SignalRecipients, SignalSerial,
    Text,
};

use super::super::clients::RequestKind;
use super::World;
use crate::authz::SubmitPermit;
use crate::scheduler::{SignalProgress, SignalRequest};

/// Returns the limits of a request of this kind.
pub(super) fn limits(kind: RequestKind) -> ResourceLimits {
    ResourceLimits {
        memory_max: kind.is_limited.then_some(1),
        ..ResourceLimits::default()
    }
}

/// Returns the length of the argument and of the variable in a request of this kind.
pub(super) fn text_bytes(kind: RequestKind) -> usize {
    if kind.is_large { 5_000 } else { 1 }
}

impl World {
    pub(super) fn submit(&mut self, kind: RequestKind) {
        let large_text = Blob::from(vec![b'x'; text_bytes(kind)]);
        let request = ExecutionRequest {
            key: kind.key.map(|key| Text::from(key.to_string())),
            command: Command::Exec {
                argv: vec!["a".into(), large_text.clone()],
            },
            inherited: if kind.inherits {
                vec![("Y".into(), "inherited".into())]
            } else {
                Vec::new()
            },
            environment: vec![("X".into(), large_text)],
            limits: limits(kind),
            ..ExecutionRequest::default()
        };
        let permit = SubmitPermit::for_uid(kind.uid);
        let time = self.time();
        let answer = self.scheduler.submit(permit, Box::new(request), time);
        if let Ok(answer) = answer {
            self.clients.submit(kind, answer);
        }
    }

    pub(super) fn cancel(&mut self, which: u8, kill: bool) {
        let mode = if kill {
            CancelMode::Kill
        } else {
            CancelMode::Graceful
        };
        if let Some(id) = self.clients.known(which)
            && let Some(number) = self.number_in_memory(id)
        {
            let answer = self
                .scheduler
                .cancel(&self.scope, number, mode, self.time());
            self.clients.cancel(id, answer);
        }
    }

    pub(super) fn pause(&mut self, which: u8, pause: bool) {
        if let Some(id) = self.clients.known(which)
            && let Some(number) = self.number_in_memory(id)
        {
            let answer = self.scheduler.pause(number, pause);
            if pause {
                self.clients.pause(id, answer);
            }
        }
    }

    pub(super) fn signal(&mut self, which: u8) {
        let request = SignalRequest {
            signal: 10,
            recipients: SignalRecipients::MainProcess,
            serial: SignalSerial::unique(),
        };
        let time = self.time();
        if let Some(id) = self.clients.known(which)
            && let Some(number) = self.number_in_memory(id)
            && let Ok(SignalProgress::Sending(answer)) =
                self.scheduler.signal(&self.scope, number, request, time)
        {
            self.clients.signal(id, request.serial, answer);
        }
    }

    pub(super) fn remove(&mut self, which: u8) {
        let Some(id) = self.clients.known(which) else {
            return;
        };
        let answer = match (self.number_in_memory(id), self.disk.find(id)) {
            (Some(number), _) => self.scheduler.remove_one(number).ok(),
            (None, Some(Some(record))) => Some(self.scheduler.remove_finished(vec![record.number])),
            (None, _) => None,
        };
        if let Some(answer) = answer {
            self.clients.remove(id, answer);
        }
    }

    pub(super) fn remove_log(&mut self, which: u8) {
        if let Some(id) = self.clients.known(which)
            && let Some(Some(record)) = self.disk.find(id)
        {
            drop(self.scheduler.remove_logs(vec![record.number]));
        }
    }
}
