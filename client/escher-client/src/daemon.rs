//! The client's requests about escherd itself.

use escher_protocol::message::{DaemonInfo, Quota, Removed};
use escher_protocol::{Diagnostic, Reloaded, Request, Response, RunAs, Setting};

use crate::client::Client;
use crate::error::Error;
use crate::response::{removed, unexpected};

/// # Daemon
impl Client {
    /// Returns information about escherd: its version, its directories and the number of executions.
    ///
    /// # Errors
    /// [`Error::Disconnected`] or [`Error::DaemonUnavailable`] if escherd cannot be reached.
    ///
    /// # Cancellation
    /// Dropping the future has no effect.
    pub async fn info(&self) -> Result<DaemonInfo, Error> {
        match self.call(Request::Info).await? {
            Response::Info(info) => Ok(*info),
            other => Err(unexpected("information", &other)),
        }
    }

    /// Returns how many executions are running, of all users.
    ///
    /// # Errors
    /// The same as [`info`](Client::info).
    ///
    /// # Cancellation
    /// Dropping the future has no effect.
    pub async fn running_count(&self) -> Result<u64, Error> {
        Ok(self.info().await?.running)
    }

    /// Returns how many executions escherd knows, of all users: pending, running and finished.
    ///
    /// # Errors
    /// The same as [`info`](Client::info).
    ///
    /// # Cancellation
    /// Dropping the future has no effect.
    pub async fn total_count(&self) -> Result<u64, Error> {
        let info = self.info().await?;
        let started = info.running.saturating_add(info.finished);
        Ok(info.pending.saturating_add(started))
    }

    /// Returns the settings of escherd, each with its origin.
    ///
    /// # Errors
    /// The same as [`info`](Client::info).
    ///
    /// # Cancellation
    /// Dropping the future has no effect.
    pub async fn settings(&self) -> Result<Vec<Setting>, Error> {
        match self.call(Request::Settings).await? {
            Response::Settings(settings) => Ok(settings),
            other => Err(unexpected("settings", &other)),
        }
    }

    /// Returns what a user takes of escherd's queue, slots and history, and may take. `None`: the caller; for root, all users
    /// who take anything, and root.
    ///
    /// # Errors
    /// [`Error::Api`] with `permission-denied` for another user, unless the caller is root, and with
    /// `unknown-user`; else the same as [`info`](Client::info).
    ///
    /// # Cancellation
    /// Dropping the future has no effect.
    pub async fn quota(&self, user: Option<RunAs>) -> Result<Vec<Quota>, Error> {
        match self.call(Request::Quota(user)).await? {
            Response::Quotas(quotas) => Ok(quotas),
            other => Err(unexpected("quotas", &other)),
        }
    }

    /// Makes escherd read its configuration again and apply the settings that can change while it runs.
    /// Permitted to root and escherd's own user.
    ///
    /// # Errors
    /// [`Error::Api`] with `invalid-configuration` if the configuration has errors, in which case
    /// nothing is changed, and with `permission-denied`; else the same as [`info`](Client::info).
    ///
    /// # Cancellation
    /// If the future is dropped, the settings may or may not be applied.
    pub async fn reload(&self) -> Result<Reloaded, Error> {
        match self.call(Request::Reload).await? {
            Response::Reloaded(reloaded) => Ok(reloaded),
            other => Err(unexpected("a reload", &other)),
        }
    }

    /// Removes the records and logs that exceed the limits in escherd's settings, as escherd does by
    /// itself if `enable_auto_cleanup` is set. Permitted to root and escherd's own user.
    ///
    /// # Errors
    /// [`Error::Api`] with `permission-denied`; else the same as [`info`](Client::info).
    ///
    /// # Cancellation
    /// If the future is dropped, some or all of the executions may be removed.
    pub async fn cleanup_old_executions(&self) -> Result<Removed, Error> {
        removed(self.call(Request::Cleanup).await?)
    }

    /// Returns the metrics of escherd, over all users, as
    /// [OpenMetrics](https://prometheus.io/docs/specs/om/open_metrics_spec/) text.
    ///
    /// # Errors
    /// The same as [`info`](Client::info).
    ///
    /// # Cancellation
    /// Dropping the future has no effect.
    pub async fn metrics(&self) -> Result<String, Error> {
        match self.call(Request::Metrics).await? {
            Response::Metrics(text) => Ok(text.into_string()),
            other => Err(unexpected("metrics", &other)),
        }
    }

    /// Makes escherd check itself and what it depends on. Sensitive diagnostics are returned only to
    /// root and escherd's own user.
    ///
    /// # Errors
    /// The same as [`info`](Client::info).
    ///
    /// # Cancellation
    /// Dropping the future has no effect.
    pub async fn diagnose(&self) -> Result<Vec<Diagnostic>, Error> {
        match self.call(Request::Diagnose).await? {
            Response::Diagnostics(diagnostics) => Ok(diagnostics),
            other => Err(unexpected("diagnostics", &other)),
        }
    }
}
