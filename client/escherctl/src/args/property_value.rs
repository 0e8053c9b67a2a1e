//! Values of properties, as systemd takes them.

use std::ops::RangeInclusive;
use std::str::FromStr;

use escher_client::{KillMode, ResourceLimits, Rlimit, RlimitResource, RlimitUnit};

use super::duration::microseconds;
use super::invalid_value::{InvalidValue, invalid};

const INFINITY: &str = "infinity";

/// Parses bytes; units are powers of 1024.
pub(super) fn parse_memory(name: &str, value: &str) -> Result<Option<u64>, InvalidValue> {
    let form = format!(
        "{name} is a number of bytes, or of K, M, G, T, P or E (powers of 1024), or `infinity`"
    );
    if value == INFINITY {
        return Ok(None);
    }
    if value.ends_with('%') {
        return invalid(format!("percentages are not supported; {form}"));
    }
    match parse_bytes(value) {
        Some(0) => invalid(format!("must be greater than 0; {form}")),
        Some(bytes) => Ok(Some(bytes)),
        None => invalid(form),
    }
}

/// The suffixes of a number of bytes, with the powers of two that they stand for.
pub(crate) const BYTE_UNITS: [(char, u32); 6] = [
    ('E', 60),
    ('P', 50),
    ('T', 40),
    ('G', 30),
    ('M', 20),
    ('K', 10),
];

fn parse_bytes(value: &str) -> Option<u64> {
    let unit = BYTE_UNITS.iter().find(|(unit, _)| value.ends_with(*unit));
    let (digits, shift) = match unit {
        Some((unit, shift)) => (value.strip_suffix(*unit)?, *shift),
        None => (value, 0),
    };
    parse_digits::<u64>(digits)?.checked_mul(1 << shift)
}

pub(super) fn parse_quota(value: &str) -> Result<u32, InvalidValue> {
    const FORM: &str = "CPUQuota is a whole percentage of one CPU; 150% is one and a half";
    match value.strip_suffix('%').and_then(parse_digits) {
        Some(0) => invalid(format!("must be greater than 0; {FORM}")),
        Some(percent) => Ok(percent),
        None => invalid(FORM),
    }
}

pub(super) fn parse_tasks(value: &str) -> Result<Option<u64>, InvalidValue> {
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

/// Parses a whole number in `range`.
pub(super) fn parse_number<N: FromStr + PartialOrd + ToString>(
    name: &str,
    value: &str,
    range: RangeInclusive<N>,
) -> Result<N, InvalidValue> {
    match value.parse() {
        Ok(number) if range.contains(&number) => Ok(number),
        _ => invalid(format!(
            "{name} is a whole number from {} to {}",
            range.start().to_string(),
            range.end().to_string()
        )),
    }
}

pub(super) fn parse_kill_mode(value: &str) -> Result<KillMode, InvalidValue> {
    const FORM: &str = "KillMode is `control-group`, or `process` to leave other processes running \
                        when the main process has ended";
    KillMode::from_name(value).map_or_else(|| invalid(FORM), Ok)
}

/// Parses a limit of setrlimit(2): one value, or `soft:hard`.
pub(super) fn parse_rlimit(resource: RlimitResource, value: &str) -> Result<Rlimit, InvalidValue> {
    let (soft, hard) = value.split_once(':').unwrap_or((value, value));
    let parsed = |text| parse_limit(resource.unit(), text);
    match (parsed(soft), parsed(hard)) {
        (Some(soft), Some(hard)) if soft > hard => {
            invalid("the soft limit (in front of the colon) is over the hard limit")
        }
        (Some(soft), Some(hard)) => Ok(Rlimit {
            resource,
            soft,
            hard,
        }),
        _ => {
            let form = match resource.unit() {
                RlimitUnit::Count => "a whole number",
                RlimitUnit::Bytes => "a number of bytes, or of K, M, G, T, P or E (powers of 1024)",
                RlimitUnit::Seconds => "a number of seconds, or a time such as 10min",
                RlimitUnit::Microseconds => "a number of microseconds, or a time such as 500ms",
                RlimitUnit::Nice => {
                    "a nice value with its sign (+5, -10), or a whole number from 0 to 40"
                }
            };
            let name = resource.name();
            invalid(format!(
                "Limit{name} is {form}, or `infinity`; or two of them, soft:hard"
            ))
        }
    }
}

fn parse_limit(unit: RlimitUnit, text: &str) -> Option<u64> {
    if text == INFINITY {
        return Some(Rlimit::INFINITY);
    }
    let number = match unit {
        RlimitUnit::Count => parse_digits(text),
        RlimitUnit::Bytes => parse_bytes(text),
        RlimitUnit::Seconds => parse_digits(text)
            .or_else(|| microseconds(text).map(|time| time.div_ceil(MICROSECONDS_PER_SECOND))),
        RlimitUnit::Microseconds => parse_digits(text).or_else(|| microseconds(text)),
        RlimitUnit::Nice => parse_nice_limit(text),
    };
    number.filter(|number| *number != Rlimit::INFINITY)
}

const MICROSECONDS_PER_SECOND: u64 = 1_000_000;

/// Parses a nice value with its sign, or the limit that stands for it: 20 minus the nice value.
fn parse_nice_limit(text: &str) -> Option<u64> {
    if text.starts_with(['+', '-']) {
        let nice: i32 = text.parse().ok()?;
        let limit = 20 - Some(nice).filter(|nice| (-20..=19).contains(nice))?;
        u64::try_from(limit).ok()
    } else {
        parse_digits(text).filter(|limit| *limit <= 40)
    }
}

/// Parses digits alone; `str::parse` would take a sign.
fn parse_digits<N: FromStr>(digits: &str) -> Option<N> {
    let are_digits = digits.bytes().all(|byte| byte.is_ascii_digit());
    digits.parse().ok().filter(|_| are_digits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_read_as_systemd_reads_them() {
        use RlimitResource as Resource;
        let infinity = Rlimit::INFINITY;
        for (resource, text, soft, hard) in [
            (Resource::OpenFiles, "4096", 4096, 4096),
            (Resource::OpenFiles, "1024:4096", 1024, 4096),
            (Resource::OpenFiles, "0:infinity", 0, infinity),
            (Resource::Core, "infinity", infinity, infinity),
            (Resource::Core, "0", 0, 0),
            (Resource::Stack, "8M:1G", 8 << 20, 1 << 30),
            (Resource::AddressSpace, "1E", 1 << 60, 1 << 60),
            (Resource::Cpu, "90", 90, 90),
            (Resource::Cpu, "1500ms", 2, 2),
            (Resource::Cpu, "1h 30min", 5400, 5400),
            (Resource::Cpu, "1min:2min", 60, 120),
            (Resource::RealtimeTime, "500", 500, 500),
            (Resource::RealtimeTime, "500ms", 500_000, 500_000),
            (Resource::Nice, "+5", 15, 15),
            (Resource::Nice, "-20", 40, 40),
            (Resource::Nice, "+19:-20", 1, 40),
            (Resource::Nice, "40", 40, 40),
            (Resource::RealtimePriority, "99", 99, 99),
        ] {
            let expected = Rlimit {
                resource,
                soft,
                hard,
            };
            assert_eq!(parse_rlimit(resource, text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn an_invalid_limit_is_answered_with_the_valid_form() {
        use RlimitResource as Resource;
        for (resource, text, form) in [
            (Resource::OpenFiles, "", "LimitNOFILE is a whole number"),
            (Resource::OpenFiles, "-1", "a whole number"),
            (Resource::OpenFiles, "1K", "a whole number"),
            (Resource::OpenFiles, "1:2:3", "soft:hard"),
            (Resource::OpenFiles, "1:", "soft:hard"),
            (Resource::OpenFiles, "2:1", "over the hard limit"),
            (Resource::OpenFiles, "infinity:1", "over the hard limit"),
            (
                Resource::OpenFiles,
                "18446744073709551615",
                "a whole number",
            ),
            (Resource::Core, "1X", "LimitCORE is a number of bytes"),
            (Resource::Core, "16E", "a number of bytes"),
            (Resource::Core, "1.5G", "a number of bytes"),
            (Resource::Cpu, "10 apples", "such as 10min"),
            (Resource::Cpu, "-1s", "such as 10min"),
            (Resource::RealtimeTime, "x", "microseconds"),
            (Resource::Nice, "41", "0 to 40"),
            (Resource::Nice, "+20", "0 to 40"),
            (Resource::Nice, "-21", "0 to 40"),
        ] {
            let error = parse_rlimit(resource, text).unwrap_err().to_string();
            assert!(error.contains(form), "{text}: {error}");
        }
    }
}
