//! What follows when escherd cannot start: the exit status, the log, and what systemd and the clients at
//! its socket are told.
//!
//! systemd listens for escherd, so clients can connect while no escherd serves them, and the first of
//! them makes systemd start it again. They get a reason instead of silence, and so does everybody who
//! connects in the next [`RETRY_AFTER`], for which escherd stays: so clients cause one start in that
//! time at most. After a fault of the configuration, which only a person can correct, it exits with a
//! status after which systemd does not restart it, and at once if no client waits: then a person, or
//! the boot, has started it. Any other cause may pass by itself, such as a full disk.

use std::io;
use std::time::Duration;

use escher_protocol::{ApiError, ErrorCode};
use tracing::error;

use crate::api::StartError;
use crate::config::ConfigError;
use crate::host::logging::LogDestination;
use crate::host::service_manager::ServiceManager;
use crate::host::systemd::{self, ActivatedSockets};
use crate::server::{self, RefusalPeriod};

/// Exit status for an invalid configuration, and for directories that cannot be trusted. systemd does
/// not restart escherd after it (`RestartPreventExitStatus=`).
const EXIT_CONFIGURATION: u8 = 2;

/// Exit status for everything else.
const EXIT_FAILURE: u8 = 1;

/// How long clients are refused before the next start.
const RETRY_AFTER: Duration = Duration::from_secs(10);

/// Returns the exit status for a start that has failed.
#[must_use]
pub fn exit_status(error: &anyhow::Error) -> u8 {
    if needs_correction(error) {
        EXIT_CONFIGURATION
    } else {
        EXIT_FAILURE
    }
}

/// Logs why escherd does not start, or has failed: an entry for each fault of a configuration.
#[allow(clippy::print_stderr)] // To a caller without a journal, in plain lines.
pub fn log(error: &anyhow::Error, destination: LogDestination) {
    for reason in reasons(error) {
        match destination {
            LogDestination::Journal => error!("{reason}"),
            LogDestination::StandardError => eprintln!("escherd: {reason}"),
        }
    }
}

/// Tells systemd why escherd does not start, and the clients at its socket that it does not.
pub(crate) async fn refuse_clients(sockets: ActivatedSockets, error: &anyhow::Error) {
    systemd::status(&status(error));
    let period = if needs_correction(error) {
        RefusalPeriod::IfAwaited(RETRY_AFTER)
    } else {
        RefusalPeriod::For(RETRY_AFTER)
    };
    server::refuse_clients(sockets, refusal(error), period).await;
}

/// Whether escherd cannot start before a person has corrected something.
fn needs_correction(error: &anyhow::Error) -> bool {
    let is_untrusted = |error: &StartError| match error {
        StartError::UntrustedDirectory(_) => true,
        StartError::TemporaryDirectory(source) => source.kind() == io::ErrorKind::PermissionDenied,
        _ => false,
    };
    faults(error).is_some() || error.downcast_ref().is_some_and(is_untrusted)
}

fn faults(error: &anyhow::Error) -> Option<&ConfigError> {
    match error.downcast_ref() {
        Some(StartError::Config(faults)) => Some(faults),
        _ => error.downcast_ref(),
    }
}

/// Returns the faults of a configuration, or the one reason that there is.
fn reasons(error: &anyhow::Error) -> Vec<String> {
    match faults(error) {
        Some(faults) => faults.problems().iter().map(ToString::to_string).collect(),
        None => vec![with_causes(error)],
    }
}

/// Returns an error with its causes, except those that it names itself.
fn with_causes(error: &anyhow::Error) -> String {
    let mut text = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

/// Returns the line that `systemctl status` shows.
fn status(error: &anyhow::Error) -> String {
    match faults(error) {
        Some(faults) => format!("cannot start: {}", faults.summary()),
        None => format!("cannot start: {}", with_causes(error)),
    }
}

/// Returns where the cause is to be found: a service manager has passed the socket.
fn hint(manager: ServiceManager) -> String {
    let option = match manager {
        ServiceManager::User => " --user",
        ServiceManager::System | ServiceManager::None => "",
    };
    format!(
        "`systemctl{option} status escherd` and `journalctl{option} -u escherd` show the cause, and \
         `escherctl doctor` what to do about it"
    )
}

/// Returns what clients are told. Anyone may connect, so the contents of files are not in it.
fn refusal(error: &anyhow::Error) -> ApiError {
    let message = match error.downcast_ref() {
        Some(StartError::Store(error)) => format!("escherd cannot start: {error}"),
        _ if needs_correction(error) => {
            "escherd cannot start before its configuration is corrected".to_owned()
        }
        _ => "escherd cannot start".to_owned(),
    };
    ApiError::new(ErrorCode::NOT_SERVING, message).with_hint(hint(ServiceManager::current()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{self, LoadOptions};
    use crate::store::StoreError;

    fn faulty() -> ConfigError {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("escher.toml");
        std::fs::write(&file, "[execution]\nsecret = 1\nother = 2\n").unwrap();
        let options = LoadOptions {
            file: Some(file),
            ..LoadOptions::default()
        };
        config::load(&options).unwrap_err()
    }

    #[test]
    fn a_fault_of_the_configuration_is_not_retried_and_each_has_a_line() {
        for error in [
            anyhow::Error::from(faulty()),
            StartError::Config(faulty()).into(),
        ] {
            assert_eq!(exit_status(&error), 2);
            assert_eq!(reasons(&error).len(), 2, "{error}");
            let status = status(&error);
            assert!(status.contains("escher.toml:2: ") && status.ends_with("(and 1 more)"));
            let refusal = refusal(&error);
            assert!(!refusal.to_string().contains("secret"), "{refusal}");
        }
    }

    #[test]
    fn a_cause_is_named_once() {
        let error = anyhow::anyhow!("the cause").context("cannot do it: the cause");
        assert_eq!(reasons(&error), ["cannot do it: the cause"]);
        let error = anyhow::anyhow!("the cause").context("cannot do it");
        assert_eq!(reasons(&error), ["cannot do it: the cause"]);
    }

    #[test]
    fn other_failures_are_retried() {
        let full = StoreError::NoSpace("/var/lib/escher".into());
        let error = anyhow::Error::from(StartError::Store(full));
        assert_eq!(exit_status(&error), 1);
        let expected = "no space left on /var/lib/escher";
        assert_eq!(status(&error), format!("cannot start: {expected}"));
        assert!(refusal(&error).message.contains(expected));
        assert_eq!(exit_status(&anyhow::anyhow!("anything else")), 1);
    }
}
