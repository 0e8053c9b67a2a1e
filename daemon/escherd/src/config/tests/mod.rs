//! The whole way from what people write to what is in force.

mod library;
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

use super::default_paths::Installation;
use super::load::{Surroundings, merge};
use super::{Configuration, Origin, Value};
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

    /// What escherd makes of it; the host's folder is `~` in what is wrong.
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
        let surroundings = Surroundings {
            installation,
            config_dirs,
            variable: &variable,
        };
        merge(&surroundings, &arguments).map_err(|error| {
            assert_eq!(error.to_string().lines().count(), error.faults().len());
            let faults = error.faults().iter().map(ToString::to_string);
            faults.map(|fault| fault.replace(home, "~")).collect()
        })
    }
}

/// A file of this name and text alone.
fn read(name: &str, text: &str) -> Result<Configuration, Vec<String>> {
    let file = format!("~/{name}");
    Host::new().file(name, text).load(&["--config", &file])
}

impl Configuration {
    fn value(&self, name: &str) -> &Value {
        &self.row(name).value
    }

    fn origin(&self, name: &str) -> &Origin {
        &self.row(name).origin
    }

    fn row(&self, name: &str) -> &super::Row {
        self.rows.iter().find(|row| row.name == name).unwrap()
    }
}

/// What the rows say, for comparing.
fn values(configuration: &Configuration) -> Vec<(&str, &Value)> {
    let rows = configuration.rows.iter();
    rows.map(|row| (row.name, &row.value)).collect()
}

fn text(text: &str) -> Value {
    Value::Text(text.to_owned())
}
