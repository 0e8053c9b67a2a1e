//! What a command may use, in the words of systemd.resource-control(5).

use std::str::FromStr;

use escher_client::ResourceLimits;

use super::values::{BadValue, bad};

/// Every property with an example.
pub(crate) const PROPERTIES: [(&str, &str); 3] = [
    ("MemoryMax", "MemoryMax=512M"),
    ("CPUQuota", "CPUQuota=150%"),
    ("TasksMax", "TasksMax=100"),
];

/// One limit; `None`: none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Property {
    /// In bytes.
    MemoryMax(Option<u64>),
    /// In percent of one CPU.
    CpuQuota(u32),
    TasksMax(Option<u64>),
}

impl FromStr for Property {
    type Err = BadValue;
    fn from_str(text: &str) -> Result<Self, BadValue> {
        let Some((name, value)) = text.split_once('=') else {
            return bad(format!("a property is NAME=VALUE; {}", known()));
        };
        match name {
            "MemoryMax" => memory(value).map(Property::MemoryMax),
            "CPUQuota" => quota(value).map(Property::CpuQuota),
            "TasksMax" => tasks(value).map(Property::TasksMax),
            other => bad(format!(
                "there is no property {other}; the nearest is {}; {}",
                nearest(other),
                known()
            )),
        }
    }
}

/// All limits together. Of one that is given twice the last counts.
pub(crate) fn limits(properties: &[Property]) -> ResourceLimits {
    let mut limits = ResourceLimits::default();
    for property in properties {
        match *property {
            Property::MemoryMax(bytes) => limits.memory_max = bytes,
            Property::CpuQuota(percent) => limits.cpu_quota = Some(percent),
            Property::TasksMax(tasks) => limits.tasks_max = tasks,
        }
    }
    limits
}

fn known() -> String {
    let examples = PROPERTIES.map(|row| row.1).join(", ");
    format!("there are {examples}")
}

fn nearest(name: &str) -> &'static str {
    let name = name.to_ascii_lowercase();
    let likeness = |known: &&str| strsim::jaro_winkler(&known.to_ascii_lowercase(), &name);
    PROPERTIES
        .iter()
        .map(|row| row.0)
        .max_by(|a, b| likeness(a).total_cmp(&likeness(b)))
        .unwrap_or_default()
}

const INFINITY: &str = "infinity";

/// Bytes; units are powers of 1024.
fn memory(value: &str) -> Result<Option<u64>, BadValue> {
    const WORDS: &str =
        "MemoryMax is a number of bytes, with K, M, G or T for powers of 1024, or infinity: 512M";
    if value == INFINITY {
        return Ok(None);
    }
    if value.ends_with('%') {
        return bad(format!(
            "a share of the host's memory cannot be given; {WORDS}"
        ));
    }
    let (digits, shift) = match value.strip_suffix(['K', 'M', 'G', 'T']) {
        Some(digits) if value.ends_with('K') => (digits, 10),
        Some(digits) if value.ends_with('M') => (digits, 20),
        Some(digits) if value.ends_with('G') => (digits, 30),
        Some(digits) => (digits, 40),
        None => (value, 0),
    };
    match number(digits).and_then(|number| number.checked_mul(1 << shift)) {
        Some(0) => bad(format!("no command can run within no memory; {WORDS}")),
        Some(bytes) => Ok(Some(bytes)),
        None => bad(WORDS),
    }
}

fn quota(value: &str) -> Result<u32, BadValue> {
    const WORDS: &str = "CPUQuota is a whole number of percent of one CPU: 150% is one and a half";
    let percent = value.strip_suffix('%').and_then(number);
    match percent.map(u32::try_from) {
        Some(Ok(0)) => bad(format!("no command can run within no time; {WORDS}")),
        Some(Ok(percent)) => Ok(percent),
        Some(Err(_)) | None => bad(WORDS),
    }
}

fn tasks(value: &str) -> Result<Option<u64>, BadValue> {
    const MOST_TASKS: u64 = ResourceLimits::MOST_TASKS;
    const WORDS: &str = "TasksMax is a number of processes and threads, or infinity: 100";
    if value == INFINITY {
        return Ok(None);
    }
    match number(value) {
        Some(0) => bad(format!("a command is a process already; {WORDS}")),
        Some(tasks) if tasks > MOST_TASKS => bad(format!("the most is {MOST_TASKS}; {WORDS}")),
        Some(tasks) => Ok(Some(tasks)),
        None => bad(WORDS),
    }
}

/// Digits alone: no sign.
fn number(digits: &str) -> Option<u64> {
    let are_digits = digits.bytes().all(|byte| byte.is_ascii_digit());
    digits.parse().ok().filter(|_| are_digits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_as_systemd_has_them() {
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
        ] {
            assert_eq!(text.parse(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_what_would() {
        for (text, words) in [
            ("MemoryMax=50%", "a share of the host's memory"),
            ("MemoryMax=", "512M"),
            ("MemoryMax=5X", "K, M, G or T"),
            ("MemoryMax=-1", "a number of bytes"),
            ("MemoryMax=+1", "a number of bytes"),
            ("MemoryMax=1.5G", "a number of bytes"),
            ("MemoryMax=0", "within no memory"),
            ("MemoryMax=0K", "within no memory"),
            ("MemoryMax=99999999T", "a number of bytes"),
            ("CPUQuota=1.5%", "a whole number of percent"),
            ("CPUQuota=150", "150%"),
            ("CPUQuota=0%", "within no time"),
            ("CPUQuota=infinity", "percent"),
            ("CPUQuota=4294967296%", "percent"),
            ("TasksMax=0", "a process already"),
            ("TasksMax=4194305", "the most is 4194304"),
            ("TasksMax=10%", "a number of processes"),
            ("TasksMax", "NAME=VALUE"),
        ] {
            let error = text.parse::<Property>().unwrap_err().to_string();
            assert!(error.contains(words), "{text}: {error}");
        }
    }

    #[test]
    fn an_unknown_property_is_answered_with_the_nearest_and_all() {
        for (text, nearest) in [
            ("memorymax=1G", "MemoryMax"),
            ("MemoryHigh=1G", "MemoryMax"),
            ("CPUWeight=1", "CPUQuota"),
            ("TaskMax=1", "TasksMax"),
        ] {
            let error = text.parse::<Property>().unwrap_err().to_string();
            assert!(
                error.contains(&format!("the nearest is {nearest};")),
                "{error}"
            );
            for (name, _) in PROPERTIES {
                assert!(error.contains(name), "{error}");
            }
        }
    }

    #[test]
    fn the_last_of_several_counts() {
        let parsed =
            ["MemoryMax=1M", "TasksMax=5", "MemoryMax=infinity"].map(|text| text.parse().unwrap());
        let expected = ResourceLimits {
            tasks_max: Some(5),
            ..ResourceLimits::default()
        };
        assert_eq!(limits(&parsed), expected);
        assert!(limits(&[]).is_unlimited());
    }
}
