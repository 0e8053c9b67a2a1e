//! The values of settings from all sources, each overriding the ones below: defaults, the profile,
//! files, the environment, options. [`super::file_layer`] adds files.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};

use super::error::{ConfigProblem, quote};
use super::origin::Origin;
use super::profiles::Profile;
use super::schema::{self, SETTINGS, SettingDefinition};
use super::value_type::TypedValue;

/// The values so far, each from the uppermost source that sets it.
#[derive(Debug, Default)]
pub(super) struct Layers {
    values: BTreeMap<&'static str, AssignedValue>,
    /// Settings to which a source has assigned an invalid value. Their entry in `values` is not
    /// what that source intended.
    invalid: BTreeSet<&'static str>,
    /// Whether a file or line cannot be read: it could assign any setting.
    is_incomplete: bool,
}

/// The value of a setting, with the assignment that it comes from.
#[derive(Debug)]
pub(super) struct AssignedValue {
    pub(super) value: TypedValue,
    pub(super) origin: Origin,
    /// The assignment as it is written, after its file and line: the subject of a problem.
    pub(super) assignment: String,
}

impl Layers {
    /// Returns the defaults that do not depend on the installation.
    pub(super) fn with_defaults() -> Self {
        let mut layers = Layers::default();
        for definition in SETTINGS {
            if let Some(value) = definition.value_type.default() {
                layers.set_default(definition.name, value);
            }
        }
        layers
    }

    pub(super) fn get(&self, name: &str) -> Option<&AssignedValue> {
        self.values.get(name)
    }

    /// Sets the default of a setting.
    pub(super) fn set_default(&mut self, name: &'static str, value: TypedValue) {
        self.set(name, value, Origin::Default, name.to_owned());
    }

    /// Sets a value, which overrides the one below.
    pub(super) fn set(
        &mut self,
        name: &'static str,
        value: TypedValue,
        origin: Origin,
        assignment: String,
    ) {
        let assigned = AssignedValue {
            value,
            origin,
            assignment,
        };
        self.values.insert(name, assigned);
    }

    /// Notes that a source has assigned an invalid value to a setting.
    pub(super) fn mark_invalid(&mut self, name: &'static str) {
        self.invalid.insert(name);
    }

    /// Notes that a file or line cannot be read.
    pub(super) fn mark_incomplete(&mut self) {
        self.is_incomplete = true;
    }

    /// Whether the value of a setting is known to be the intended one: no source assigns an invalid
    /// value to it, and no unreadable file or line could override a default.
    pub(super) fn is_reliable(&self, name: &str) -> bool {
        !self.invalid.contains(name)
            && self
                .get(name)
                .is_some_and(|assigned| !self.is_incomplete || assigned.origin.is_explicit())
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
        for definition in SETTINGS {
            if let Some(name) = definition.variable
                && let Some(text) = variable(name)
            {
                let assignment = format!("{name}={}", quote(&text.to_string_lossy()));
                problems.extend(self.add_text(
                    definition,
                    &text,
                    Origin::Variable(name),
                    assignment,
                ));
            }
        }
        problems
    }

    /// Adds a command-line option that sets the setting `name`.
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
            Origin::CommandLineOption(option),
            assignment,
        )
    }

    fn add_text(
        &mut self,
        definition: &'static SettingDefinition,
        text: &OsStr,
        origin: Origin,
        assignment: String,
    ) -> Option<ConfigProblem> {
        match definition.value_type.parse(text) {
            Ok(value) => {
                self.set(definition.name, value, origin, assignment);
                None
            }
            Err(expected) => {
                self.mark_invalid(definition.name);
                let explanation = format!("must be {expected}");
                Some(ConfigProblem::new(assignment, explanation))
            }
        }
    }
}
