//! escherctl: parses arguments, asks escherd through the client library, renders the answers.
//!
//! `args` defines the command line, `commands` has a file per verb, `render` turns answers into
//! text and JSON. `attached` follows one execution to its end for `run` and `attach`, and `feeding` feeds it, with `stdio`
//! for its bytes, and `output_format` for how they are shown; `signal_relay` passes the `signals` of `run` on to its
//! command, as `interruption` decides. `time` reads and shows times. `completion` answers shells, `doctor` diagnoses an
//! installation, `escherds` knows what the system's and the user's own are called, `user_database` the names of users
//! and groups, and `escherd_check` has the program escherd check a configuration.

mod args;
mod attached;
mod commands;
mod completion;
mod context;
mod doctor;
mod escherd_check;
mod escherds;
mod exit_status;
mod failure;
mod feeding;
mod interruption;
mod output_format;
mod render;
mod signal_relay;
mod signals;
mod socket_access;
mod stdio;
mod time;
mod user_database;
mod wait_notice;

use std::ffi::OsString;
use std::io::{self, IsTerminal};
use std::os::fd::AsFd;
use std::process::ExitCode;

use args::Verb;
use args::color::ColorChoice;
use context::Context;
use exit_status::{ExitMapping, ProcessEnd};
use failure::Failure;
use render::style::Style;
use render::wrap;
use stdio::unbuffered::write_all;

pub use completion::SCRIPTS as COMPLETIONS;

/// Returns the definition of the command line, for manual pages.
#[must_use]
pub fn command() -> clap::Command {
    args::definition()
}

/// Runs escherctl with `arguments`, the first of which is the program's name.
#[must_use]
pub fn main(arguments: &[OsString]) -> ExitCode {
    if let Some(status) = completion::respond(arguments) {
        return status;
    }
    let cli = match args::parse(arguments) {
        Ok(cli) => cli,
        Err(error) => return not_parsed(&error, arguments),
    };
    let mapping = cli.verb.exit_mapping();
    let mut context = Context::new(cli.global.escherd, cli.global.json, cli.global.quiet);
    context.set_appearance(cli.global.color, cli.global.utc);
    let performed = context
        .set_reconnect_timeout(cli.global.reconnect)
        .and_then(|()| perform(&context, cli.verb));
    let end = performed.unwrap_or_else(|failure| {
        context.report(&failure);
        ProcessEnd::Status(exit_status::for_failure(&failure, mapping))
    });
    ExitCode::from(match end {
        ProcessEnd::Status(status) => status,
        ProcessEnd::Signal(signal) => {
            signals::die_of(signal);
            exit_status::for_signal(signal as i32)
        }
    })
}

/// Prints help or version if that was requested, else reports what is wrong with the arguments.
fn not_parsed(error: &clap::Error, arguments: &[OsString]) -> ExitCode {
    if !error.use_stderr() {
        // A pager may be closed before it has read everything.
        let _ = print_as_clap_would(error, io::stdout());
        return ExitCode::SUCCESS;
    }
    let (verb, json) = args::find_verb_and_json(arguments);
    if json {
        context::report_as_json(&Failure::from(error));
    } else {
        // Not through `Failure`: clap's text has colours and the usage, too.
        context::write_stderr(&wrap::fitted_to_stderr(&usage_error(error)));
    }
    ExitCode::from(exit_status::for_usage_error(ExitMapping::for_verb(&verb)))
}

/// Returns the text of a usage error.
fn usage_error(error: &clap::Error) -> String {
    let style = Style::from_environment(ColorChoice::Auto, io::stderr().is_terminal());
    let text = error.render();
    if style.has_color {
        text.ansi().to_string()
    } else {
        text.to_string()
    }
}

/// Prints help or a version: in colours where clap thinks so, which is on terminals alone.
fn print_as_clap_would(error: &clap::Error, output: impl AsFd + IsTerminal) -> io::Result<()> {
    if output.is_terminal() {
        return error.print();
    }
    write_all(output, error.render().to_string().as_bytes())
}

fn perform(context: &Context, verb: Verb) -> Result<ProcessEnd, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::system("cannot start the async runtime", error))?;
    let performed = runtime.block_on(commands::perform(context, verb));
    // Does not wait for threads that are blocked on standard input or output.
    runtime.shutdown_background();
    performed
}
