//! Comparison of executions with the conditions of a selection.

use std::collections::BTreeMap;

use escher_protocol::execution::LISTED_COMMAND_BYTES;
use escher_protocol::message::{Property, Selection};
use escher_protocol::{Command, ExecutionRecord, Exit, Status, Text, Timestamp, User};

use super::Execution;
use super::pattern::Pattern;
use super::record::shorten;

/// Bytes of patterns, and conditions, that take about as long to compare as a row takes to read.
const PATTERN_BYTES_PER_ROW: usize = 16;
const CONDITIONS_PER_ROW: usize = 16;

/// A selection, prepared for comparison with many executions.
#[derive(Debug)]
pub struct Matcher<'a> {
    statuses: Vec<Status>,
    exit: Alternatives<u32>,
    user: Alternatives<Pattern<'a>>,
    name: Alternatives<Pattern<'a>>,
    command: Alternatives<Pattern<'a>>,
    /// By key.
    labels: BTreeMap<&'a str, Alternatives<Pattern<'a>>>,
    since: Option<Timestamp>,
    until: Option<Timestamp>,
    effort: usize,
}

/// The conditions on one property.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Alternatives<T> {
    /// One of these must match, if there are any.
    wanted: Vec<T>,
    /// None of these may match.
    unwanted: Vec<T>,
}

impl<T> Default for Alternatives<T> {
    fn default() -> Self {
        Alternatives {
            wanted: Vec::new(),
            unwanted: Vec::new(),
        }
    }
}

impl<T> Alternatives<T> {
    fn add(&mut self, value: T, is_negated: bool) {
        if is_negated {
            self.unwanted.push(value);
        } else {
            self.wanted.push(value);
        }
    }

    fn is_empty(&self) -> bool {
        self.wanted.is_empty() && self.unwanted.is_empty()
    }

    fn are_met_by(&self, mut matches: impl FnMut(&T) -> bool) -> bool {
        (self.wanted.is_empty() || self.wanted.iter().any(&mut matches))
            && !self.unwanted.iter().any(&mut matches)
    }
}

impl<'a> Alternatives<Pattern<'a>> {
    /// Returns the texts of which one is demanded; `None` if others may match as well.
    fn literals(&self) -> Option<Vec<&'a str>> {
        if self.wanted.is_empty() {
            return None;
        }
        self.wanted
            .iter()
            .map(|pattern| pattern.literal())
            .collect()
    }

    fn are_met_by_text(&self, text: Option<&str>) -> bool {
        self.are_met_by(|pattern| text.is_some_and(|text| pattern.matches(text)))
    }
}

impl<'a> Matcher<'a> {
    /// Prepares a selection.
    #[must_use]
    pub fn new(selection: &'a Selection) -> Self {
        let conditions = &selection.filter.conditions;
        let mut status = Alternatives::default();
        let mut matcher = Matcher {
            statuses: Vec::new(),
            exit: Alternatives::default(),
            user: Alternatives::default(),
            name: Alternatives::default(),
            command: Alternatives::default(),
            labels: BTreeMap::new(),
            since: selection.since,
            until: selection.until,
            effort: conditions.len() / CONDITIONS_PER_ROW,
        };
        let mut pattern_bytes = 0;
        for condition in conditions {
            let mut pattern = |text: &'a Text| {
                let pattern = Pattern::new(text);
                if pattern.literal().is_none() {
                    pattern_bytes += pattern.len();
                }
                pattern
            };
            let is_negated = condition.is_negated;
            match &condition.property {
                Property::Status(value) => status.add(*value, is_negated),
                Property::Exit(value) => matcher.exit.add(*value, is_negated),
                Property::User(user) => matcher.user.add(pattern(user), is_negated),
                Property::Name(name) => matcher.name.add(pattern(name), is_negated),
                Property::Command(words) => matcher.command.add(pattern(words), is_negated),
                Property::Label(key, value) => {
                    let label = matcher.labels.entry(key.as_str()).or_default();
                    label.add(pattern(value), is_negated);
                }
            }
        }
        let has_end = !status.wanted.is_empty() || !matcher.exit.is_empty();
        let is_listed = |of: &Status| selection.filter.all || has_end || !of.is_finished();
        let states = Status::TABLE.map(|row| row.0).into_iter();
        matcher.statuses = states
            .filter(|of| is_listed(of) && status.are_met_by(|value| value == of))
            .collect();
        matcher.effort += pattern_bytes / PATTERN_BYTES_PER_ROW;
        matcher
    }

    /// Returns the states that match, in the order of [`Status::TABLE`].
    #[must_use]
    pub fn statuses(&self) -> &[Status] {
        &self.statuses
    }

    /// Returns how many rows could be read in the time that a comparison takes beyond that of a simple one.
    #[must_use]
    pub fn effort(&self) -> usize {
        self.effort
    }

    /// Returns whether a comparison needs what is in the record alone: the command, the exit status.
    #[must_use]
    pub fn needs_record(&self) -> bool {
        !self.exit.is_empty() || !self.command.is_empty()
    }

    /// Returns the only names that match; `None` if there may be others.
    #[must_use]
    pub fn exact_names(&self) -> Option<Vec<&'a str>> {
        self.name.literals()
    }

    /// Returns the only users that match, as login names or uids; `None` if there may be others.
    #[must_use]
    pub fn exact_users(&self) -> Option<Vec<&'a str>> {
        self.user.literals()
    }

    /// Returns labels that must be there: each key with the only values that match.
    pub fn exact_labels(&self) -> impl Iterator<Item = (&'a str, Vec<&'a str>)> {
        let labels = self.labels.iter();
        labels.filter_map(|(key, values)| Some((*key, values.literals()?)))
    }

    /// Returns the users in conditions that are neither a pattern nor a uid.
    pub fn login_names(&self) -> impl Iterator<Item = &'a str> {
        let patterns = self.user.wanted.iter().chain(&self.user.unwanted);
        let names = patterns.filter_map(|pattern| pattern.literal());
        names.filter(|name| parse_uid(name).is_none())
    }

    /// Returns whether there are conditions on the name beyond [`Matcher::exact_names`].
    #[must_use]
    pub fn has_name_conditions(&self, beyond_exact: bool) -> bool {
        has_conditions(&self.name, beyond_exact)
    }

    /// Returns whether there are conditions on the user beyond [`Matcher::exact_users`].
    #[must_use]
    pub fn has_user_conditions(&self, beyond_exact: bool) -> bool {
        has_conditions(&self.user, beyond_exact)
    }

    /// Returns whether there are conditions on labels beyond the exact values of the one with key `exact`.
    #[must_use]
    pub fn has_label_conditions(&self, exact: Option<&str>) -> bool {
        let mut labels = self.labels.iter();
        labels.any(|(key, values)| has_conditions(values, exact == Some(*key)))
    }

    /// Returns whether there are conditions on the time of submission.
    #[must_use]
    pub fn has_time_conditions(&self) -> bool {
        self.since.is_some() || self.until.is_some()
    }

    /// Returns whether this name, or that there is none, meets the conditions.
    #[must_use]
    pub fn matches_name(&self, name: Option<&str>) -> bool {
        self.name.are_met_by_text(name)
    }

    /// Returns whether this user meets the conditions.
    #[must_use]
    pub fn matches_user(&self, name: Option<&str>, uid: u32) -> bool {
        self.user.are_met_by(|pattern| {
            name.is_some_and(|name| pattern.matches(name))
                || pattern.literal().and_then(parse_uid) == Some(uid)
        })
    }

    /// Returns whether this time of submission meets the conditions.
    #[must_use]
    pub fn matches_time(&self, submitted_at: Timestamp) -> bool {
        self.since.is_none_or(|since| submitted_at >= since)
            && self.until.is_none_or(|until| submitted_at < until)
    }

    /// Returns whether these labels, whose keys are unique, meet the conditions.
    pub fn matches_labels<K: AsRef<str>, V: AsRef<str>>(
        &self,
        labels: impl IntoIterator<Item = (K, V)>,
    ) -> bool {
        if self.labels.is_empty() {
            return true;
        }
        let mut missing = self.labels.values();
        let demanded = missing.by_ref().filter(|values| !values.wanted.is_empty());
        let mut missing = demanded.count();
        for (key, value) in labels {
            if let Some(values) = self.labels.get(key.as_ref()) {
                if !values.are_met_by_text(Some(value.as_ref())) {
                    return false;
                }
                missing -= usize::from(!values.wanted.is_empty());
            }
        }
        missing == 0
    }

    fn matches_end(&self, exit: Option<Exit>) -> bool {
        let status = match exit {
            Some(Exit::Code(code)) => u32::try_from(code).ok(),
            Some(Exit::Signal { signal, .. }) => u32::try_from(signal).ok().map(|n| 128 + n),
            _ => None,
        };
        self.exit.is_empty()
            || status.is_some_and(|status| self.exit.are_met_by(|value| *value == status))
    }

    fn matches_command(&self, command: &Command) -> bool {
        if self.command.is_empty() {
            return true;
        }
        let argv = shorten(command, LISTED_COMMAND_BYTES).0.to_argv();
        let words: Vec<_> = argv
            .iter()
            .map(|word| String::from_utf8_lossy(word))
            .collect();
        self.command.are_met_by_text(Some(&words.join(" ")))
    }

    /// Returns whether an execution matches.
    #[must_use]
    pub fn matches(&self, execution: &Execution) -> bool {
        let submission = &execution.submission;
        let end = execution.state.final_state();
        self.matches_properties(&Properties {
            status: execution.state.status(),
            submitted_at: submission.submitted_at,
            name: submission.request.name.as_ref(),
            user: &submission.account.user,
            labels: &submission.request.labels,
            exit: end.map(|end| end.outcome.exit),
            command: &submission.request.command,
        })
    }

    /// Returns whether the execution with this record matches.
    #[must_use]
    pub fn matches_record(&self, record: &ExecutionRecord) -> bool {
        self.matches_properties(&Properties {
            status: record.status,
            submitted_at: record.submitted_at,
            name: record.name.as_ref(),
            user: &record.user,
            labels: &record.labels,
            exit: record.outcome.as_ref().map(|outcome| outcome.exit),
            command: &record.command,
        })
    }

    fn matches_properties(&self, of: &Properties<'_>) -> bool {
        let labels = of.labels.iter();
        self.statuses.contains(&of.status)
            && self.matches_time(of.submitted_at)
            && self.matches_name(of.name.map(Text::as_str))
            && self.matches_user(of.user.name.as_deref(), of.user.uid)
            && self.matches_labels(labels.map(|(key, value)| (key.as_str(), value.as_str())))
            && self.matches_end(of.exit)
            && self.matches_command(of.command)
    }
}

/// Everything that there are conditions on.
struct Properties<'a> {
    status: Status,
    submitted_at: Timestamp,
    name: Option<&'a Text>,
    user: &'a User,
    labels: &'a [(Text, Text)],
    exit: Option<Exit>,
    command: &'a Command,
}

fn has_conditions(values: &Alternatives<Pattern<'_>>, beyond_exact: bool) -> bool {
    if beyond_exact {
        !values.unwanted.is_empty()
    } else {
        !values.is_empty()
    }
}

/// Returns the uid that a user may be given as.
#[must_use]
pub fn parse_uid(user: &str) -> Option<u32> {
    let uid: u32 = user.parse().ok()?;
    (uid.to_string() == user).then_some(uid)
}

#[cfg(test)]
mod tests;
