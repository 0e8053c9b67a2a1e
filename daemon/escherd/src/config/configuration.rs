//! A loaded configuration: the settings, and each of them as people see it.

use escher_protocol::SettingValue;

use super::origin::Origin;
use super::settings::Settings;

/// Settings with the origin of each value.
#[derive(Debug, Clone)]
pub struct Configuration {
    /// The settings.
    pub settings: Settings,
    /// Every setting as people see it, always in the same order.
    pub effective: Vec<EffectiveSetting>,
}

/// One setting as people see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EffectiveSetting {
    /// Section and key: `execution.max_timeout_ms`.
    pub name: &'static str,
    /// Its value.
    pub value: SettingValue,
    /// Where the value comes from.
    pub origin: Origin,
    /// Whether a reload applies a new value.
    pub is_live: bool,
}

/// Names of the settings in which two configurations differ.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Differences {
    /// Settings that a reload applies.
    pub live: Vec<&'static str>,
    /// Settings that need a restart.
    pub restart: Vec<&'static str>,
}

impl Configuration {
    /// Names the settings whose values are different in `other`.
    #[must_use]
    pub fn differences(&self, other: &Configuration) -> Differences {
        let mut differences = Differences::default();
        for (setting, other) in self.effective.iter().zip(&other.effective) {
            if setting.value != other.value {
                if setting.is_live {
                    differences.live.push(setting.name)
                } else {
                    differences.restart.push(setting.name)
                }
            }
        }
        differences
    }

    /// Adopts the live settings of `new`. Settings that need a restart stay as they are.
    pub fn adopt_live_settings(&mut self, new: Configuration) {
        self.settings.connections = new.settings.connections;
        self.settings.engine.executions = new.settings.engine.executions;
        for (setting, new) in self.effective.iter_mut().zip(new.effective) {
            // A value that is the same may have another origin now.
            if setting.is_live || setting.value == new.value {
                *setting = new;
            }
        }
    }
}
