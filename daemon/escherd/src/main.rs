//! escherd's program: see the library.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::Parser;
use escherd::cli::Arguments;
use escherd::config::{self, Configuration};
use escherd::host::logging::{self, Destination};
use escherd::service;
use tokio::signal::unix::{SignalKind, signal};

#[allow(clippy::print_stderr)] // The outermost layer talks to people.
fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let configuration = match config::load(&arguments) {
        Ok(configuration) => configuration,
        Err(error) => {
            for fault in error.faults() {
                eprintln!("escherd: {fault}");
            }
            return ExitCode::from(2);
        }
    };
    if arguments.check {
        return ExitCode::SUCCESS;
    }
    let log = logging::init();
    match serve(arguments, configuration, log) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("escherd: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// One thread runs all tasks: they wait more than they work, and handing one to another thread costs more
/// than most of them do. Files are read, and users looked up, on threads of their own.
fn serve(
    arguments: Arguments,
    configuration: Configuration,
    log: Destination,
) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let result = runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let hangup = signal(SignalKind::hangup())?;
        let stop = async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        };
        service::run(arguments, configuration, log, stop, hangup).await
    });
    runtime.shutdown_background();
    result
}
