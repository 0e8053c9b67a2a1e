//! Loads a configuration: from all sources to validated settings.

use std::path::PathBuf;
use std::time::Duration;

use escher_launcher::ipc::wire::LogLimits;
use escher_protocol::{ResourceLimits, SettingValue};

use super::configuration::{Configuration, EffectiveSetting};
use super::default_paths::{Installation, ReadVariable};
use super::document::Document;
use super::error::{ConfigError, ConfigProblem, quote};
use super::layers::Layers;
use super::origin::Origin;
use super::percent::Percent;
use super::profiles::Profile;
use super::schema::SETTINGS;
use super::settings::{
    CleanupSettings, ClientMemoryLimits, ConnectionLimits, DaemonSettings, EngineSettings, OnBoot,
    OnStop, ReloadableSettings, SocketSettings,
};
use super::{config_files, file_layer, validate};
use crate::execution::RequestLimits;
use crate::output::{OutputRules, OversizedOutput};
use crate::store::{Durability, HistoryLimits};

/// What the command line says about the configuration.
#[derive(Debug, Clone, Default)]
pub struct LoadOptions {
    /// Whether escherd serves only the user who starts it.
    pub user: bool,
    /// The file to read instead of those in the usual directories.
    pub file: Option<PathBuf>,
    /// Name of the profile.
    pub profile: Option<String>,
    /// The options that set a path.
    pub path_options: Vec<PathOption>,
    /// What happens to running commands when escherd stops.
    pub on_stop: OnStop,
}

/// A command-line option that sets a path.
#[derive(Debug, Clone)]
pub struct PathOption {
    /// Name of the setting that it sets: `daemon.state_dir`.
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

/// Loads a configuration from `sources` and `options`. Each of these overrides those before it:
/// defaults, the profile, files, the environment, command-line options.
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
    // A user's own escherd bounds nothing unless it is told to.
    if sources.installation == Installation::User {
        profile = profile.or(Some(Profile::Host));
    }
    if let Some(profile) = profile {
        layers.add_profile(profile);
    }
    for (document, path) in &documents {
        problems.extend(file_layer::add(&mut layers, path, document));
    }
    problems.extend(layers.add_variables(variable));
    for PathOption {
        setting,
        option,
        path,
    } in &options.path_options
    {
        problems.extend(layers.add_option(setting, option, path.as_os_str()));
    }
    // Last, because some of these defaults depend on what the sources have set. They override
    // nothing.
    problems.extend(sources.installation.add_defaults(&mut layers, variable));
    let mut settings = settings_from(&layers);
    settings.on_stop = options.on_stop;
    problems.extend(validate::settings(&settings, &layers));
    ConfigError::unless_empty(problems)?;
    Ok(Configuration {
        settings,
        effective: effective_settings(&layers),
    })
}

fn effective_settings(layers: &Layers) -> Vec<EffectiveSetting> {
    let effective = SETTINGS.iter().map(|definition| {
        let assigned = layers.get(definition.name);
        EffectiveSetting {
            name: definition.name,
            value: assigned.map_or(SettingValue::Unset, |assigned| {
                definition.value_type.display(&assigned.value)
            }),
            origin: assigned.map_or(Origin::Default, |assigned| assigned.origin.clone()),
            is_reloadable: definition.is_reloadable,
        }
    });
    effective.collect()
}

/// Returns the settings with all values of the layers.
pub(super) fn settings_from(layers: &Layers) -> DaemonSettings {
    let mut settings = blank_settings();
    for definition in SETTINGS {
        if let Some(assigned) = layers.get(definition.name) {
            definition.value_type.apply(&mut settings, &assigned.value);
        }
    }
    settings
}

/// Returns settings in which every value is still to be set. Nothing here is a default.
fn blank_settings() -> DaemonSettings {
    DaemonSettings {
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
        client_memory: ClientMemoryLimits {
            max_bytes: 0,
            max_bytes_per_user: 0,
        },
        on_stop: OnStop::Leave,
        engine: EngineSettings {
            runtime_dir: PathBuf::new(),
            state_dir: PathBuf::new(),
            log_dir: PathBuf::new(),
            launcher: PathBuf::new(),
            launcher_socket: None,
            warm_shims: 0,
            durability: Durability::Crash,
            on_boot: OnBoot::Resume,
            stop_grace: Duration::ZERO,
            reloadable: ReloadableSettings {
                request: RequestLimits {
                    default_timeout_ms: 0,
                    max_timeout_ms: 0,
                    kill_grace_ms: 0,
                    max_kill_grace_ms: 0,
                    drain_ms: 0,
                    max_drain_ms: 0,
                },
                max_concurrent_executions: 0,
                max_pending_executions: 0,
                max_pending_bytes: 0,
                queue_share: Percent::ALL,
                log_share: Percent::ALL,
                user_limits: ResourceLimits::default(),
                max_left: 0,
                output: OutputRules {
                    stream: false,
                    max_bytes: 0,
                    keep_tail_bytes: 0,
                    oversized: OversizedOutput::Truncate,
                },
                max_in_memory_executions: 0,
                max_launch_attempts: 0,
                log_limits: LogLimits::default(),
                store_min_free_bytes: 0,
                cleanup: CleanupSettings {
                    is_automatic: false,
                    interval: Duration::ZERO,
                    retention: Duration::ZERO,
                    limits: HistoryLimits {
                        max_age_secs: 0,
                        max_bytes: 0,
                        max_count: 0,
                        min_age: Duration::ZERO,
                    },
                    set_aside_age: Duration::ZERO,
                },
            },
        },
    }
}
