//! Control of executions: cancel, signals, pause, measurement.

use escher_protocol::message::CancelAnswer;
use escher_protocol::{
    CancelMode, CurrentUsage, Request, Response, SignalAnswer, SignalRecipients, Target,
};

use crate::client::Client;
use crate::error::Error;
use crate::response::{done, unexpected};
use crate::stream::UsageStream;

/// # Controlling executions
impl Client {
    /// Cancels an execution. Returns when the cancellation has begun, or is not needed; use
    /// [`wait_for_completion`](Client::wait_for_completion) to wait for the end.
    ///
    /// # Errors
    /// The same as [`get_status`](Client::get_status), and `store-unavailable`.
    ///
    /// # Cancellation
    /// If the future is dropped, the execution may or may not be cancelled.
    pub async fn cancel(
        &self,
        target: impl Into<Target>,
        mode: CancelMode,
    ) -> Result<CancelAnswer, Error> {
        let target = self.resolve(target.into()).await?;
        match self.call(Request::Cancel { target, mode }).await? {
            Response::Cancel(outcome) => Ok(outcome),
            other => Err(unexpected("a cancellation", &other)),
        }
    }

    /// Sends the signal of this number (see signal(7)) to the main process of an execution. Returns once
    /// it is sent, which happens once also if the request has to be repeated.
    ///
    /// # Errors
    /// The same as [`get_status`](Client::get_status), and `not-running`. After
    /// [`Error::Disconnected`] the signal may or may not have been sent.
    ///
    /// # Cancellation
    /// If the future is dropped, the signal may or may not be sent.
    pub async fn signal(&self, target: impl Into<Target>, signal: i32) -> Result<(), Error> {
        let recipients = SignalRecipients::MainProcess;
        self.send_signal(target.into(), signal, recipients)
            .await
            .map(drop)
    }

    /// Sends a signal to the process group of an execution's main process, as from a terminal: a paused
    /// command is resumed first. Where there is no process group, because the program does not run yet
    /// or its main process has ended, the execution is cancelled instead.
    ///
    /// # Errors
    /// As [`signal`](Client::signal), and `store-unavailable`.
    ///
    /// # Cancellation
    /// As for [`signal`](Client::signal).
    pub async fn signal_group(
        &self,
        target: impl Into<Target>,
        signal: i32,
    ) -> Result<SignalAnswer, Error> {
        let recipients = SignalRecipients::ProcessGroup;
        self.send_signal(target.into(), signal, recipients).await
    }

    /// Sends a signal to all processes of an execution, also to those that its main process has
    /// left behind and that still have time to end.
    ///
    /// # Errors
    /// As [`signal`](Client::signal).
    ///
    /// # Cancellation
    /// As for [`signal`](Client::signal).
    pub async fn signal_tree(&self, target: impl Into<Target>, signal: i32) -> Result<(), Error> {
        self.send_signal(target.into(), signal, SignalRecipients::Tree)
            .await
            .map(drop)
    }

    async fn send_signal(
        &self,
        target: Target,
        signal: i32,
        recipients: SignalRecipients,
    ) -> Result<SignalAnswer, Error> {
        let serial = self.transport().next_signal_serial();
        let request = Request::Signal {
            target: self.resolve(target).await?,
            signal,
            recipients,
            serial,
        };
        match self.call(request).await? {
            Response::Signal(answer) => Ok(answer),
            other => Err(unexpected("the answer to a signal", &other)),
        }
    }

    /// Pauses an execution: freezes all of its processes until it is resumed or ended. Returns when
    /// they are frozen. The timeout of the execution keeps running.
    ///
    /// # Errors
    /// The same as [`get_status`](Client::get_status), `not-running`, and `cannot-pause`.
    ///
    /// # Cancellation
    /// If the future is dropped, the execution may or may not be paused.
    pub async fn pause(&self, target: impl Into<Target>) -> Result<(), Error> {
        let target = self.resolve(target.into()).await?;
        done(self.call(Request::Pause(target)).await?, "a pause")
    }

    /// Resumes a paused execution. Returns when its processes are running again.
    ///
    /// # Errors
    /// The same as [`pause`](Client::pause).
    ///
    /// # Cancellation
    /// If the future is dropped, the execution may or may not be resumed.
    pub async fn resume(&self, target: impl Into<Target>) -> Result<(), Error> {
        let target = self.resolve(target.into()).await?;
        done(self.call(Request::Resume(target)).await?, "a resumption")
    }

    /// Measures what a running execution uses at the moment. Without a cgroup nothing is measured.
    ///
    /// # Errors
    /// The same as [`get_status`](Client::get_status), and `not-running`.
    ///
    /// # Cancellation
    /// Dropping the future has no effect on the execution.
    pub async fn measure_usage(&self, target: impl Into<Target>) -> Result<CurrentUsage, Error> {
        match self.call(Request::MeasureUsage(target.into())).await? {
            Response::CurrentUsage(usage) => Ok(usage),
            other => Err(unexpected("the current usage", &other)),
        }
    }

    /// Measures what all running executions use that this user may see, newest first. An execution that cannot be
    /// measured at the moment is left out.
    ///
    /// # Errors
    /// [`Error::Disconnected`] or [`Error::DaemonUnavailable`] if escherd cannot be reached. The stream
    /// returns all other errors.
    ///
    /// # Cancellation
    /// Dropping the future or the stream has no effect on executions.
    pub async fn measure_running(&self) -> Result<UsageStream, Error> {
        self.open_stream(Request::MeasureRunning).await
    }
}
