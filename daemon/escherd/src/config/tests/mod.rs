//! Tests of loading: from what people write to the settings.

mod embedded;
mod page;
mod precedence;
mod profiles;
mod properties;
mod validation;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;

use clap::Parser;
use escher_protocol::SettingValue;

use super::default_paths::Installation;
use super::load::{ConfigSources, load_from};
use super::{Configuration, EffectiveSetting, Origin};
use crate::cli::Arguments;

/// A host with files and an environment of its own.
struct Host {
    root: tempfile::TempDir,
    variables: BTreeMap<&'static str, OsString>,
}

impl Host {
    fn new() -> Self {
        Host {
            root: tempfile::tempdir().unwrap(),
            variables: BTreeMap::new(),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    fn file(self, name: &str, text: impl AsRef<[u8]>) -> Self {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
        self
    }

    fn variable(mut self, name: &'static str, value: impl Into<OsString>) -> Self {
        self.variables.insert(name, value.into());
        self
    }

    /// Loads escherd's configuration. `~` stands for the host's directory, in arguments and
    /// problems.
    fn load(&self, arguments: &[&str]) -> Result<Configuration, Vec<String>> {
        let home = self.root.path().to_str().unwrap();
        let arguments = arguments.iter().map(|word| word.replace('~', home));
        let arguments =
            Arguments::try_parse_from(std::iter::once("escherd".to_owned()).chain(arguments));
        let arguments = arguments.map_err(|error| vec![error.to_string()])?;
        let variable = |name: &str| self.variables.get(name).cloned();
        let (installation, config_dirs) = if arguments.user {
            let installation = Installation::User;
            (installation, installation.config_dirs(&variable))
        } else {
            let dirs = ["etc", "run", "usr"].map(|dir| self.path(dir));
            (Installation::System, dirs.to_vec())
        };
        let sources = ConfigSources {
            installation,
            config_dirs,
            variable: &variable,
        };
        load_from(&sources, &arguments.load_options()).map_err(|error| {
            assert_eq!(error.to_string().lines().count(), error.problems().len());
            let problems = error.problems().iter().map(ToString::to_string);
            problems.map(|problem| problem.replace(home, "~")).collect()
        })
    }
}

/// Loads a file of this name and text, and no other.
fn read(name: &str, text: &str) -> Result<Configuration, Vec<String>> {
    let file = format!("~/{name}");
    Host::new().file(name, text).load(&["--config", &file])
}

impl Configuration {
    fn value(&self, name: &str) -> &SettingValue {
        &self.setting(name).value
    }

    fn origin(&self, name: &str) -> &Origin {
        &self.setting(name).origin
    }

    fn setting(&self, name: &str) -> &EffectiveSetting {
        let mut settings = self.effective.iter();
        settings.find(|setting| setting.name == name).unwrap()
    }
}

/// Returns the values with their names, without their origins.
fn values(configuration: &Configuration) -> Vec<(&str, &SettingValue)> {
    let settings = configuration.effective.iter();
    settings
        .map(|setting| (setting.name, &setting.value))
        .collect()
}

fn text(text: &str) -> SettingValue {
    SettingValue::Text(text.into())
}
