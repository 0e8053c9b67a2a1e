//! The configuration while escherd runs: what is in force, and how it changes.

use std::sync::{Arc, Mutex};

use escher_protocol::{ApiError, Diagnostic, ErrorCode, Reloaded, Setting, SettingValue};
use tracing::{info, warn};

use crate::api::{ExecutionEngine, invalid_configuration};
use crate::authz::AdminPermit;
use crate::cli::Arguments;
use crate::config::{self, ConfigError, Configuration, Value};
use crate::doctor::{self, Audience};
use crate::server::ConnectionLimits;

/// What somebody is told whose reload has failed.
const UNCHANGED: &str =
    "nothing has changed; `escherctl config check` says the same without applying it";

/// The configuration in force, and where it came from, so that it can be read again.
#[derive(Debug)]
pub struct LiveConfiguration {
    arguments: Arguments,
    in_force: Mutex<Configuration>,
    /// Two at once would mix what they apply.
    reloading: tokio::sync::Mutex<()>,
}

impl LiveConfiguration {
    /// That of an escherd that has been started with it.
    #[must_use]
    pub fn new(arguments: Arguments, configuration: Configuration) -> Self {
        LiveConfiguration {
            arguments,
            in_force: Mutex::new(configuration),
            reloading: tokio::sync::Mutex::default(),
        }
    }

    /// What a new connection has to keep to.
    #[must_use]
    pub fn connections(&self) -> ConnectionLimits {
        self.in_force().settings.connections
    }

    /// The settings in force, and where each comes from.
    #[must_use]
    pub fn tell(&self) -> Vec<Setting> {
        let in_force = self.in_force();
        let rows = in_force.rows.iter().map(|row| Setting {
            name: row.name.into(),
            value: match &row.value {
                Value::Unset => SettingValue::Unset,
                Value::Flag(flag) => SettingValue::Flag(*flag),
                Value::Number(number) => SettingValue::Number(*number),
                Value::Text(text) => SettingValue::Text(text.as_str().into()),
            },
            origin: row.origin.to_string().into(),
            live: row.is_live,
        });
        rows.collect()
    }

    /// Reads the configuration again, as at the start, and applies what can change while escherd runs.
    ///
    /// # Errors
    /// `invalid-configuration` with everything that is wrong with it; nothing has changed then.
    pub async fn reload(
        self: &Arc<Self>,
        _permit: AdminPermit,
        engine: &ExecutionEngine,
    ) -> Result<Reloaded, ApiError> {
        let (this, engine) = (Arc::clone(self), engine.clone());
        // To its end, whoever goes away meanwhile: half of it would be neither the old nor the new.
        let reloading = tokio::spawn(async move { this.read_again(&engine).await });
        reloading.await.map_err(internal)?
    }

    /// Looks at what a reload would do, and whether others can change what grants rights.
    ///
    /// # Errors
    /// `internal`, for what should not happen.
    pub(crate) async fn examine(&self, audience: Audience) -> Result<Vec<Diagnostic>, ApiError> {
        let read = self.read().await?;
        let read = read.map(|read| self.in_force().differences(&read));
        let mut diagnostics = doctor::configuration(&read, audience);
        // Rights are granted by the host's escherd alone.
        if !self.arguments.user {
            diagnostics.extend(doctor::policies(audience));
        }
        Ok(diagnostics)
    }

    /// Off the event loop: files may be slow to read.
    async fn read(&self) -> Result<Result<Configuration, ConfigError>, ApiError> {
        let arguments = self.arguments.clone();
        let read = tokio::task::spawn_blocking(move || config::load(&arguments));
        read.await.map_err(internal)
    }

    async fn read_again(&self, engine: &ExecutionEngine) -> Result<Reloaded, ApiError> {
        let _turn = self.reloading.lock().await;
        let read = self.read().await?.map_err(|error| {
            warn!(%error, "the configuration has faults, and what was in force stays");
            invalid_configuration(&error).with_hint(UNCHANGED)
        })?;
        let differences = self.in_force().differences(&read);
        let connections = read.settings.connections.max_connections;
        let executions = read.settings.engine.executions;
        let configured = engine.configure_beside(executions, Some(connections));
        configured.await?;
        self.in_force().adopt(read);
        let names = |names: Vec<&'static str>| names.into_iter().map(Into::into).collect();
        let reloaded = Reloaded {
            applied: names(differences.live),
            need_restart: names(differences.restart),
        };
        info!(
            applied = ?reloaded.applied,
            need_restart = ?reloaded.need_restart,
            "the configuration was read again"
        );
        Ok(reloaded)
    }

    fn in_force(&self) -> std::sync::MutexGuard<'_, Configuration> {
        let in_force = self.in_force.lock();
        in_force.unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

fn internal(error: tokio::task::JoinError) -> ApiError {
    ApiError::new(ErrorCode::INTERNAL, error.to_string())
}
