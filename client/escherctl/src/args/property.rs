//! Properties of an execution, as those of systemd.resource-control(5) and systemd.kill(5).

use std::str::FromStr;

use escher_client::{KillMode, ResourceLimits};

use super::invalid_value::{InvalidValue, invalid};

/// Every property with an example.
pub(crate) const PROPERTIES: [(&str, &str); 4] = [
    ("MemoryMax", "MemoryMax=512M"),
    ("CPUQuota", "CPUQuota=150%"),
    ("TasksMax", "TasksMax=100"),
    ("KillMode", "KillMode=process"),
];

/// `-p`: one property; `None` stands for `infinity`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Property {
    /// In bytes.
    MemoryMax(Option<u64>),
    /// In percent of one CPU.
    CpuQuota(u32),
    TasksMax(Option<u64>),
    KillMode(KillMode),
}

impl FromStr for Property {
    type Err = InvalidValue;
    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let Some((name, value)) = text.split_once('=') else {
            return invalid(format!("expected NAME=VALUE, such as {}", examples()));
        };
        match name {
            "MemoryMax" => parse_memory(value).map(Property::MemoryMax),
            "CPUQuota" => parse_quota(value).map(Property::CpuQuota),
            "TasksMax" => parse_tasks(value).map(Property::TasksMax),
            "KillMode" => parse_kill_mode(value).map(Property::KillMode),
            unknown => invalid(format!(
                "unknown property `{unknown}`, did you mean `{}`? Supported are {}",
                most_similar(unknown),
                examples()
            )),
        }
    }
}

/// Combines properties. If one is repeated, the last counts.
pub(crate) fn combine(properties: &[Property]) -> (ResourceLimits, KillMode) {
    let (mut limits, mut kill_mode) = (ResourceLimits::default(), KillMode::default());
    for property in properties {
        match *property {
            Property::MemoryMax(bytes) => limits.memory_max = bytes,
            Property::CpuQuota(percent) => limits.cpu_quota = Some(percent),
            Property::TasksMax(tasks) => limits.tasks_max = tasks,
            Property::KillMode(mode) => kill_mode = mode,
        }
    }
    (limits, kill_mode)
}

fn examples() -> String {
    PROPERTIES.map(|(_, example)| example).join(", ")
}

fn most_similar(name: &str) -> &'static str {
    let name = name.to_ascii_lowercase();
    let similarity = |known: &&str| strsim::jaro_winkler(&known.to_ascii_lowercase(), &name);
    PROPERTIES
        .iter()
        .map(|(known, _)| *known)
        .max_by(|a, b| similarity(a).total_cmp(&similarity(b)))
        .unwrap_or_default()
}

const INFINITY: &str = "infinity";

/// Parses bytes; units are powers of 1024.
fn parse_memory(value: &str) -> Result<Option<u64>, InvalidValue> {
    const FORM: &str = "MemoryMax is a number of bytes, or of K, M, G or T (powers of 1024), or \
                        `infinity`";
    if value == INFINITY {
        return Ok(None);
    }
    if value.ends_with('%') {
        return invalid(format!("percentages are not supported; {FORM}"));
    }
    let (digits, shift) = match value.strip_suffix(['K', 'M', 'G', 'T']) {
        Some(digits) if value.ends_with('K') => (digits, 10),
        Some(digits) if value.ends_with('M') => (digits, 20),
        Some(digits) if value.ends_with('G') => (digits, 30),
        Some(digits) => (digits, 40),
        None => (value, 0),
    };
    match parse_digits(digits).and_then(|number| number.checked_mul(1 << shift)) {
        Some(0) => invalid(format!("must be greater than 0; {FORM}")),
        Some(bytes) => Ok(Some(bytes)),
        None => invalid(FORM),
    }
}

fn parse_quota(value: &str) -> Result<u32, InvalidValue> {
    const FORM: &str = "CPUQuota is a whole percentage of one CPU; 150% is one and a half";
    let percent = value.strip_suffix('%').and_then(parse_digits);
    match percent.map(u32::try_from) {
        Some(Ok(0)) => invalid(format!("must be greater than 0; {FORM}")),
        Some(Ok(percent)) => Ok(percent),
        Some(Err(_)) | None => invalid(FORM),
    }
}

fn parse_tasks(value: &str) -> Result<Option<u64>, InvalidValue> {
    const MOST_TASKS: u64 = ResourceLimits::MOST_TASKS;
    const FORM: &str = "TasksMax is a number of processes and threads, or `infinity`";
    if value == INFINITY {
        return Ok(None);
    }
    match parse_digits(value) {
        Some(0) => invalid(format!("must be greater than 0; {FORM}")),
        Some(tasks) if tasks > MOST_TASKS => {
            invalid(format!("must be at most {MOST_TASKS}; {FORM}"))
        }
        Some(tasks) => Ok(Some(tasks)),
        None => invalid(FORM),
    }
}

fn parse_kill_mode(value: &str) -> Result<KillMode, InvalidValue> {
    const FORM: &str = "KillMode is `control-group`, or `process` to leave other processes running \
                        when the main process has ended";
    KillMode::from_name(value).map_or_else(|| invalid(FORM), Ok)
}

/// Parses digits alone; `str::parse` would take a sign.
fn parse_digits(digits: &str) -> Option<u64> {
    let are_digits = digits.bytes().all(|byte| byte.is_ascii_digit());
    digits.parse().ok().filter(|_| are_digits)
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
            ("MemoryMax=5X", "of K, M, G or T"),
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
            ("MemoryHigh=1G", "MemoryMax"),
            ("CPUWeight=1", "CPUQuota"),
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
        let expected = ResourceLimits {
            tasks_max: Some(5),
            ..ResourceLimits::default()
        };
        assert_eq!(combine(&parsed), (expected, KillMode::Process));
        let (limits, kill_mode) = combine(&[]);
        assert!(limits.is_unlimited());
        assert_eq!(kill_mode, KillMode::ControlGroup);
    }
}
