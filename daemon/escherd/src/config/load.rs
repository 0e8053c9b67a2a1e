//! From everything that says something to what is in force.

use std::ffi::OsString;
use std::path::{PathBuf, absolute};

use super::default_paths::{Installation, Variables};
use super::document::Document;
use super::error::{ConfigError, Fault, shown};
use super::layers::Layers;
use super::origin::Origin;
use super::profiles::Profile;
use super::schema::KEYS;
use super::settings::Settings;
use super::validate;
use super::{Configuration, Row, Value, file_layer, sources};
use crate::cli::Arguments;

/// What there is to be read besides options.
pub(super) struct Surroundings<'s> {
    pub(super) installation: Installation,
    /// Directories with configuration files.
    pub(super) config_dirs: Vec<PathBuf>,
    /// The environment.
    pub(super) variable: Variables<'s>,
}

/// Lays one over the other: defaults, the profile, files, the environment, options. Everything that is wrong is
/// found at once.
pub(super) fn merge(
    surroundings: &Surroundings<'_>,
    arguments: &Arguments,
) -> Result<Configuration, ConfigError> {
    let variable = surroundings.variable;
    let (files, mut faults) = match &arguments.config {
        Some(file) => (vec![file.clone()], Vec::new()),
        None => sources::files(&surroundings.config_dirs),
    };
    let mut layers = Layers::of_defaults();
    let mut documents = Vec::new();
    for path in files {
        match sources::read(&path) {
            Ok(text) => documents.push((Document::parse(&path, &text), path)),
            Err(fault) => faults.push(fault),
        }
    }
    if !faults.is_empty() {
        layers.note_gap();
    }
    let mut profile = documents
        .iter()
        .rev()
        .find_map(|(document, _)| file_layer::profile(document));
    if let Some(name) = &arguments.profile {
        profile = Profile::named(name);
        if profile.is_none() {
            layers.note_gap();
            faults.push(Fault::new(
                format!("--profile {}", shown(name)),
                Profile::wanted(),
            ));
        }
    }
    if let Some(profile) = profile {
        layers.add_profile(profile);
    }
    for (document, path) in &documents {
        faults.extend(file_layer::add(&mut layers, path, document));
    }
    faults.extend(layers.add_variables(variable));
    for (name, flag, path) in flags(arguments) {
        faults.extend(layers.add_flag(name, flag, &path));
    }
    faults.extend(surroundings.installation.complete(&mut layers, variable));
    faults.extend(validate::check(&layers));
    if !faults.is_empty() {
        return Err(ConfigError::new(faults));
    }
    let mut settings = Settings::of(&layers);
    settings.on_stop = arguments.on_stop;
    Ok(Configuration {
        settings,
        rows: rows(&layers),
    })
}

/// The options that say something about settings: the setting, the option, the value.
fn flags(arguments: &Arguments) -> impl Iterator<Item = (&'static str, &'static str, OsString)> {
    // A program is named as in a shell, where the working directory counts.
    let launcher = arguments.launcher.as_ref();
    let launcher = launcher.map(|path| absolute(path).unwrap_or_else(|_| path.clone()));
    let flags = [
        ("daemon.socket", "--socket", &arguments.socket),
        (
            "daemon.runtime_dir",
            "--runtime-dir",
            &arguments.runtime_dir,
        ),
        ("daemon.state_dir", "--state-dir", &arguments.state_dir),
        ("execution.log_dir", "--log-dir", &arguments.log_dir),
        ("daemon.launcher", "--launcher", &launcher),
        (
            "daemon.launcher_socket",
            "--launcher-socket",
            &arguments.launcher_socket,
        ),
    ];
    let flags = flags.map(|(name, flag, path)| Some((name, flag, path.clone()?.into_os_string())));
    flags.into_iter().flatten()
}

fn rows(layers: &Layers) -> Vec<Row> {
    let rows = KEYS.iter().map(|key| {
        let held = layers.get(key.name);
        Row {
            name: key.name,
            value: held.map_or(Value::Unset, |held| key.kind.show(&held.value)),
            origin: held.map_or(Origin::Default, |held| held.origin.clone()),
            is_live: key.is_live,
        }
    });
    rows.collect()
}
