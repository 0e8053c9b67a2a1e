//! Every setting there is, in one table: its name, the values that it takes, its default, where else than in a
//! file it can be said, and what it puts in force.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use escher_launcher::ipc::wire::WhenLogFull;

use super::settings::{ExecutionSettings, Settings};
use super::value_type::{Kind, Word};
use crate::execution::MAX_KILL_GRACE_MS;
use crate::output::OversizedOutput;
use crate::scheduler::OnBoot;
use crate::store::Durability;

/// The tables of a file.
pub(super) const SECTIONS: [&str; 4] = ["daemon", "execution", "store", "history"];

/// The section whose keys may stand in JSON without a table around them.
pub(super) const FLAT_SECTION: &str = "execution";

/// Names that say the same as others: a key's other spelling, and its name.
const OTHER_SPELLINGS: [(&str, &str); 1] = [("daemon.log_dir", "execution.log_dir")];

/// One setting.
#[derive(Debug)]
pub(super) struct Key {
    /// Section and key: `execution.max_timeout_ms`.
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    /// The environment variable that says it too.
    pub(super) variable: Option<&'static str>,
    /// Whether it can change while escherd runs.
    pub(super) is_live: bool,
}

const ANY: RangeInclusive<u64> = 0..=u64::MAX;
const SOME: RangeInclusive<u64> = 1..=u64::MAX;
const A_YEAR_SECS: u64 = 366 * 24 * 60 * 60;
const A_WEEK_SECS: u64 = 7 * 24 * 60 * 60;
const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;

/// The table. Values are put in force in its order.
pub(super) const KEYS: &[Key] = &[
    path("daemon.socket", |s, path| s.socket.path = path),
    key(
        "daemon.socket_mode",
        Kind::Mode {
            default: 0o660,
            set: |s, mode| s.socket.mode = mode,
        },
    ),
    key(
        "daemon.socket_group",
        Kind::Name {
            set: |s, name| s.socket.group = Some(name),
        },
    ),
    path("daemon.metrics_socket", |s, path| {
        s.metrics_socket = Some(path)
    }),
    path("daemon.runtime_dir", |s, path| s.engine.runtime_dir = path),
    path("daemon.state_dir", |s, path| s.engine.state_dir = path),
    path("daemon.launcher", |s, path| s.engine.launcher = path),
    path("daemon.launcher_socket", |s, path| {
        s.engine.launcher_socket = Some(path)
    }),
    number("daemon.warm_shims", 4, ANY, |s, n| {
        s.engine.warm_shims = size(n);
    })
    .each_taking(MIB),
    word(
        "daemon.on_boot",
        &[
            ("resume", |s| s.engine.on_boot = OnBoot::Resume),
            ("drop", |s| s.engine.on_boot = OnBoot::Drop),
        ],
    ),
    number("daemon.max_connections", 4096, SOME, |s, n| {
        s.connections.max_connections = size(n);
    })
    .each_taking(KIB)
    .live(),
    number("daemon.max_connections_per_user", 1024, SOME, |s, n| {
        s.connections.max_connections_per_user = size(n);
    })
    .each_taking(KIB)
    .live(),
    number("execution.default_timeout_ms", 120_000, ANY, |s, n| {
        executions(s).request.default_timeout_ms = n;
    })
    .variable("EXEC_DEFAULT_TIMEOUT_MS")
    .live(),
    number("execution.max_timeout_ms", 600_000, ANY, |s, n| {
        executions(s).request.max_timeout_ms = n;
    })
    .variable("EXEC_MAX_TIMEOUT_MS")
    .live(),
    number(
        "execution.kill_grace_ms",
        10_000,
        0..=MAX_KILL_GRACE_MS,
        |s, n| executions(s).request.kill_grace_ms = n,
    )
    .live(),
    flag("execution.stream_output", true, |s, on| {
        executions(s).output.stream = on;
    })
    .variable("EXEC_STREAM_OUTPUT")
    .live(),
    path("execution.log_dir", |s, path| s.engine.log_dir = path).variable("EXEC_LOG_DIR"),
    number("execution.max_concurrent_executions", 100, SOME, |s, n| {
        executions(s).max_concurrent_executions = size(n);
    })
    .each_taking(KIB)
    .variable("EXEC_MAX_CONCURRENT")
    .live(),
    number("execution.max_pending_executions", 10_000, ANY, |s, n| {
        executions(s).max_pending_executions = size(n);
    })
    .each_taking(KIB)
    .live(),
    number("execution.max_pending_bytes", 256 * MIB, ANY, |s, n| {
        executions(s).max_pending_bytes = n;
    })
    .each_taking(1)
    .live(),
    number("execution.max_in_memory_executions", 1000, ANY, |s, n| {
        executions(s).max_in_memory_executions = size(n);
    })
    .each_taking(KIB)
    .variable("EXEC_MAX_IN_MEMORY")
    .live(),
    number("execution.execution_retention_secs", 3600, ANY, |s, n| {
        executions(s).cleanup.retention = Duration::from_secs(n);
    })
    .variable("EXEC_RETENTION_SECS")
    .live(),
    flag("execution.enable_auto_cleanup", true, |s, on| {
        executions(s).cleanup.is_automatic = on;
    })
    .variable("EXEC_AUTO_CLEANUP")
    .live(),
    number(
        "execution.cleanup_interval_secs",
        300,
        // Longer ones are more than a clock can be set for, some day.
        1..=A_YEAR_SECS,
        |s, n| executions(s).cleanup.interval = Duration::from_secs(n),
    )
    .live(),
    number("execution.max_output_size_bytes", 10 * MIB, SOME, |s, n| {
        executions(s).output.max_bytes = n;
    })
    .each_taking(1)
    .variable("EXEC_MAX_OUTPUT_BYTES")
    .live(),
    number("execution.keep_tail_bytes", 0, ANY, |s, n| {
        executions(s).output.keep_tail_bytes = n;
    })
    .each_taking(1)
    .live(),
    word(
        "execution.oversized_output_strategy",
        &[
            ("truncate_with_warning", |s| {
                executions(s).output.oversized = OversizedOutput::Truncate;
            }),
            ("fail_execution", |s| {
                executions(s).output.oversized = OversizedOutput::Fail;
            }),
            ("stream_to_file", |s| {
                executions(s).output.oversized = OversizedOutput::ToFile;
            }),
        ],
    )
    .variable("EXEC_OVERSIZED_OUTPUT_STRATEGY")
    .live(),
    // Behind the strategy, of which it may change what has been put in force.
    flag("execution.truncate_large_output", true, |s, on| {
        let oversized = &mut executions(s).output.oversized;
        if !on && *oversized == OversizedOutput::Truncate {
            *oversized = OversizedOutput::Fail;
        }
    })
    .variable("EXEC_TRUNCATE_LARGE_OUTPUT")
    .live(),
    number("execution.max_log_bytes", 0, ANY, |s, n| {
        executions(s).log_limits.max_bytes = n;
    })
    .live(),
    number("execution.log_min_free_bytes", 64 * MIB, ANY, |s, n| {
        executions(s).log_limits.min_free_bytes = n;
    })
    .live(),
    word(
        "execution.log_full",
        &[
            ("drain", |s| {
                executions(s).log_limits.when_full = WhenLogFull::Drain;
            }),
            ("kill", |s| {
                executions(s).log_limits.when_full = WhenLogFull::Kill;
            }),
        ],
    )
    .live(),
    word(
        "store.durability",
        &[
            ("crash", |s| s.engine.durability = Durability::Crash),
            ("power", |s| s.engine.durability = Durability::Power),
        ],
    ),
    number("history.max_age_secs", A_WEEK_SECS, ANY, |s, n| {
        executions(s).cleanup.limits.max_age_secs = n;
    })
    .live(),
    number("history.max_bytes", 1024 * MIB, ANY, |s, n| {
        executions(s).cleanup.limits.max_bytes = n;
    })
    .live(),
    number("history.max_count", 1_000_000, ANY, |s, n| {
        executions(s).cleanup.limits.max_count = n;
    })
    .live(),
];

fn executions(settings: &mut Settings) -> &mut ExecutionSettings {
    &mut settings.engine.executions
}

/// A number of things, as memory counts them: more than there can be is as good as that.
fn size(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

const fn key(name: &'static str, kind: Kind) -> Key {
    Key {
        name,
        kind,
        variable: None,
        is_live: false,
    }
}

const fn flag(name: &'static str, default: bool, set: fn(&mut Settings, bool)) -> Key {
    key(name, Kind::Flag { default, set })
}

const fn number(
    name: &'static str,
    default: u64,
    range: RangeInclusive<u64>,
    set: fn(&mut Settings, u64),
) -> Key {
    let kind = Kind::Number {
        default,
        range,
        memory: 0,
        set,
    };
    key(name, kind)
}

const fn word(name: &'static str, words: &'static [Word]) -> Key {
    key(name, Kind::Word { words })
}

const fn path(name: &'static str, set: fn(&mut Settings, PathBuf)) -> Key {
    key(name, Kind::Path { set })
}

impl Key {
    const fn variable(mut self, variable: &'static str) -> Self {
        self.variable = Some(variable);
        self
    }

    const fn live(mut self) -> Self {
        self.is_live = true;
        self
    }

    /// Each of this number may take so many bytes of memory.
    const fn each_taking(mut self, bytes: u64) -> Self {
        if let Kind::Number { memory, .. } = &mut self.kind {
            *memory = bytes;
        }
        self
    }
}

/// The setting of this name.
pub(super) fn named(name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.name == name)
}

/// The setting that a key of a section means, and whether this is its other spelling.
pub(super) fn find(section: &str, key: &str) -> Option<(&'static Key, bool)> {
    let written = format!("{section}.{key}");
    let other = OTHER_SPELLINGS.iter().find(|other| other.0 == written);
    match other {
        Some((_, name)) => named(name).map(|key| (key, true)),
        None => named(&written).map(|key| (key, false)),
    }
}

/// What would be right in place of a key that is not known there.
pub(super) fn suggestion(key: &str) -> String {
    let parts = |name: &'static str| name.split_once('.').unwrap_or(("", name));
    let known = KEYS.iter().map(|key| parts(key.name));
    if key == "profile" {
        return "belongs at the beginning of the file, before the first table".to_owned();
    }
    if let Some((section, _)) = known.clone().find(|known| known.1 == key) {
        return format!("belongs in [{section}]");
    }
    let likeness = |known: &(_, &str)| strsim::jaro_winkler(known.1, key);
    let nearest = known.max_by(|a, b| likeness(a).total_cmp(&likeness(b)));
    match nearest {
        Some((section, nearest)) => {
            format!("there is no such key; the nearest is {nearest} in [{section}]")
        }
        None => "there is no such key".to_owned(),
    }
}

/// What would be right in place of a table that is not known.
pub(super) fn suggested_section(name: &str) -> String {
    let sections = SECTIONS.map(|section| format!("[{section}]"));
    let likeness = |section: &&str| strsim::jaro_winkler(section, name);
    let nearest = SECTIONS
        .into_iter()
        .max_by(|a, b| likeness(a).total_cmp(&likeness(b)))
        .unwrap_or(FLAT_SECTION);
    format!(
        "there is no such table; the nearest is [{nearest}], and there are {}",
        sections.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_of_known_sections_and_no_two_are_the_same() {
        for (index, key) in KEYS.iter().enumerate() {
            let (section, _) = key.name.split_once('.').unwrap();
            assert!(SECTIONS.contains(&section), "{}", key.name);
            assert!(KEYS[..index].iter().all(|other| other.name != key.name));
        }
    }

    #[test]
    fn each_default_is_one_that_its_setting_takes() {
        for key in KEYS {
            match (&key.kind, key.kind.default()) {
                (Kind::Number { range, default, .. }, _) => assert!(range.contains(default)),
                (Kind::Path { .. } | Kind::Name { .. }, None) => {}
                (_, Some(_)) => {}
                (_, None) => panic!("{} has no default", key.name),
            }
        }
    }

    #[test]
    fn a_misspelled_key_gets_the_one_that_was_meant() {
        for (written, meant) in [
            ("max_timeot_ms", "max_timeout_ms in [execution]"),
            ("kill_grace", "kill_grace_ms in [execution]"),
            ("socket-mode", "socket_mode in [daemon]"),
            ("max_age", "max_age_secs in [history]"),
        ] {
            let suggestion = suggestion(written);
            assert!(suggestion.ends_with(meant), "{written}: {suggestion}");
        }
        assert_eq!(suggestion("durability"), "belongs in [store]");
        assert!(suggestion("").contains("no such key"));
        assert!(suggested_section("daemons").contains("nearest is [daemon]"));
    }
}
