//! From arguments to an exit status.
//!
//! `args` says what may be asked, `verbs` asks it, `render` shows the answers. `foreground` sees one
//! command through for `run` and `attach`, with `relay` and `stdin` for its bytes and `signals` for
//! the person at the keyboard.

mod args;
mod descriptor;
mod exit_status;
mod failure;
mod foreground;
mod relay;
mod render;
mod signals;
mod socket;
mod stdin;
mod values;
mod verbs;

use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;

use clap::Parser;
use escher_client::{Client, Connector};

use args::{Cli, Verb};
use failure::Failure;
use socket::SocketChoice;

/// What every verb gets.
pub(crate) struct Context {
    socket: SocketChoice,
    /// Answers as JSON.
    pub(crate) json: bool,
    /// No last line about how a command was ended.
    pub(crate) quiet: bool,
}

impl Context {
    pub(crate) async fn connect(&self) -> Result<Client, Failure> {
        Connector::new(self.socket.path())
            .name(concat!("escherctl ", env!("CARGO_PKG_VERSION")))
            .connect()
            .await
            .map_err(|error| Failure::connect(error, &self.socket))
    }

    /// Tells a person something, on standard error.
    pub(crate) fn say(&self, line: &str) {
        // A closed standard error leaves nobody to tell.
        let _ = writeln!(
            std::io::stderr(),
            "escherctl: {}",
            render::escape::text(line)
        );
    }

    /// Tells of a failure, on standard error.
    pub(crate) fn complain(&self, failure: &Failure) {
        let shown = if self.json {
            render::json::failure(failure)
        } else {
            render::text::failure(failure)
        };
        let _ = std::io::stderr().write_all(shown.as_bytes());
    }
}

/// Does what `arguments` (the first is the program's name) ask for.
pub(crate) fn main(arguments: Vec<OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(&arguments) {
        Ok(cli) => cli,
        Err(error) => return misused(&error, &arguments),
    };
    let context = Context {
        socket: SocketChoice::make(cli.global.socket),
        json: cli.global.json,
        quiet: cli.global.quiet,
    };
    let conduct = cli.verb.conduct();
    let status = perform(&context, cli.verb).unwrap_or_else(|failure| {
        if !failure.is_silent() {
            context.complain(&failure);
        }
        exit_status::of_failure(&failure, conduct)
    });
    ExitCode::from(status)
}

fn perform(context: &Context, verb: Verb) -> Result<u8, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::system("cannot start", error))?;
    let performed = runtime.block_on(verbs::perform(context, verb));
    // Nothing that is still under way matters any more.
    runtime.shutdown_background();
    performed
}

/// Shows help, or what is wrong with the arguments.
fn misused(error: &clap::Error, arguments: &[OsString]) -> ExitCode {
    let (verb, json) = args::glance(arguments);
    if !error.use_stderr() {
        // A pager that was left early has seen enough.
        let _ = error.print();
        return ExitCode::SUCCESS;
    }
    if json {
        let failure = describe_misuse(&error.to_string());
        let _ = std::io::stderr().write_all(render::json::failure(&failure).as_bytes());
    } else {
        let _ = error.print();
    }
    ExitCode::from(exit_status::of_usage(exit_status::conduct_of(&verb)))
}

/// The same failure out of clap's words: a paragraph each for the error, for a tip and for the usage.
fn describe_misuse(words: &str) -> Failure {
    let mut paragraphs = words.split("\n\n").map(|paragraph| {
        let lines: Vec<&str> = paragraph.lines().map(str::trim).collect();
        lines.join(" ")
    });
    let message = paragraphs.next().unwrap_or_default();
    let tip = paragraphs.find(|paragraph| paragraph.starts_with("tip: "));
    Failure::usage(
        message.trim_start_matches("error: "),
        tip.as_deref().map(|tip| tip.trim_start_matches("tip: ")),
    )
}
