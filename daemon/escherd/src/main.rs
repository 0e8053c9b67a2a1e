//! The program escherd; the library has the rest.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::Parser;
use escherd::cli::Arguments;
use escherd::config::{self, ConfigError, Configuration, LoadOptions};
use escherd::host::logging::{self, LogDestination};
use escherd::{daemon, start_failure};
use nix::sys::signal::{SigSet, Signal};
use tokio::signal::unix::{SignalKind, signal};

/// The signals on which escherd acts.
const HANDLED_SIGNALS: [Signal; 3] = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP];

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let options = arguments.load_options();
    let configuration = config::load(&options);
    if arguments.check {
        return match configuration {
            Ok(_) => ExitCode::SUCCESS,
            Err(error) => fail(error.into(), LogDestination::StandardError),
        };
    }
    let log = logging::init();
    match serve(options, configuration, log) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(error, log),
    }
}

fn fail(error: anyhow::Error, log: LogDestination) -> ExitCode {
    start_failure::log(&error, log);
    ExitCode::from(start_failure::exit_status(&error))
}

/// Runs all tasks on one thread: they wait more than they work, and moving a task to another thread
/// costs more than most of them do. Files and the user database are read on threads of their own.
fn serve(
    options: LoadOptions,
    configuration: Result<Configuration, ConfigError>,
    log: LogDestination,
) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    // They may have been blocked in the program that has started this one.
    let handled: SigSet = HANDLED_SIGNALS.into_iter().collect();
    handled.thread_unblock()?;
    let result = runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let hangup = signal(SignalKind::hangup())?;
        let stop_requested = async || {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        };
        daemon::run(options, configuration, log, stop_requested, hangup).await
    });
    runtime.shutdown_background();
    result
}
