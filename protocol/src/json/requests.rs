//! The objects of requests. Unknown fields are refused, so that a misspelled one is not ignored.

use std::collections::BTreeMap;
use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::blob::{Blob, Text, bounded_list};
use crate::execution::{
    CancelMode, Command, ExecutionRequest, KillMode, OnStdinLost, RunAs, StdinLost, StdinMode,
    Timeout,
};
use crate::process_limits::{ProcessLimits, Rlimit, RlimitResource};
use crate::resources::ResourceLimits;
use crate::signal::SignalRecipients;

/// A request to run a command. The names are those of the execution's object.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Submission {
    command: CommandObject,
    #[serde(default)]
    key: Option<String>,
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    environment: BTreeMap<String, Bytes>,
    #[serde(default)]
    umask: Option<u32>,
    #[serde(default)]
    working_dir: Option<Bytes>,
    #[serde(default)]
    run_as: Option<UserReference>,
    /// Whether the standard input is a pipe that can be written.
    #[serde(default)]
    stdin: bool,
    #[serde(default)]
    stdin_lost: LostStdin,
    #[serde(default)]
    merge_output: bool,
    #[serde(default)]
    timeout_ms: Option<TimeoutObject>,
    #[serde(default)]
    kill_grace_ms: Option<u64>,
    #[serde(default)]
    drain_ms: Option<u64>,
    #[serde(default)]
    kill_mode: KillModeName,
    #[serde(default)]
    limits: LimitsObject,
    #[serde(default)]
    labels: BTreeMap<String, String>,
}

impl Submission {
    /// Returns the key that makes the request safe to repeat.
    #[must_use]
    pub fn key(&self) -> Option<&str> {
        self.key.as_deref()
    }

    /// Sets the key.
    pub fn set_key(&mut self, key: &str) {
        self.key = Some(key.to_owned());
    }
}

impl From<Submission> for ExecutionRequest {
    fn from(object: Submission) -> Self {
        let (limits, process) = object.limits.split();
        let text = |text: String| Text::from(text);
        ExecutionRequest {
            key: object.key.map(text),
            name: object.name.map(text),
            command: object.command.into(),
            environment: object
                .environment
                .into_iter()
                .map(|(name, value)| (name.as_str().into(), value.0))
                .collect(),
            umask: object.umask,
            working_dir: object.working_dir.map(|bytes| bytes.0),
            run_as: match object.run_as {
                None => RunAs::Caller,
                Some(UserReference::Name(name)) => RunAs::Name(name.into()),
                Some(UserReference::Uid(uid)) => RunAs::Uid(uid),
            },
            stdin: if object.stdin {
                StdinMode::Stream
            } else {
                StdinMode::Null
            },
            merges_output: object.merge_output,
            stdin_lost: StdinLost {
                then: match object.stdin_lost.then {
                    LostStdinAction::Cancel => OnStdinLost::Cancel,
                    LostStdinAction::End => OnStdinLost::End,
                },
                after_ms: object.stdin_lost.after_ms,
            },
            timeout: match object.timeout_ms {
                None => Timeout::Default,
                Some(TimeoutObject::Milliseconds(ms)) => Timeout::After { ms },
                Some(TimeoutObject::Name(Infinity::Infinity)) => Timeout::Unlimited,
            },
            kill_grace_ms: object.kill_grace_ms,
            drain_ms: object.drain_ms,
            kill_mode: match object.kill_mode {
                KillModeName::ControlGroup => KillMode::ControlGroup,
                KillModeName::Process => KillMode::Process,
            },
            limits,
            process,
            labels: object
                .labels
                .into_iter()
                .map(|(key, value)| (key.into(), value.into()))
                .collect(),
            ..ExecutionRequest::default()
        }
    }
}

/// Bytes: a string, or `{"base64": …}` where they are not UTF-8.
#[derive(Debug)]
struct Bytes(Blob);

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct BytesVisitor;
        impl<'de> Visitor<'de> for BytesVisitor {
            type Value = Bytes;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string or {\"base64\": …}")
            }
            fn visit_str<E>(self, text: &str) -> Result<Bytes, E> {
                Ok(Bytes(text.into()))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Bytes, A::Error> {
                match map.next_entry::<String, String>()? {
                    Some((name, text)) if name == "base64" => {
                        let bytes = STANDARD.decode(text).map_err(A::Error::custom)?;
                        match map.next_key::<String>()? {
                            None => Ok(Bytes(bytes.into())),
                            Some(name) => Err(A::Error::unknown_field(&name, &["base64"])),
                        }
                    }
                    Some((name, _)) => Err(A::Error::unknown_field(&name, &["base64"])),
                    None => Err(A::Error::missing_field("base64")),
                }
            }
        }
        deserializer.deserialize_any(BytesVisitor)
    }
}

/// A command: a list of words, or a text for `/bin/sh -c`.
#[derive(Debug)]
enum CommandObject {
    Words(Vec<Bytes>),
    Shell(String),
}

impl<'de> Deserialize<'de> for CommandObject {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct CommandVisitor;
        impl<'de> Visitor<'de> for CommandVisitor {
            type Value = CommandObject;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of words, or a string for /bin/sh -c")
            }
            fn visit_str<E>(self, text: &str) -> Result<CommandObject, E> {
                Ok(CommandObject::Shell(text.to_owned()))
            }
            fn visit_seq<A: serde::de::SeqAccess<'de>>(
                self,
                words: A,
            ) -> Result<CommandObject, A::Error> {
                let words = serde::de::value::SeqAccessDeserializer::new(words);
                bounded_list(words).map(CommandObject::Words)
            }
        }
        deserializer.deserialize_any(CommandVisitor)
    }
}

impl From<CommandObject> for Command {
    fn from(object: CommandObject) -> Self {
        match object {
            CommandObject::Words(words) => Command::Exec {
                argv: words.into_iter().map(|word| word.0).collect(),
            },
            CommandObject::Shell(text) => Command::Shell {
                text: text.as_str().into(),
                shell: None,
            },
        }
    }
}

/// A user: a login name or a uid.
#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "a login name or a uid")]
enum UserReference {
    Name(String),
    Uid(u32),
}

/// A timeout: milliseconds or `"infinity"`.
#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "a number of milliseconds or \"infinity\"")]
enum TimeoutObject {
    Milliseconds(u64),
    Name(Infinity),
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Infinity {
    Infinity,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum KillModeName {
    #[default]
    ControlGroup,
    Process,
}

/// When a standard input is lost, and what happens then.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct LostStdin {
    then: LostStdinAction,
    after_ms: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum LostStdinAction {
    #[default]
    Cancel,
    End,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct LimitsObject {
    memory_max: Option<u64>,
    memory_high: Option<u64>,
    cpu_quota: Option<u32>,
    cpu_weight: Option<u32>,
    io_weight: Option<u32>,
    tasks_max: Option<u64>,
    nice: Option<i32>,
    oom_score_adjust: Option<i32>,
    #[serde(deserialize_with = "rlimits")]
    rlimits: Vec<Rlimit>,
}

impl LimitsObject {
    fn split(self) -> (ResourceLimits, ProcessLimits) {
        let limits = ResourceLimits {
            memory_max: self.memory_max,
            memory_high: self.memory_high,
            cpu_quota: self.cpu_quota,
            cpu_weight: self.cpu_weight,
            io_weight: self.io_weight,
            tasks_max: self.tasks_max,
        };
        let process = ProcessLimits {
            nice: self.nice,
            oom_score_adjust: self.oom_score_adjust,
            rlimits: self.rlimits,
        };
        (limits, process)
    }
}

/// Reads limits by the names of their resources, in lower case.
fn rlimits<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Rlimit>, D::Error> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Limit {
        soft: Option<u64>,
        hard: Option<u64>,
    }
    let limits = BTreeMap::<String, Limit>::deserialize(deserializer)?;
    let limit = |(name, limit): (String, Limit)| {
        let resource = RlimitResource::from_name(&name.to_uppercase())
            .ok_or_else(|| D::Error::custom(format!("no resource is called {name:?}")))?;
        Ok(Rlimit {
            resource,
            soft: limit.soft.unwrap_or(Rlimit::INFINITY),
            hard: limit.hard.unwrap_or(Rlimit::INFINITY),
        })
    };
    limits.into_iter().map(limit).collect()
}

/// How to cancel.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Cancellation {
    kill: bool,
}

impl From<Cancellation> for CancelMode {
    fn from(object: Cancellation) -> Self {
        if object.kill {
            CancelMode::Kill
        } else {
            CancelMode::Graceful
        }
    }
}

/// A signal to send.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignalObject {
    /// The signal's number (signal(7)).
    pub signal: i32,
    #[serde(default)]
    to: Recipients,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Recipients {
    #[default]
    Main,
    Group,
    Tree,
}

impl SignalObject {
    /// Returns the processes that get the signal.
    #[must_use]
    pub fn recipients(&self) -> SignalRecipients {
        match self.to {
            Recipients::Main => SignalRecipients::MainProcess,
            Recipients::Group => SignalRecipients::ProcessGroup,
            Recipients::Tree => SignalRecipients::Tree,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<ExecutionRequest, String> {
        let parsed = serde_json::from_str::<Submission>(text);
        parsed.map(Into::into).map_err(|error| error.to_string())
    }

    #[test]
    fn a_submission_has_the_names_of_the_record() {
        let request = parse(
            r#"{"command":["a",{"base64":"/w=="}],"key":"k","name":"n","environment":{"A":"b"},
            "working_dir":"/w","run_as":7,"stdin":true,"timeout_ms":5,"kill_mode":"process",
            "limits":{"memory_max":1,"nice":3,"rlimits":{"nofile":{"soft":1,"hard":null}}},
            "labels":{"x":"y"}}"#,
        );
        let request = request.unwrap();
        let argv = request.command.to_argv();
        assert_eq!((&argv[0][..], &argv[1][..]), (&b"a"[..], &b"\xff"[..]));
        assert_eq!(request.run_as, RunAs::Uid(7));
        assert_eq!(request.timeout, Timeout::After { ms: 5 });
        assert_eq!(
            (request.limits.memory_max, request.process.nice),
            (Some(1), Some(3))
        );
        assert_eq!(request.process.rlimits[0].hard, Rlimit::INFINITY);
        assert_eq!(request.stdin, StdinMode::Stream);
        let shell = parse(r#"{"command":"echo hi","timeout_ms":"infinity"}"#).unwrap();
        assert_eq!(&shell.command.to_argv()[2][..], b"echo hi");
        assert_eq!(shell.timeout, Timeout::Unlimited);
    }

    #[test]
    fn what_is_no_submission_is_refused_with_the_reason() {
        for (text, reason) in [
            ("{}", "missing field `command`"),
            (r#"{"command":"x","nmae":"n"}"#, "unknown field `nmae`"),
            (r#"{"command":[{"base64":"!"}]}"#, "Invalid symbol"),
            (r#"{"command":[{"base46":""}]}"#, "unknown field `base46`"),
            (r#"{"command":"x","timeout_ms":"never"}"#, "infinity"),
            (
                r#"{"command":"x","limits":{"rlimits":{"files":{}}}}"#,
                "no resource is called",
            ),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }
}
