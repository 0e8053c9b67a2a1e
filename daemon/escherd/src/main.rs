//! The program escherd; the library has the rest.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::Parser;
use escherd::StartError;
use escherd::cli::Arguments;
use escherd::config::{self, Configuration, LoadOptions};
use escherd::daemon;
use escherd::host::logging::{self, LogDestination};
use nix::sys::signal::{SigSet, Signal};
use tokio::signal::unix::{SignalKind, signal};

/// The signals on which escherd acts.
const HANDLED_SIGNALS: [Signal; 3] = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP];

/// Exit status for an invalid configuration, and for directories that cannot be trusted.
const EXIT_CONFIGURATION: u8 = 2;

#[allow(clippy::print_stderr)] // Errors go to the caller, not to the log.
fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let options = arguments.load_options();
    let configuration = match config::load(&options) {
        Ok(configuration) => configuration,
        Err(error) => {
            for problem in error.problems() {
                eprintln!("escherd: {problem}");
            }
            return ExitCode::from(EXIT_CONFIGURATION);
        }
    };
    if arguments.check {
        return ExitCode::SUCCESS;
    }
    let log = logging::init();
    match serve(options, configuration, log) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("escherd: {error:#}");
            match error.downcast_ref() {
                Some(StartError::Config(_) | StartError::UntrustedDirectory(_)) => {
                    ExitCode::from(EXIT_CONFIGURATION)
                }
                _ => ExitCode::FAILURE,
            }
        }
    }
}

/// Runs all tasks on one thread: they wait more than they work, and moving a task to another thread
/// costs more than most of them do. Files and the user database are read on threads of their own.
fn serve(
    options: LoadOptions,
    configuration: Configuration,
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
