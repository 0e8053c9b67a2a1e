//! What is said about each setting, one source over the other: defaults, the profile, files, the environment,
//! options. Files have a module of their own, [`super::file_layer`].

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};

use super::error::{Fault, shown};
use super::origin::Origin;
use super::profiles::Profile;
use super::schema::{self, KEYS, Key};
use super::value_type::Given;

/// The values so far.
#[derive(Debug, Default)]
pub(super) struct Layers {
    held: BTreeMap<&'static str, Held>,
    /// Settings of which something was said that is wrong: what is held may not be what is meant.
    spoiled: BTreeSet<&'static str>,
    /// Whether there are files or lines that cannot be read: anything may stand there.
    is_partial: bool,
}

/// A setting's value.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) value: Given,
    pub(super) origin: Origin,
    /// The place and the value as it is written there: the head of a fault.
    pub(super) said: String,
}

impl Layers {
    /// Nothing but the defaults that are the same everywhere.
    pub(super) fn of_defaults() -> Self {
        let mut layers = Layers::default();
        for key in KEYS {
            if let Some(value) = key.kind.default() {
                layers.hold_default(key.name, value);
            }
        }
        layers
    }

    pub(super) fn get(&self, name: &str) -> Option<&Held> {
        self.held.get(name)
    }

    /// A value for what nobody has said anything about.
    pub(super) fn hold_default(&mut self, name: &'static str, value: Given) {
        self.hold(name, value, Origin::Default, name.to_owned());
    }

    /// A value, whatever was there before.
    pub(super) fn hold(&mut self, name: &'static str, value: Given, origin: Origin, said: String) {
        let held = Held {
            value,
            origin,
            said,
        };
        self.held.insert(name, held);
    }

    /// Something wrong was said about this setting.
    pub(super) fn spoil(&mut self, name: &'static str) {
        self.spoiled.insert(name);
    }

    /// There is something that cannot be read.
    pub(super) fn note_gap(&mut self) {
        self.is_partial = true;
    }

    /// What a profile says.
    pub(super) fn add_profile(&mut self, profile: Profile) {
        for (name, value) in profile.values() {
            self.hold(name, value, Origin::Profile(profile), name.to_owned());
        }
    }

    /// What the environment says.
    pub(super) fn add_variables(
        &mut self,
        variable: &dyn Fn(&str) -> Option<OsString>,
    ) -> Vec<Fault> {
        let mut faults = Vec::new();
        for key in KEYS {
            if let Some(name) = key.variable
                && let Some(text) = variable(name)
            {
                let said = format!("{name}={}", shown(&text.to_string_lossy()));
                faults.extend(self.add_text(key, &text, Origin::Variable(name), said));
            }
        }
        faults
    }

    /// What an option says about the setting `name`.
    pub(super) fn add_flag(
        &mut self,
        name: &str,
        flag: &'static str,
        text: &OsStr,
    ) -> Option<Fault> {
        let said = format!("{flag} {}", shown(&text.to_string_lossy()));
        self.add_text(schema::named(name)?, text, Origin::Flag(flag), said)
    }

    fn add_text(
        &mut self,
        key: &'static Key,
        text: &OsStr,
        origin: Origin,
        said: String,
    ) -> Option<Fault> {
        match key.kind.read(text) {
            Some(value) => {
                self.hold(key.name, value, origin, said);
                None
            }
            None => {
                self.spoil(key.name);
                Some(Fault::new(said, format!("must be {}", key.kind.wanted())))
            }
        }
    }

    /// Two settings to be compared; `None` where one may not be what is meant.
    pub(super) fn pair(&self, one: &'static str, other: &'static str) -> Option<(&Held, &Held)> {
        let is_known = |held: &Held| !self.is_partial || held.origin.is_a_choice();
        if self.spoiled.contains(one) || self.spoiled.contains(other) {
            return None;
        }
        let (one, other) = (self.get(one)?, self.get(other)?);
        (is_known(one) && is_known(other)).then_some((one, other))
    }
}
