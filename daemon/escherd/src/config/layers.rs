//! The values of settings from all sources, one over the other: defaults, the profile, files, the
//! environment, options. [`super::file_layer`] adds files.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};

use super::error::{ConfigProblem, quote};
use super::origin::Origin;
use super::profiles::Profile;
use super::schema::{self, KEYS, Key};
use super::value_type::TypedValue;

/// The values so far.
#[derive(Debug, Default)]
pub(super) struct Layers {
    settings: BTreeMap<&'static str, Setting>,
    /// Settings to which a source has assigned something invalid: the value here is not what is
    /// meant.
    invalid: BTreeSet<&'static str>,
    /// Whether a file or line cannot be read, which may assign anything.
    is_incomplete: bool,
}

/// The value of a setting.
#[derive(Debug)]
pub(super) struct Setting {
    pub(super) value: TypedValue,
    pub(super) origin: Origin,
    /// The assignment as it is written, with its place: the subject of a problem.
    pub(super) assignment: String,
}

impl Layers {
    /// Returns the defaults that do not depend on the installation.
    pub(super) fn with_defaults() -> Self {
        let mut layers = Layers::default();
        for key in KEYS {
            if let Some(value) = key.value_type.default() {
                layers.set_default(key.name, value);
            }
        }
        layers
    }

    pub(super) fn get(&self, name: &str) -> Option<&Setting> {
        self.settings.get(name)
    }

    /// Sets the default of a setting.
    pub(super) fn set_default(&mut self, name: &'static str, value: TypedValue) {
        self.set(name, value, Origin::Default, name.to_owned());
    }

    /// Sets a value over the one before.
    pub(super) fn set(
        &mut self,
        name: &'static str,
        value: TypedValue,
        origin: Origin,
        assignment: String,
    ) {
        let setting = Setting {
            value,
            origin,
            assignment,
        };
        self.settings.insert(name, setting);
    }

    /// Notes that a source has assigned something invalid to a setting.
    pub(super) fn mark_invalid(&mut self, name: &'static str) {
        self.invalid.insert(name);
    }

    /// Notes that a file or line cannot be read.
    pub(super) fn mark_incomplete(&mut self) {
        self.is_incomplete = true;
    }

    /// Whether the value of a setting is the one that is meant, as far as that is known.
    pub(super) fn is_reliable(&self, name: &str) -> bool {
        !self.invalid.contains(name)
            && self
                .get(name)
                .is_some_and(|setting| !self.is_incomplete || setting.origin.is_explicit())
    }

    /// Adds the values of a profile.
    pub(super) fn add_profile(&mut self, profile: Profile) {
        for (name, value) in profile.values() {
            self.set(name, value, Origin::Profile(profile), name.to_owned());
        }
    }

    /// Adds the environment variables.
    pub(super) fn add_variables(
        &mut self,
        variable: &dyn Fn(&str) -> Option<OsString>,
    ) -> Vec<ConfigProblem> {
        let mut problems = Vec::new();
        for key in KEYS {
            if let Some(name) = key.variable
                && let Some(text) = variable(name)
            {
                let assignment = format!("{name}={}", quote(&text.to_string_lossy()));
                problems.extend(self.add_text(key, &text, Origin::Variable(name), assignment));
            }
        }
        problems
    }

    /// Adds an option of the command line, which sets the setting `name`.
    pub(super) fn add_option(
        &mut self,
        name: &str,
        option: &'static str,
        text: &OsStr,
    ) -> Option<ConfigProblem> {
        let assignment = format!("{option} {}", quote(&text.to_string_lossy()));
        self.add_text(
            schema::by_name(name)?,
            text,
            Origin::Argument(option),
            assignment,
        )
    }

    fn add_text(
        &mut self,
        key: &'static Key,
        text: &OsStr,
        origin: Origin,
        assignment: String,
    ) -> Option<ConfigProblem> {
        match key.value_type.parse(text) {
            Ok(value) => {
                self.set(key.name, value, origin, assignment);
                None
            }
            Err(expected) => {
                self.mark_invalid(key.name);
                let explanation = format!("must be {expected}");
                Some(ConfigProblem::new(assignment, explanation))
            }
        }
    }
}
