//! escherctl: from arguments to an exit status.
//!
//! Thin: it reads the arguments, asks escherd through the client library, and shows the answers.
//!
//! `args` says what may be asked, `verbs` asks it, `render` shows the answers. `foreground` sees one
//! command through for `run` and `attach`, with `relay` and `stdin` for its bytes and `signals` for
//! the person at the keyboard. `completion` is for shells that ask what could be asked.
//! `doctor` looks at what is needed before anything can be asked; `checker` is escherd's program, for configurations.

mod args;
mod checker;
mod commands;
mod completion;
mod descriptor;
mod doctor;
mod exit_status;
mod failure;
mod foreground;
mod relay;
mod render;
mod signals;
mod socket;
mod stdin;

use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use clap::{CommandFactory, Parser};
use escher_client::{
    Client, Connector, DEFAULT_CONNECT_TIMEOUT, DEFAULT_RECONNECT_TIMEOUT, ReconnectEvent,
};

pub use completion::SCRIPTS as COMPLETIONS;

use args::values::Patience;
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
    /// How long to wait for an escherd that goes away, or that is still on its way to a socket that is there.
    reconnect: Duration,
}

impl Context {
    pub(crate) async fn connect(&self) -> Result<Client, Failure> {
        Connector::new(self.socket.path())
            .client_name(concat!("escherctl ", env!("CARGO_PKG_VERSION")))
            // At systemd's socket one is connected before there is an escherd to answer.
            .connect_timeout(self.reconnect.max(DEFAULT_CONNECT_TIMEOUT))
            .reconnect_timeout(self.reconnect)
            .on_reconnect(self.outage_teller())
            .connect()
            .await
            .map_err(|error| Failure::connect(error, &self.socket))
    }

    /// Tells a person that escherd is away, and that it is back.
    fn outage_teller(&self) -> impl Fn(ReconnectEvent) + Send + Sync + 'static {
        let silent = self.quiet || self.json;
        let patience = render::time::duration(self.reconnect);
        move |outage| match outage {
            _ if silent => {}
            ReconnectEvent::Waiting => say(&format!(
                "escherd is away; waiting for it, {patience} at most"
            )),
            ReconnectEvent::Reconnected => say("escherd is back"),
            // The failure that follows says more.
            _ => {}
        }
    }

    /// Tells a person something, on standard error.
    pub(crate) fn say(&self, line: &str) {
        say(line);
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

fn say(line: &str) {
    // A closed standard error leaves nobody to tell.
    let _ = writeln!(
        std::io::stderr(),
        "escherctl: {}",
        render::escape::text(line)
    );
}

/// Everything that may be asked, as manual pages show it.
#[must_use]
pub fn command() -> clap::Command {
    Cli::command()
}

/// Does what `arguments` (the first is the program's name) ask for.
#[must_use]
pub fn main(arguments: &[OsString]) -> ExitCode {
    if let Some(status) = completion::answer(arguments) {
        return status;
    }
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => return misused(&error, arguments),
    };
    let mut context = Context {
        socket: SocketChoice::make(cli.global.socket),
        json: cli.global.json,
        quiet: cli.global.quiet,
        reconnect: DEFAULT_RECONNECT_TIMEOUT,
    };
    let conduct = cli.verb.conduct();
    let performed = patience(cli.global.reconnect).and_then(|patience| {
        context.reconnect = patience;
        perform(&context, cli.verb)
    });
    let status = performed.unwrap_or_else(|failure| {
        if !failure.is_silent() {
            context.complain(&failure);
        }
        exit_status::of_failure(&failure, conduct)
    });
    ExitCode::from(status)
}

/// How long to wait for an escherd that goes away: as `given`, else by `ESCHER_RECONNECT`.
fn patience(given: Option<Patience>) -> Result<Duration, Failure> {
    let variable = || std::env::var_os("ESCHER_RECONNECT").filter(|value| !value.is_empty());
    if let Some(Patience(given)) = given {
        return Ok(given);
    }
    match variable() {
        None => Ok(DEFAULT_RECONNECT_TIMEOUT),
        Some(value) => match value.to_string_lossy().parse() {
            Ok(Patience(patience)) => Ok(patience),
            Err(error) => Err(Failure::usage(format!("ESCHER_RECONNECT: {error}"), None)),
        },
    }
}

fn perform(context: &Context, verb: Verb) -> Result<u8, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::system("cannot start", error))?;
    let performed = runtime.block_on(commands::perform(context, verb));
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
