//! Why escherctl failed, and what a person can do about it.

use std::fmt::Display;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use escher_client::{ApiError, ConnectError, Error, ErrorCode, EscherdSocket};

use crate::escherds::systemctl_option;
use crate::socket_access::why_denied;
use crate::time;

/// Why a verb failed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The arguments, or environment variables in place of them, are invalid.
    Usage {
        message: String,
        hint: Option<String>,
    },
    /// No connection could be made.
    Connect(Box<ConnectError>),
    /// escherd refused the request, or the connection was lost.
    Request { error: Error, hint: Option<String> },
    /// The reader of standard output has closed it.
    ClosedPipe,
    /// The terminal to which the output was written does not exist any more.
    TerminalGone,
    /// escherctl's own output cannot be written.
    Output(io::Error),
    /// The caller's working directory cannot be determined. The shell may have a name for it.
    WorkingDirectory {
        named: Option<PathBuf>,
        source: io::Error,
    },
    /// The program escherd is at neither of these paths.
    NotInstalled { searched: [PathBuf; 2] },
    /// Executions have not finished in the time that was set for waiting.
    StillRunning {
        targets: Vec<String>,
        waited: Duration,
    },
    /// A system call failed.
    System { action: String, source: io::Error },
    /// Some of several targets failed, and each failure has been reported.
    AlreadyReported,
}

/// A failure as the fields of `error` in JSON.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FailureDetails {
    /// A kebab-case name; that of the error code if escherd sent the error.
    pub(crate) code: String,
    /// The permanent number of escherd's error code.
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

    pub(crate) fn connect(error: ConnectError) -> Self {
        Failure::Connect(Box::new(error))
    }

    /// A failed system call; `action` reads "cannot ...".
    pub(crate) fn system(action: impl Into<String>, source: io::Error) -> Self {
        Failure::System {
            action: action.into(),
            source,
        }
    }

    /// A failed write to standard output or error.
    pub(crate) fn write(source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::BrokenPipe => Failure::ClosedPipe,
            _ => Failure::Output(source),
        }
    }

    /// Adds the hint that the command keeps running, if the connection to escherd was lost.
    pub(crate) fn while_attached_to(self, id: impl Display) -> Self {
        self.hint_if_unavailable(format!(
            "the command keeps running; once escherd is available again, `escherctl wait {id}` \
             waits for it and `escherctl attach {id}` shows its output as well"
        ))
    }

    /// Adds the hint how to repeat a submission, if it is unknown whether escherd accepted it.
    pub(crate) fn while_submitting(self, key: impl Display) -> Self {
        self.hint_if_unavailable(format!(
            "the command may have been accepted; repeat it with `--key {key}` to find out without \
             running it twice"
        ))
    }

    fn hint_if_unavailable(self, hint: String) -> Self {
        match self {
            Failure::Request { error, .. } if is_unavailable(&error) => Failure::Request {
                error,
                hint: Some(hint),
            },
            other => other,
        }
    }

    /// Whether there is nothing to report, or it has been reported already.
    pub(crate) fn is_silent(&self) -> bool {
        matches!(
            self,
            Failure::ClosedPipe | Failure::TerminalGone | Failure::AlreadyReported
        )
    }

    /// Whether escherctl's own output failed, which does not concern the command.
    pub(crate) fn is_of_output(&self) -> bool {
        matches!(self, Failure::TerminalGone | Failure::Output(_))
    }

    pub(crate) fn details(&self) -> FailureDetails {
        let (code, message, hint) = match self {
            Failure::Usage { message, hint } => ("usage", message.clone(), hint.clone()),
            Failure::Connect(error) => return connect_details(error),
            Failure::Request { error, hint } => return request_details(error, hint.clone()),
            Failure::ClosedPipe => ("closed-pipe", "standard output is closed".to_owned(), None),
            Failure::TerminalGone => ("terminal-gone", "the terminal is gone".to_owned(), None),
            Failure::Output(source) => {
                ("system", format!("cannot write the output: {source}"), None)
            }
            Failure::WorkingDirectory { named, source } => {
                let named = named.as_ref();
                let named = named.map(|path| format!(" {}", path.display()));
                let named = named.unwrap_or_default();
                (
                    "working-directory",
                    format!("cannot use the current directory{named}: {source}"),
                    Some("if it was removed, choose another one with -w DIR or cd".to_owned()),
                )
            }
            Failure::NotInstalled {
                searched: [beside, installed],
            } => (
                "not-installed",
                format!(
                    "escherd not found at {} or {}",
                    beside.display(),
                    installed.display()
                ),
                Some("install escherd, which checks its own configuration".to_owned()),
            ),
            Failure::StillRunning { targets, waited } => {
                let (which, have) = match targets.as_slice() {
                    [target] => (format!("execution {target}"), "has"),
                    targets => (format!("executions {}", targets.join(", ")), "have"),
                };
                let waited = time::duration(*waited);
                return FailureDetails {
                    code: "timeout".to_owned(),
                    number: None,
                    message: format!("{which} {have} not finished within {waited}"),
                    hint: Some("nothing was cancelled; wait again".to_owned()),
                    retry: true,
                };
            }
            Failure::System { action, source } => ("system", format!("{action}: {source}"), None),
            Failure::AlreadyReported => ("several", "some targets failed".to_owned(), None),
        };
        FailureDetails {
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

/// From clap's text, which has a paragraph each for the error, a tip and the usage.
impl From<&clap::Error> for Failure {
    fn from(error: &clap::Error) -> Self {
        let text = error.to_string();
        let mut paragraphs = text.split("\n\n").map(|paragraph| {
            let lines: Vec<&str> = paragraph.lines().map(str::trim).collect();
            lines.join(" ")
        });
        let message = paragraphs.next().unwrap_or_default();
        let tip = paragraphs.find(|paragraph| paragraph.starts_with("tip: "));
        Failure::usage(
            message.trim_start_matches("error: "),
            tip.as_deref().map(|tip| tip.trim_start_matches("tip: ")),
        )
    }
}

/// Whether the request failed because escherd became unavailable.
fn is_unavailable(error: &Error) -> bool {
    match error {
        Error::Disconnected(_) | Error::DaemonUnavailable { .. } => true,
        Error::Api(error) => error.code == ErrorCode::SHUTTING_DOWN,
        _ => false,
    }
}

fn connect_details(error: &ConnectError) -> FailureDetails {
    let details = |code: &str, hint: Option<String>, retry| FailureDetails {
        code: code.to_owned(),
        number: None,
        message: error.to_string(),
        hint,
        retry,
    };
    let permanent = |code, hint: &str| details(code, Some(hint.to_owned()), false);
    let option = systemctl_option(error.path());
    match error {
        ConnectError::NoDaemon { path, .. } => {
            details("no-daemon", Some(how_to_start(path).to_owned()), true)
        }
        ConnectError::NeitherUsable { system, own } => neither_details(system, own),
        ConnectError::PermissionDenied { path, .. } => match why_denied(path) {
            Some(reason) => FailureDetails {
                message: format!("{error}: {}", reason.message),
                ..details(
                    "permission-denied",
                    reason.advice.map(|advice| advice.to_string()),
                    false,
                )
            },
            None => permanent(
                "permission-denied",
                "join the group `escher` (`sudo usermod -aG escher \"$USER\"`) and log in again",
            ),
        },
        ConnectError::UntrustedDirectory { .. } => permanent(
            "permission-denied",
            "set XDG_RUNTIME_DIR, or TMPDIR, to a directory of your own, for escherd as well",
        ),
        ConnectError::NotASocket { .. } => {
            permanent("no-daemon", "specify escherd's socket with --socket")
        }
        ConnectError::PathTooLong { .. } => permanent(
            "invalid-socket",
            "specify a shorter path with --socket, or a symbolic link to it",
        ),
        ConnectError::VersionMismatch { .. } => permanent(
            "unsupported-version",
            "install the same release of escherctl and escherd, then restart escherd",
        ),
        ConnectError::Refused { refusal, .. } => FailureDetails {
            message: error.to_string(),
            ..api_details(&refusal.error)
        },
        ConnectError::Protocol { .. } => {
            permanent("protocol", "check that this is escherd's socket")
        }
        ConnectError::Timeout { .. } => {
            let hint = format!("`systemctl{option} status escherd` shows what it is doing");
            details("timeout", Some(hint), true)
        }
        _ => details("system", None, false),
    }
}

/// Returns how to start the escherd that listens at this socket.
fn how_to_start(socket: &Path) -> &'static str {
    if socket == EscherdSocket::user().path() {
        "start it with `systemctl --user enable --now escherd.socket`, or run `escherd --user`"
    } else {
        "start it with `systemctl start escherd`, or run your own with `escherd --user`"
    }
}

/// Details of the errors of both escherds. Whatever keeps from using the system's, one's own does instead.
fn neither_details(system: &ConnectError, own: &ConnectError) -> FailureDetails {
    let (system, own) = (connect_details(system), connect_details(own));
    let hint = match (system.code.as_str(), system.hint, own.hint) {
        // This names both.
        ("no-daemon", Some(hint), _) if own.code == "no-daemon" => hint,
        (_, Some(hint), Some(own_hint)) => {
            format!("{hint}; or use your own escherd: {own_hint}")
        }
        (_, hint, own_hint) => hint.or(own_hint).unwrap_or_default(),
    };
    FailureDetails {
        message: format!("{}, and {}", system.message, own.message),
        hint: Some(hint),
        retry: system.retry || own.retry,
        ..system
    }
}

fn request_details(error: &Error, hint: Option<String>) -> FailureDetails {
    let details = match error {
        Error::Api(error) => api_details(error),
        other => {
            let (code, hint) = match other {
                Error::Disconnected(_) => ("disconnected", None),
                Error::DaemonUnavailable { path, .. } => {
                    let option = systemctl_option(path);
                    let hint = format!(
                        "`systemctl{option} status escherd` shows why; use --reconnect TIME to wait \
                         longer"
                    );
                    ("daemon-gone", Some(hint))
                }
                Error::RequestTooLarge { .. } | Error::ListTooLong { .. } => {
                    ("frame-too-large", None)
                }
                _ => ("protocol", None),
            };
            FailureDetails {
                code: code.to_owned(),
                number: None,
                message: other.to_string(),
                hint,
                retry: is_unavailable(other),
            }
        }
    };
    FailureDetails {
        hint: hint.or(details.hint),
        ..details
    }
}

fn api_details(error: &ApiError) -> FailureDetails {
    let default_hint = match error.code {
        ErrorCode::NOT_FOUND => Some("`escherctl ps -a` lists the executions you have access to"),
        ErrorCode::KEY_CONFLICT => Some("use another --key, or none"),
        ErrorCode::INVALID_CONFIGURATION => Some("the previous configuration remains in force"),
        ErrorCode::NOT_FINISHED => Some("end it first with `escherctl cancel`"),
        ErrorCode::STORE_UNAVAILABLE => {
            Some("running commands continue; `escherctl doctor` shows what is wrong with the store")
        }
        _ => None,
    };
    let hint = error.hint.as_deref().or(default_hint);
    FailureDetails {
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
    fn an_unknown_id_hints_at_the_list() {
        let error = Error::from(ApiError::new(ErrorCode::NOT_FOUND, "no execution 9"));
        let details = Failure::from(error).details();
        assert_eq!(details.code, "not-found");
        assert_eq!(details.number, Some(21));
        assert!(details.hint.unwrap().contains("escherctl ps -a"));
    }

    #[test]
    fn only_an_unavailable_escherd_hints_that_the_command_keeps_running() {
        let hint = |error: Error| Failure::from(error).while_attached_to(17).details().hint;
        let disconnected =
            Error::Disconnected(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        assert!(hint(disconnected).unwrap().contains("`escherctl wait 17`"));
        let stopping = ApiError::new(ErrorCode::SHUTTING_DOWN, "escherd is shutting down");
        assert!(hint(stopping.into()).unwrap().contains("keeps running"));
        let refused = ApiError::new(ErrorCode::KEY_CONFLICT, "the key is in use");
        assert!(!hint(refused.into()).unwrap().contains("keeps running"));
    }

    /// A user who meets one of these has to be told what to do.
    #[test]
    fn each_error_that_a_user_can_mend_has_a_hint() {
        for (code, hint) in [
            (ErrorCode::NOT_FOUND, "`escherctl ps -a` lists"),
            (ErrorCode::KEY_CONFLICT, "use another --key, or none"),
            (
                ErrorCode::INVALID_CONFIGURATION,
                "the previous configuration remains in force",
            ),
            (ErrorCode::NOT_FINISHED, "`escherctl cancel`"),
            (ErrorCode::STORE_UNAVAILABLE, "`escherctl doctor` shows"),
        ] {
            let error = Error::from(ApiError::new(code, "x"));
            let found = Failure::from(error).details().hint.unwrap();
            assert!(found.contains(hint), "{found}");
        }
    }

    #[test]
    fn a_submission_without_an_answer_can_be_repeated_by_its_key() {
        let lost = Error::Disconnected(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        let details = Failure::from(lost).while_submitting("nightly").details();
        assert_eq!(details.code, "disconnected");
        let hint = details.hint.unwrap();
        assert!(hint.contains("repeat it with `--key nightly`"), "{hint}");
    }

    #[test]
    fn escherctl_s_own_failures_say_what_and_where() {
        let (beside, installed) = ("/opt/escherd".into(), "/usr/bin/escherd".into());
        let full = || io::Error::from_raw_os_error(nix::libc::ENOSPC);
        for (failure, code, message) in [
            (
                Failure::NotInstalled {
                    searched: [beside, installed],
                },
                "not-installed",
                "escherd not found at /opt/escherd or /usr/bin/escherd",
            ),
            (Failure::AlreadyReported, "several", "some targets failed"),
            (
                Failure::Output(full()),
                "system",
                "cannot write the output: No space left on device (os error 28)",
            ),
            (
                Failure::system("cannot read /x", full()),
                "system",
                "cannot read /x: No space left on device (os error 28)",
            ),
            (
                Failure::WorkingDirectory {
                    named: Some("/gone".into()),
                    source: full(),
                },
                "working-directory",
                "cannot use the current directory /gone: No space left on device (os error 28)",
            ),
        ] {
            let details = failure.details();
            assert_eq!((&*details.code, &*details.message), (code, message));
        }
    }

    #[test]
    fn a_hint_from_escherd_takes_precedence() {
        let error = ApiError::new(ErrorCode::NOT_FOUND, "no execution 9").with_hint("see 8");
        let details = Failure::from(Error::from(error)).details();
        assert_eq!(details.hint.as_deref(), Some("see 8"));
    }

    #[test]
    fn a_usage_error_keeps_clap_s_message_and_tip() {
        let definition = || clap::Command::new("x").arg(clap::arg!(--timeout <TIME>));
        let error = definition().try_get_matches_from(["x", "--timeuot", "5s"]);
        let details = Failure::from(&error.unwrap_err()).details();
        assert_eq!(details.message, "unexpected argument '--timeuot' found");
        assert!(details.hint.unwrap().contains("'--timeout'"));
    }
}
