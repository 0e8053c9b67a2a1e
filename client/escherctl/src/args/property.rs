//! Properties of an execution, as those of systemd.resource-control(5), systemd.exec(5) and
//! systemd.kill(5).

use std::collections::BTreeMap;
use std::str::FromStr;

use escher_client::{KillMode, ProcessLimits, ResourceLimits, Rlimit, RlimitResource};

use super::invalid_value::{InvalidValue, invalid};
use super::property_value::{
    parse_kill_mode, parse_memory, parse_number, parse_quota, parse_rlimit, parse_tasks,
};

/// Every property with an example.
pub(crate) const PROPERTIES: [(&str, &str); 25] = [
    ("MemoryMax", "MemoryMax=512M"),
    ("MemoryHigh", "MemoryHigh=400M"),
    ("CPUQuota", "CPUQuota=150%"),
    ("CPUWeight", "CPUWeight=50"),
    ("IOWeight", "IOWeight=50"),
    ("TasksMax", "TasksMax=100"),
    ("KillMode", "KillMode=process"),
    ("Nice", "Nice=10"),
    ("OOMScoreAdjust", "OOMScoreAdjust=500"),
    ("LimitCPU", "LimitCPU=10min"),
    ("LimitFSIZE", "LimitFSIZE=1G"),
    ("LimitDATA", "LimitDATA=1G"),
    ("LimitSTACK", "LimitSTACK=8M"),
    ("LimitCORE", "LimitCORE=infinity"),
    ("LimitRSS", "LimitRSS=1G"),
    ("LimitNOFILE", "LimitNOFILE=1024:4096"),
    ("LimitAS", "LimitAS=4G"),
    ("LimitNPROC", "LimitNPROC=200"),
    ("LimitMEMLOCK", "LimitMEMLOCK=64K"),
    ("LimitLOCKS", "LimitLOCKS=100"),
    ("LimitSIGPENDING", "LimitSIGPENDING=100"),
    ("LimitMSGQUEUE", "LimitMSGQUEUE=64K"),
    ("LimitNICE", "LimitNICE=+5"),
    ("LimitRTPRIO", "LimitRTPRIO=0"),
    ("LimitRTTIME", "LimitRTTIME=500ms"),
];

/// `-p`: one property; `None` stands for `infinity`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Property {
    /// In bytes.
    MemoryMax(Option<u64>),
    /// In bytes.
    MemoryHigh(Option<u64>),
    /// In percent of one CPU.
    CpuQuota(u32),
    CpuWeight(u32),
    IoWeight(u32),
    TasksMax(Option<u64>),
    KillMode(KillMode),
    Nice(i32),
    OomScoreAdjust(i32),
    /// The properties that begin with `Limit`.
    Rlimit(Rlimit),
}

impl FromStr for Property {
    type Err = InvalidValue;
    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let Some((name, value)) = text.split_once('=') else {
            return invalid(format!("expected NAME=VALUE, such as {}", examples()));
        };
        match name {
            "MemoryMax" => parse_memory(name, value).map(Property::MemoryMax),
            "MemoryHigh" => parse_memory(name, value).map(Property::MemoryHigh),
            "CPUQuota" => parse_quota(value).map(Property::CpuQuota),
            "CPUWeight" => {
                parse_number(name, value, ResourceLimits::WEIGHT).map(Property::CpuWeight)
            }
            "IOWeight" => parse_number(name, value, ResourceLimits::WEIGHT).map(Property::IoWeight),
            "TasksMax" => parse_tasks(value).map(Property::TasksMax),
            "KillMode" => parse_kill_mode(value).map(Property::KillMode),
            "Nice" => parse_number(name, value, ProcessLimits::NICE).map(Property::Nice),
            "OOMScoreAdjust" => parse_number(name, value, ProcessLimits::OOM_SCORE_ADJUST)
                .map(Property::OomScoreAdjust),
            other => match resource_of(other) {
                Some(resource) => parse_rlimit(resource, value).map(Property::Rlimit),
                None => {
                    let meant = most_similar(other)
                        .map(|known| format!(", did you mean `{known}`?"))
                        .unwrap_or(".".to_owned());
                    let examples = examples();
                    invalid(format!(
                        "unknown property `{other}`{meant} Supported are {examples}"
                    ))
                }
            },
        }
    }
}

fn resource_of(name: &str) -> Option<RlimitResource> {
    RlimitResource::from_name(name.strip_prefix("Limit")?)
}

/// What properties say together.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Properties {
    pub(crate) limits: ResourceLimits,
    pub(crate) process: ProcessLimits,
    pub(crate) kill_mode: KillMode,
}

/// Combines properties. If one is repeated, the last counts. Their order does not, so that the same ones
/// make the same request.
pub(crate) fn combine(properties: &[Property]) -> Properties {
    let mut combined = Properties::default();
    let Properties {
        limits,
        process,
        kill_mode,
    } = &mut combined;
    let mut rlimits = BTreeMap::new();
    for property in properties {
        match *property {
            Property::MemoryMax(bytes) => limits.memory_max = bytes,
            Property::MemoryHigh(bytes) => limits.memory_high = bytes,
            Property::CpuQuota(percent) => limits.cpu_quota = Some(percent),
            Property::CpuWeight(weight) => limits.cpu_weight = Some(weight),
            Property::IoWeight(weight) => limits.io_weight = Some(weight),
            Property::TasksMax(tasks) => limits.tasks_max = tasks,
            Property::KillMode(mode) => *kill_mode = mode,
            Property::Nice(value) => process.nice = Some(value),
            Property::OomScoreAdjust(score) => process.oom_score_adjust = Some(score),
            Property::Rlimit(limit) => drop(rlimits.insert(limit.resource, limit)),
        }
    }
    process.rlimits = rlimits.into_values().collect();
    combined
}

fn examples() -> String {
    PROPERTIES.map(|(_, example)| example).join(", ")
}

/// Least similarity of a name to a property that may have been meant, from 0 to 1.
const MIN_SIMILARITY: f64 = 0.7;

fn most_similar(name: &str) -> Option<&'static str> {
    let name = name.to_ascii_lowercase();
    let similarity = |known: &str| strsim::jaro_winkler(&known.to_ascii_lowercase(), &name);
    PROPERTIES
        .iter()
        .map(|(known, _)| (*known, similarity(known)))
        .filter(|(_, similarity)| *similarity >= MIN_SIMILARITY)
        .max_by(|(_, a), (_, b)| a.total_cmp(b))
        .map(|(known, _)| known)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_the_values_of_systemd() {
        for (text, expected) in [
            ("MemoryMax=4096", Property::MemoryMax(Some(4096))),
            ("MemoryMax=1K", Property::MemoryMax(Some(1 << 10))),
            ("MemoryMax=512M", Property::MemoryMax(Some(512 << 20))),
            ("MemoryMax=2G", Property::MemoryMax(Some(2 << 30))),
            ("MemoryMax=1T", Property::MemoryMax(Some(1 << 40))),
            ("MemoryMax=infinity", Property::MemoryMax(None)),
            ("CPUQuota=150%", Property::CpuQuota(150)),
            ("TasksMax=10", Property::TasksMax(Some(10))),
            ("TasksMax=4194304", Property::TasksMax(Some(4_194_304))),
            ("TasksMax=infinity", Property::TasksMax(None)),
            ("MemoryHigh=1P", Property::MemoryHigh(Some(1 << 50))),
            ("MemoryHigh=infinity", Property::MemoryHigh(None)),
            ("CPUWeight=1", Property::CpuWeight(1)),
            ("IOWeight=10000", Property::IoWeight(10_000)),
            ("Nice=-20", Property::Nice(-20)),
            ("Nice=+19", Property::Nice(19)),
            ("OOMScoreAdjust=-1000", Property::OomScoreAdjust(-1000)),
            ("KillMode=process", Property::KillMode(KillMode::Process)),
            (
                "KillMode=control-group",
                Property::KillMode(KillMode::ControlGroup),
            ),
        ] {
            assert_eq!(text.parse(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn an_invalid_value_is_answered_with_the_valid_form() {
        for (text, message) in [
            ("MemoryMax=50%", "percentages are not supported"),
            ("MemoryMax=", "a number of bytes"),
            ("MemoryMax=5X", "of K, M, G, T, P or E"),
            ("MemoryMax=-1", "a number of bytes"),
            ("MemoryMax=+1", "a number of bytes"),
            ("MemoryMax=1.5G", "a number of bytes"),
            ("MemoryMax=0", "greater than 0"),
            ("MemoryMax=0K", "greater than 0"),
            ("MemoryMax=99999999T", "a number of bytes"),
            ("CPUQuota=1.5%", "a whole percentage"),
            ("CPUQuota=150", "150%"),
            ("CPUQuota=0%", "greater than 0"),
            ("CPUQuota=infinity", "percentage"),
            ("CPUQuota=4294967296%", "percentage"),
            ("TasksMax=0", "greater than 0"),
            ("TasksMax=4194305", "at most 4194304"),
            ("TasksMax=10%", "a number of processes"),
            ("TasksMax", "NAME=VALUE"),
            ("MemoryHigh=0", "greater than 0; MemoryHigh"),
            ("CPUWeight=0", "CPUWeight is a whole number from 1 to 10000"),
            (
                "IOWeight=10001",
                "IOWeight is a whole number from 1 to 10000",
            ),
            ("Nice=20", "Nice is a whole number from -20 to 19"),
            ("Nice=", "from -20 to 19"),
            ("OOMScoreAdjust=1001", "from -1000 to 1000"),
            ("LimitNOFILE=x", "LimitNOFILE is a whole number"),
            ("KillMode=mixed", "or `process`"),
            ("KillMode=", "or `process`"),
        ] {
            let error = text.parse::<Property>().unwrap_err().to_string();
            assert!(error.contains(message), "{text}: {error}");
        }
    }

    #[test]
    fn an_unknown_property_is_answered_with_the_most_similar_and_all() {
        for (text, similar) in [
            ("memorymax=1G", "MemoryMax"),
            ("MemoryMin=1G", "MemoryMax"),
            ("LimitFiles=1", "LimitNOFILE"),
            ("Limitnofile=1", "LimitNOFILE"),
            ("TaskMax=1", "TasksMax"),
        ] {
            let error = text.parse::<Property>().unwrap_err().to_string();
            assert!(
                error.contains(&format!("did you mean `{similar}`?")),
                "{error}"
            );
            for (name, _) in PROPERTIES {
                assert!(error.contains(name), "{error}");
            }
        }
        let error = "Foo=1".parse::<Property>().unwrap_err().to_string();
        assert!(
            error.starts_with("unknown property `Foo`. Supported are MemoryMax"),
            "{error}"
        );
    }

    #[test]
    fn the_last_of_repeated_properties_counts() {
        let parsed = [
            "MemoryMax=1M",
            "TasksMax=5",
            "KillMode=process",
            "MemoryMax=infinity",
        ]
        .map(|text| text.parse().unwrap());
        let expected = Properties {
            limits: ResourceLimits {
                tasks_max: Some(5),
                ..ResourceLimits::default()
            },
            kill_mode: KillMode::Process,
            ..Properties::default()
        };
        assert_eq!(combine(&parsed), expected);
        assert_eq!(combine(&[]), Properties::default());
    }

    #[test]
    fn the_same_limits_in_another_order_are_the_same_request() {
        let combined = |texts: [&str; 4]| combine(&texts.map(|text| text.parse().unwrap()));
        let one = combined(["LimitNOFILE=7", "Nice=3", "LimitCPU=1", "LimitNOFILE=8"]);
        let other = combined(["LimitCPU=1", "LimitNOFILE=8", "Nice=2", "Nice=3"]);
        assert_eq!(one, other);
        let limits: Vec<_> = one.process.rlimits.iter().map(|limit| limit.soft).collect();
        assert_eq!(limits, [1, 8]);
    }

    #[test]
    fn every_example_is_accepted_and_every_limit_has_one() {
        for (name, example) in PROPERTIES {
            assert!(example.starts_with(&format!("{name}=")), "{example}");
            assert!(example.parse::<Property>().is_ok(), "{example}");
        }
        for (_, name) in RlimitResource::TABLE {
            let name = format!("Limit{name}");
            assert!(PROPERTIES.iter().any(|row| row.0 == name), "{name}");
        }
    }
}
