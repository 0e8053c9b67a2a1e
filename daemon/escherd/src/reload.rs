//! Reloading: the configuration that is in force while escherd runs, and how it is replaced.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use escher_protocol::{ApiError, Diagnostic, ErrorCode, Reloaded, Setting};
use tokio::sync::watch;
use tokio::task::JoinError;
use tracing::{info, warn};

use crate::api::{ExecutionEngine, invalid_configuration};
use crate::authz::AdminPermit;
use crate::blocking::BlockingPool;
use crate::config::{
    self, ClientMemoryLimits, ConfigError, Configuration, ConnectionLimits, LoadOptions,
};
use crate::doctor::{self, InstanceKind};
use crate::host::service_manager::ServiceManager;

/// How many threads load the configuration at the same time.
const MAX_THREADS: usize = 2;

/// The configuration in force, with the options by which it is loaded again.
#[derive(Debug)]
pub struct ActiveConfiguration {
    options: LoadOptions,
    current: Mutex<Configuration>,
    /// The threads that read files. Every user can have them read, by a diagnosis.
    threads: BlockingPool,
    /// Held during a reload: two at once would mix what they apply.
    reloading: tokio::sync::Mutex<()>,
    /// Why the last reload has failed, as one line, if it has.
    failure: watch::Sender<Option<String>>,
}

impl ActiveConfiguration {
    /// Puts the configuration with which escherd was started in force.
    #[must_use]
    pub fn new(options: LoadOptions, configuration: Configuration) -> Self {
        ActiveConfiguration {
            options,
            current: Mutex::new(configuration),
            threads: BlockingPool::new(MAX_THREADS),
            reloading: tokio::sync::Mutex::default(),
            failure: watch::Sender::new(None),
        }
    }

    /// Returns the path of the socket for clients.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.current().settings.socket.path.clone()
    }

    /// Returns the limits for new connections.
    #[must_use]
    pub fn connection_limits(&self) -> ConnectionLimits {
        self.current().settings.connections
    }

    /// Returns the limits on the memory of clients.
    #[must_use]
    pub fn client_memory_limits(&self) -> ClientMemoryLimits {
        self.current().settings.client_memory
    }

    /// Returns where the value of a setting comes from; `None`: there is no such setting.
    #[must_use]
    pub fn origin(&self, name: &str) -> Option<String> {
        let current = self.current();
        let setting = current
            .effective
            .iter()
            .find(|setting| setting.name == name);
        setting.map(|setting| setting.origin.to_string())
    }

    /// Lists the settings in force, with the origin of each value.
    #[must_use]
    pub fn list(&self) -> Vec<Setting> {
        let current = self.current();
        let settings = current.effective.iter().map(|setting| Setting {
            name: setting.name.into(),
            value: setting.value.clone(),
            origin: setting.origin.to_string().into(),
            is_reloadable: setting.is_reloadable,
        });
        settings.collect()
    }

    /// Loads the configuration again and applies its reloadable settings.
    ///
    /// # Errors
    /// `invalid-configuration` with all problems; nothing has changed then.
    pub async fn reload(
        self: &Arc<Self>,
        _permit: AdminPermit,
        engine: &ExecutionEngine,
    ) -> Result<Reloaded, ApiError> {
        let (this, engine) = (Arc::clone(self), engine.clone());
        // A task of its own, which goes on if the client disconnects: half a reload would leave a
        // configuration that is neither the old nor the new one.
        let reloading = tokio::spawn(async move { this.load_and_apply(&engine).await });
        reloading.await.map_err(internal)?
    }

    /// Returns a watch of why the last reload has failed, as one line, if it has.
    pub(crate) fn watch_failure(&self) -> watch::Receiver<Option<String>> {
        self.failure.subscribe()
    }

    /// Diagnoses what a reload would do. Changes nothing.
    ///
    /// # Errors
    /// `internal` if a task has panicked.
    pub(crate) async fn diagnose(
        &self,
        engine: &ExecutionEngine,
    ) -> Result<Vec<Diagnostic>, ApiError> {
        let loaded = self.load(engine.uid()).await?;
        let differences = loaded.map(|loaded| self.current().differences(&loaded));
        let kind = InstanceKind {
            is_user: self.options.user,
            manager: ServiceManager::current(),
        };
        Ok(doctor::diagnose_configuration(
            &differences,
            engine.audience(),
            &kind,
        ))
    }

    /// Loads the configuration for the user `uid` off the event loop, since files may be slow to read.
    async fn load(&self, uid: u32) -> Result<Result<Configuration, ConfigError>, ApiError> {
        let options = self.options.clone();
        let loading = self.threads.run(uid, move |_| config::load(&options));
        loading.await.map_err(internal)
    }

    async fn load_and_apply(&self, engine: &ExecutionEngine) -> Result<Reloaded, ApiError> {
        let _turn = self.reloading.lock().await;
        let loaded = self.load(engine.uid()).await?.map_err(|error| {
            warn!("reload failed: the configuration has faults, and nothing has changed");
            for problem in error.problems() {
                warn!("{problem}");
            }
            self.failure.send_replace(Some(error.summary()));
            invalid_configuration(&error).with_hint(failed_reload_hint(&self.options))
        })?;
        self.failure.send_replace(None);
        let differences = self.current().differences(&loaded);
        let max_connections = loaded.settings.connections.max_connections;
        let reloadable = loaded.settings.engine.reloadable;
        engine
            .apply_settings(reloadable, Some(max_connections))
            .await?;
        self.current().replace_reloadable_settings(loaded);
        let names = |names: Vec<&'static str>| names.into_iter().map(Into::into).collect();
        let reloaded = Reloaded {
            applied: names(differences.reloadable),
            need_restart: names(differences.need_restart),
        };
        info!(
            applied = ?reloaded.applied,
            need_restart = ?reloaded.need_restart,
            "configuration reloaded"
        );
        Ok(reloaded)
    }

    fn current(&self) -> MutexGuard<'_, Configuration> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn internal(error: JoinError) -> ApiError {
    ApiError::new(ErrorCode::INTERNAL, error.to_string())
}

/// Returns the hint with the error of a reload.
fn failed_reload_hint(options: &LoadOptions) -> String {
    let option = if options.user { " --user" } else { "" };
    format!("nothing has changed; `escherctl config check{option}` validates without applying")
}
