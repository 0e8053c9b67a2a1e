//! A loaded configuration: the settings as values, and as a list to show.

use escher_protocol::SettingValue;

use super::origin::Origin;
use super::settings::DaemonSettings;

/// Everything that was loaded.
#[derive(Debug, Clone)]
pub struct Configuration {
    /// The validated values.
    pub settings: DaemonSettings,
    /// All settings with the origins of their values, always in the same order.
    pub effective: Vec<EffectiveSetting>,
}

/// One setting with its value, in the form in which people see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EffectiveSetting {
    /// Table and key: `execution.max_timeout_ms`.
    pub name: &'static str,
    /// Its value.
    pub value: SettingValue,
    /// Where the value comes from.
    pub origin: Origin,
    /// Whether a reload applies a new value.
    pub is_reloadable: bool,
}

/// Names of the settings in which two configurations differ.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Differences {
    /// Settings that a reload applies.
    pub reloadable: Vec<&'static str>,
    /// Settings that need a restart.
    pub need_restart: Vec<&'static str>,
}

impl Configuration {
    /// Names the settings whose values are different in `other`.
    #[must_use]
    pub fn differences(&self, other: &Configuration) -> Differences {
        let mut differences = Differences::default();
        for (setting, other) in self.effective.iter().zip(&other.effective) {
            if setting.value != other.value {
                if setting.is_reloadable {
                    differences.reloadable.push(setting.name)
                } else {
                    differences.need_restart.push(setting.name)
                }
            }
        }
        differences
    }

    /// Replaces the reloadable settings by those of `new`. Settings that need a restart stay as they are.
    pub fn replace_reloadable_settings(&mut self, new: Configuration) {
        self.settings.connections = new.settings.connections;
        self.settings.client_memory = new.settings.client_memory;
        self.settings.engine.reloadable = new.settings.engine.reloadable;
        for (setting, new) in self.effective.iter_mut().zip(new.effective) {
            // A value that is the same may have another origin now.
            if setting.is_reloadable || setting.value == new.value {
                *setting = new;
            }
        }
    }
}
