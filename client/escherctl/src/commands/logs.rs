//! `logs`: shows output from the logs of one execution or of several.

use std::fs::File;
use std::io;

use escher_client::{
    Client, ExecutionId, LogStream, OutputRange, OutputStart, OutputStream, StreamSelection,
};
use nix::sys::signal::Signal;

use crate::args::verbs::LogsArgs;
use crate::context::Context;
use crate::exit_status::ProcessEnd;
use crate::failure::Failure;
use crate::output_format::ShownOutput;
use crate::signals::CaughtSignals;
use crate::stdio::output::{OutputWriter, RelayError};
use crate::stdio::pager::{Pager, PagerCommand};

/// The signals from a terminal that end the reading, but not the pager, which gets them as well.
const SIGNALS_OF_PAGER: [Signal; 2] = [Signal::SIGINT, Signal::SIGQUIT];

pub(super) async fn logs(context: &Context, args: LogsArgs) -> Result<ProcessEnd, Failure> {
    let is_paged = !(args.no_pager || args.follow || context.json);
    match PagerCommand::find().filter(|_| is_paged) {
        Some(command) => read_in_pager(context, &args, command).await,
        None => {
            let reading = Reading::begin(context, &args).await?;
            reading.show(OutputWriter::new(None)).await?;
            Ok(0.into())
        }
    }
}

async fn read_in_pager(
    context: &Context,
    args: &LogsArgs,
    command: PagerCommand,
) -> Result<ProcessEnd, Failure> {
    let mut signals = CaughtSignals::catch(&SIGNALS_OF_PAGER)?;
    let reading = tokio::select! {
        reading = Reading::begin(context, args) => reading?,
        signal = signals.next() => return Ok(ProcessEnd::Signal(signal)),
    };
    let (pager, input) = Pager::start(command)?;
    let shown = tokio::select! {
        shown = reading.show_in(input) => shown,
        _ = signals.next() => Ok(()),
    };
    // It shows what it has got until it is quit.
    let quit = pager.wait();
    match shown {
        Err(RelayError::Write(error)) if error.kind() == io::ErrorKind::BrokenPipe => quit?,
        shown => shown.map_err(Failure::from).and(quit)?,
    }
    Ok(0.into())
}

/// What is read, and how it is shown.
struct Reading<'a> {
    context: &'a Context,
    args: &'a LogsArgs,
    client: Client,
    /// The executions, as they were named.
    executions: Vec<(&'a str, ExecutionId)>,
}

impl<'a> Reading<'a> {
    /// Connects, and finds the executions.
    async fn begin(context: &'a Context, args: &'a LogsArgs) -> Result<Self, Failure> {
        let client = context.connect().await?;
        let mut executions = Vec::new();
        for target in &args.targets.targets {
            // A name may refer to a later execution by the time of the next request.
            let record = client.get_status(target.as_str()).await?;
            executions.push((target.as_str(), record.id));
        }
        Ok(Reading {
            context,
            args,
            client,
            executions,
        })
    }

    async fn show_in(&self, pager: File) -> Result<(), RelayError> {
        self.show(OutputWriter::new(Some(pager))).await
    }

    /// Shows all of it: what exists one execution after the other, what is followed as it comes.
    async fn show(&self, mut writer: OutputWriter) -> Result<(), RelayError> {
        if self.args.follow {
            let mut sources = Vec::new();
            for (name, id) in &self.executions {
                sources.push(self.open(name, *id).await?);
            }
            writer.relay(sources).await?;
        } else {
            for (name, id) in &self.executions {
                let source = self.open(name, *id).await?;
                writer.relay(vec![source]).await?;
            }
        }
        writer.finish().await
    }

    async fn open(
        &self,
        name: &str,
        id: ExecutionId,
    ) -> Result<(LogStream, ShownOutput), RelayError> {
        let Reading {
            context,
            args,
            client,
            executions,
        } = self;
        let output = if args.follow {
            client.follow(id, range(args)).await
        } else {
            client.read_logs(id, range(args)).await
        };
        let output = output.map_err(RelayError::Read)?;
        let format = match (context.json, args.timestamps) {
            (true, _) => return Ok((output, ShownOutput::json(context, id))),
            (false, true) => ShownOutput::with_timestamps(context, client, id),
            (false, false) => ShownOutput::unchanged(context),
        };
        if executions.len() == 1 {
            return Ok((output, format));
        }
        let width = executions
            .iter()
            .map(|(name, _)| name.chars().count())
            .max();
        let prefix = format!("{name:width$} | ", width = width.unwrap_or(0));
        Ok((output, format.prefixed(&prefix)))
    }
}

fn range(args: &LogsArgs) -> OutputRange {
    OutputRange {
        streams: match (args.stdout, args.stderr) {
            (true, _) => StreamSelection::Only(OutputStream::Stdout),
            (_, true) => StreamSelection::Only(OutputStream::Stderr),
            _ => StreamSelection::Both,
        },
        start: match (args.lines, args.from) {
            (Some(lines), _) => OutputStart::LastLines(lines),
            (None, offset) => OutputStart::Offset(offset.unwrap_or(0)),
        },
        length: None,
        since: args.since.map(|time| time.0),
        until: args.until.map(|time| time.0),
    }
}
