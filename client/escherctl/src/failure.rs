//! What escherctl could not do, and what a person can do about it.

use std::fmt::Display;
use std::io;
use std::path::PathBuf;

use escher_client::{ApiError, ConnectError, Error, ErrorCode};

use super::socket::SocketChoice;

/// Why a verb could not do what it was asked.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The arguments make no sense.
    Usage {
        message: String,
        hint: Option<String>,
    },
    /// There is no connection.
    Connect {
        error: Box<ConnectError>,
        choice: SocketChoice,
    },
    /// escherd says no, or the connection broke.
    Request { error: Error, hint: Option<String> },
    /// Whoever read the output is gone.
    ClosedPipe,
    /// The caller's directory cannot be named.
    WorkingDirectory(io::Error),
    /// escherd's program is at neither of these.
    NotInstalled { places: [PathBuf; 2] },
    /// The system refused something.
    System { what: String, source: io::Error },
    /// Some of several things failed; they were told of one by one.
    Several,
}

/// A failure in the terms of `error` in JSON.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Description {
    /// Of an error of escherd: its name.
    pub(crate) code: String,
    /// Of an error of escherd: its permanent number.
    pub(crate) number: Option<u16>,
    pub(crate) message: String,
    pub(crate) hint: Option<String>,
    pub(crate) retry: bool,
}

impl Failure {
    pub(crate) fn usage(message: impl Into<String>, hint: Option<&str>) -> Self {
        Failure::Usage {
            message: message.into(),
            hint: hint.map(str::to_owned),
        }
    }

    pub(crate) fn connect(error: ConnectError, choice: &SocketChoice) -> Self {
        Failure::Connect {
            error: Box::new(error),
            choice: choice.clone(),
        }
    }

    pub(crate) fn system(what: impl Into<String>, source: io::Error) -> Self {
        Failure::System {
            what: what.into(),
            source,
        }
    }

    /// Standard output or error could not be written.
    pub(crate) fn write(source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::BrokenPipe => Failure::ClosedPipe,
            _ => Failure::system("cannot write the output", source),
        }
    }

    /// The same failure of a command that goes on without escherctl.
    pub(crate) fn leaving(self, id: impl Display) -> Self {
        self.without_escherd(format!(
            "the command goes on; once escherd is back, `escherctl wait {id}` waits for its end and \
             `escherctl attach {id}` shows its output, too"
        ))
    }

    /// The same failure of a command of which it is not known whether escherd has taken it on.
    pub(crate) fn in_doubt(self, key: impl Display) -> Self {
        self.without_escherd(format!(
            "it may have been taken on; the same command with `--key {key}` finds out and does not \
             run it twice"
        ))
    }

    /// With this hint where escherd is gone.
    fn without_escherd(self, hint: String) -> Self {
        match self {
            Failure::Request { error, .. } if is_gone(&error) => Failure::Request {
                error,
                hint: Some(hint),
            },
            other => other,
        }
    }

    /// Whether there is nothing to tell, or it was told.
    pub(crate) fn is_silent(&self) -> bool {
        matches!(self, Failure::ClosedPipe | Failure::Several)
    }

    pub(crate) fn describe(&self) -> Description {
        let (code, message, hint) = match self {
            Failure::Usage { message, hint } => ("usage", message.clone(), hint.clone()),
            Failure::Connect { error, choice } => return describe_connect(error, choice),
            Failure::Request { error, hint } => return describe_request(error, hint.clone()),
            Failure::ClosedPipe => ("closed-pipe", "the reader is gone".to_owned(), None),
            Failure::WorkingDirectory(source) => (
                "working-directory",
                format!("cannot tell the current directory: {source}"),
                Some("give one with -w DIR".to_owned()),
            ),
            Failure::NotInstalled {
                places: [beside, installed],
            } => (
                "not-installed",
                format!(
                    "there is no escherd, neither at {} nor at {}",
                    beside.display(),
                    installed.display()
                ),
                Some(
                    "install it; it is escherd's program that checks its configuration".to_owned(),
                ),
            ),
            Failure::System { what, source } => ("system", format!("{what}: {source}"), None),
            Failure::Several => ("several", "not all of it could be done".to_owned(), None),
        };
        Description {
            code: code.to_owned(),
            number: None,
            message,
            hint,
            retry: false,
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure::Request { error, hint: None }
    }
}

/// Whether it speaks of escherd's absence.
fn is_gone(error: &Error) -> bool {
    match error {
        Error::Disconnected(_) | Error::DaemonUnavailable { .. } => true,
        Error::Api(error) => error.code == ErrorCode::SHUTTING_DOWN,
        _ => false,
    }
}

fn describe_connect(error: &ConnectError, choice: &SocketChoice) -> Description {
    let (code, hint, retry) = match error {
        ConnectError::NoDaemon { .. } => (
            "no-daemon",
            Some(
                "start it with `systemctl start escherd`, or one of your own with `escherd --user`",
            ),
            true,
        ),
        ConnectError::PermissionDenied { .. } => (
            "permission-denied",
            Some("join the group `escher` (`sudo usermod -aG escher \"$USER\"`) and log in again"),
            false,
        ),
        ConnectError::NotASocket { .. } => (
            "no-daemon",
            Some("name escherd's socket with --socket"),
            false,
        ),
        ConnectError::VersionMismatch { .. } => (
            "unsupported-version",
            Some("install escherctl and escherd of the same release, and restart escherd"),
            false,
        ),
        ConnectError::Refused { refusal, .. } => {
            return Description {
                message: error.to_string(),
                ..describe_api(&refusal.error)
            };
        }
        ConnectError::Protocol { .. } => ("protocol", Some("is that escherd's socket?"), false),
        ConnectError::Timeout { .. } => (
            "timeout",
            Some("`systemctl status escherd` shows what it is doing"),
            true,
        ),
        _ => ("system", None, false),
    };
    let mut message = error.to_string();
    for path in choice.absent() {
        message.push_str(&format!(", nor at {}", path.display()));
    }
    Description {
        code: code.to_owned(),
        number: None,
        message,
        hint: hint.map(str::to_owned),
        retry,
    }
}

fn describe_request(error: &Error, hint: Option<String>) -> Description {
    let description = match error {
        Error::Api(error) => describe_api(error),
        other => {
            let (code, hint) = match other {
                Error::Disconnected(_) => ("disconnected", None),
                Error::DaemonUnavailable { .. } => (
                    "daemon-gone",
                    Some("`systemctl status escherd` shows why; --reconnect TIME waits longer"),
                ),
                Error::RequestTooLarge { .. } => ("frame-too-large", None),
                _ => ("protocol", None),
            };
            Description {
                code: code.to_owned(),
                number: None,
                message: other.to_string(),
                hint: hint.map(str::to_owned),
                retry: is_gone(other),
            }
        }
    };
    Description {
        hint: hint.or(description.hint),
        ..description
    }
}

fn describe_api(error: &ApiError) -> Description {
    let own_hint = match error.code {
        ErrorCode::NOT_FOUND => Some("`escherctl ps -a` lists the executions that you may see"),
        ErrorCode::KEY_CONFLICT => Some("use another --key, or none"),
        ErrorCode::INVALID_CONFIGURATION => Some("what was in force before still is"),
        ErrorCode::NOT_FINISHED => Some("`escherctl cancel` ends it first"),
        ErrorCode::STORE_UNAVAILABLE => {
            Some("what runs goes on; its log (`journalctl -u escherd`) says what the store lacks")
        }
        _ => None,
    };
    let hint = error.hint.as_ref().map(|hint| hint.as_str()).or(own_hint);
    Description {
        code: error.code.to_string(),
        number: Some(error.code.number()),
        message: error.message.to_string(),
        hint: hint.map(str::to_owned),
        retry: error.retry,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_id_says_where_ids_are_listed() {
        let error = Error::from(ApiError::new(ErrorCode::NOT_FOUND, "no execution 9"));
        let description = Failure::from(error).describe();
        assert_eq!(description.code, "not-found");
        assert_eq!(description.number, Some(21));
        assert!(description.hint.unwrap().contains("escherctl ps -a"));
    }

    #[test]
    fn only_an_escherd_that_is_gone_leaves_a_command_behind() {
        let hint = |error: Error| Failure::from(error).leaving(17).describe().hint;
        let gone = Error::Disconnected(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        assert!(hint(gone).unwrap().contains("`escherctl wait 17`"));
        let stops = ApiError::new(ErrorCode::SHUTTING_DOWN, "escherd stops");
        assert!(hint(stops.into()).unwrap().contains("goes on"));
        let refused = ApiError::new(ErrorCode::KEY_CONFLICT, "the key is in use");
        assert!(!hint(refused.into()).unwrap().contains("goes on"));
    }

    #[test]
    fn the_daemons_own_hint_comes_first() {
        let error = ApiError::new(ErrorCode::NOT_FOUND, "no execution 9").with_hint("look there");
        let description = Failure::from(Error::from(error)).describe();
        assert_eq!(description.hint.as_deref(), Some("look there"));
    }
}
