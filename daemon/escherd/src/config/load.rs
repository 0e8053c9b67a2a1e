//! Loads a configuration: from all sources to validated settings.

use std::path::PathBuf;
use std::time::Duration;

use escher_launcher::ipc::wire::LogLimits;
use escher_protocol::SettingValue;

use super::configuration::{Configuration, EffectiveSetting};
use super::default_paths::{Installation, ReadVariable};
use super::document::Document;
use super::error::{ConfigError, ConfigProblem, quote};
use super::layers::Layers;
use super::origin::Origin;
use super::profiles::Profile;
use super::schema::KEYS;
use super::settings::{
    CleanupSettings, ConnectionLimits, EngineConfig, ExecutionSettings, OnBoot, OnStop, Settings,
    SocketSettings,
};
use super::{config_files, file_layer, validate};
use crate::execution::RequestLimits;
use crate::output::{OutputRules, OversizedOutput};
use crate::store::{Durability, HistoryLimits};

/// What the command line says about the configuration.
#[derive(Debug, Clone, Default)]
pub struct LoadOptions {
    /// Whether escherd serves the calling user alone.
    pub user: bool,
    /// The file to read instead of those that are installed.
    pub file: Option<PathBuf>,
    /// Name of the profile.
    pub profile: Option<String>,
    /// Values of single settings.
    pub overrides: Vec<Override>,
    /// What happens to running commands when escherd stops.
    pub on_stop: OnStop,
}

/// An option of the command line that sets a path.
#[derive(Debug, Clone)]
pub struct Override {
    /// Name of the setting: `daemon.state_dir`.
    pub setting: &'static str,
    /// The option as it is written: `--state-dir`.
    pub option: &'static str,
    /// The path.
    pub path: PathBuf,
}

/// Where settings are read from besides the command line.
pub(super) struct ConfigSources<'s> {
    pub(super) installation: Installation,
    /// Directories with configuration files.
    pub(super) config_dirs: Vec<PathBuf>,
    /// The environment.
    pub(super) variable: ReadVariable<'s>,
}

/// Loads the configuration of escherd.
///
/// # Errors
/// All problems, each with the file and line, the variable or the option.
pub fn load(options: &LoadOptions) -> Result<Configuration, ConfigError> {
    let installation = if options.user {
        Installation::User
    } else {
        Installation::System
    };
    let variable = |name: &str| std::env::var_os(name);
    let sources = ConfigSources {
        installation,
        config_dirs: installation.config_dirs(&variable),
        variable: &variable,
    };
    load_from(&sources, options)
}

/// Puts defaults, the profile, files, the environment and options over each other, in this order.
pub(super) fn load_from(
    sources: &ConfigSources<'_>,
    options: &LoadOptions,
) -> Result<Configuration, ConfigError> {
    let variable = sources.variable;
    let (files, mut problems) = match &options.file {
        Some(file) => (vec![file.clone()], Vec::new()),
        None => config_files::find(&sources.config_dirs),
    };
    let mut layers = Layers::with_defaults();
    let mut documents = Vec::new();
    for path in files {
        match config_files::read(&path) {
            Ok(text) => documents.push((Document::parse(&path, &text), path)),
            Err(problem) => problems.push(problem),
        }
    }
    if !problems.is_empty() {
        layers.mark_incomplete();
    }
    let mut profile = documents
        .iter()
        .rev()
        .find_map(|(document, _)| file_layer::profile(document));
    if let Some(name) = &options.profile {
        profile = Profile::from_name(name);
        if profile.is_none() {
            layers.mark_incomplete();
            let subject = format!("--profile {}", quote(name));
            problems.push(ConfigProblem::new(subject, Profile::expected()));
        }
    }
    if let Some(profile) = profile {
        layers.add_profile(profile);
    }
    for (document, path) in &documents {
        problems.extend(file_layer::add(&mut layers, path, document));
    }
    problems.extend(layers.add_variables(variable));
    for Override {
        setting,
        option,
        path,
    } in &options.overrides
    {
        problems.extend(layers.add_option(setting, option, path.as_os_str()));
    }
    problems.extend(sources.installation.add_defaults(&mut layers, variable));
    let mut settings = settings_from(&layers);
    settings.on_stop = options.on_stop;
    problems.extend(validate::settings(&settings, &layers));
    ConfigError::unless_empty(problems)?;
    Ok(Configuration {
        settings,
        effective: effective(&layers),
    })
}

fn effective(layers: &Layers) -> Vec<EffectiveSetting> {
    let effective = KEYS.iter().map(|key| {
        let setting = layers.get(key.name);
        EffectiveSetting {
            name: key.name,
            value: setting.map_or(SettingValue::Unset, |setting| {
                key.value_type.display(&setting.value)
            }),
            origin: setting.map_or(Origin::Default, |setting| setting.origin.clone()),
            is_live: key.is_live,
        }
    });
    effective.collect()
}

/// Applies all values of the layers.
pub(super) fn settings_from(layers: &Layers) -> Settings {
    let mut settings = blank();
    for key in KEYS {
        if let Some(setting) = layers.get(key.name) {
            key.value_type.apply(&mut settings, &setting.value);
        }
    }
    settings
}

/// Settings to which values are applied. Nothing here is a default.
fn blank() -> Settings {
    Settings {
        socket: SocketSettings {
            path: PathBuf::new(),
            mode: 0,
            group: None,
        },
        metrics_socket: None,
        connections: ConnectionLimits {
            max_connections: 0,
            max_connections_per_user: 0,
        },
        on_stop: OnStop::Leave,
        engine: EngineConfig {
            runtime_dir: PathBuf::new(),
            state_dir: PathBuf::new(),
            log_dir: PathBuf::new(),
            launcher: PathBuf::new(),
            launcher_socket: None,
            warm_shims: 0,
            durability: Durability::Crash,
            on_boot: OnBoot::Resume,
            executions: ExecutionSettings {
                request: RequestLimits {
                    default_timeout_ms: 0,
                    max_timeout_ms: 0,
                    kill_grace_ms: 0,
                },
                max_concurrent_executions: 0,
                max_pending_executions: 0,
                max_pending_bytes: 0,
                output: OutputRules {
                    stream: false,
                    max_bytes: 0,
                    keep_tail_bytes: 0,
                    oversized: OversizedOutput::Truncate,
                },
                max_in_memory_executions: 0,
                log_limits: LogLimits::default(),
                cleanup: CleanupSettings {
                    is_automatic: false,
                    interval: Duration::ZERO,
                    retention: Duration::ZERO,
                    limits: HistoryLimits {
                        max_age_secs: 0,
                        max_bytes: 0,
                        max_count: 0,
                    },
                },
            },
        },
    }
}
