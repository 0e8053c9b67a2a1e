//! The command line: verbs, options and the values they take.

pub(crate) mod color;
pub(crate) mod column;
pub(crate) mod duration;
mod environment;
pub(crate) mod escherd_choice;
pub(crate) mod event_condition;
mod examples;
mod help;
mod invalid_value;
mod one_verb;
mod point_in_time;
pub(crate) mod property;
pub(crate) mod property_value;
pub(crate) mod request;
pub(crate) mod selection;
pub(crate) mod signal;
mod spelling;
mod unknown_verb;
mod values;
pub(crate) mod verbs;
mod without_options;

use std::ffi::{OsStr, OsString};

use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::exit_status::ExitMapping;
use color::ColorChoice;
use duration::ReconnectTimeout;
use escherd_choice::EscherdArgs;
use request::{RunArgs, SubmitArgs};
use selection::{PruneArgs, PsArgs, TargetsOrFilterArgs};
use verbs::{
    AttachArgs, CancelArgs, ConfigArgs, EventsArgs, KillArgs, LogsArgs, QuotaArgs, SendArgs,
    TargetArgs, TargetsArgs, TopArgs, WaitArgs,
};

/// Run commands through escherd: they outlive this terminal, and their output and results are kept
#[derive(Debug, Parser)]
#[command(
    name = "escherctl",
    version,
    before_help = examples::ESCHERCTL,
    max_term_width = 100,
    subcommand_value_name = "VERB",
    subcommand_help_heading = "Verbs"
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: GlobalArgs,
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct GlobalArgs {
    #[command(flatten)]
    pub(crate) escherd: EscherdArgs,
    /// Print JSON, one object per line
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Suppress escherctl's own messages, such as why a command was ended
    #[arg(short, long, global = true)]
    pub(crate) quiet: bool,
    /// When to colour output: auto (on a terminal, unless NO_COLOR is set), always or never
    #[arg(
        long,
        global = true,
        value_name = "WHEN",
        default_value = "auto",
        hide_default_value = true
    )]
    pub(crate) color: ColorChoice,
    /// Show times in UTC, not in the local time zone
    #[arg(long, global = true)]
    pub(crate) utc: bool,
    /// How long to wait for an escherd that is not there or does not answer (for an answer at least
    /// 2s), or `none` [default: $ESCHER_RECONNECT; else 60s, but not for one that is not there at
    /// the start]
    #[arg(long, global = true, value_name = "TIME")]
    pub(crate) reconnect: Option<ReconnectTimeout>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Run a command, show its output and exit with its status
    ///
    /// Signals reach the command as if it were run directly: the first Ctrl-C interrupts it (SIGINT to
    /// its process group), the second cancels it (SIGTERM, then SIGKILL after the grace period), the
    /// third kills it, the fourth leaves it running, as does any once escherd has not answered for 2s.
    /// Ctrl-\ is SIGQUIT to its process group; SIGTERM cancels it; SIGUSR1 and SIGUSR2 are for its
    /// main process. SIGHUP, or a terminal that is closed, leaves it running; a closed pipe cancels
    /// it. Signals that were ignored at the start stay ignored.
    ///
    /// Exit status: the command's own; 124 if it timed out; 125 if escher failed; 126 if it could
    /// not be started; 127 if the program was not found; 128+N if signal N ended it, of which `run`
    /// dies itself if it got it, too. Whatever the command did, 125 if its output is incomplete because the log lacks some.
    #[command(before_help = examples::RUN,
              override_usage = "escherctl run [OPTIONS] [--] COMMAND [ARG]...")]
    Run(RunArgs),
    /// Submit a command and print its id, without waiting
    #[command(before_help = examples::SUBMIT,
              override_usage = "escherctl submit [OPTIONS] [--] COMMAND [ARG]...")]
    Submit(SubmitArgs),
    /// Wait for executions to finish
    ///
    /// Exit status: with one ID or --any as for `run`, whether or not output is missing; with several 0
    /// if all completed, else 1; 125 if they have not finished within --timeout, and run on.
    #[command(before_help = examples::WAIT)]
    Wait(WaitArgs),
    /// List executions
    ///
    /// With -q only ids. On a terminal that is too narrow columns are left out, in this order: id, user,
    /// time, name, exit, age; --columns and --no-trunc show them all the same.
    #[command(visible_aliases = ["ls", "list"], before_help = examples::PS)]
    Ps(PsArgs),
    /// Show what runs and waits, live, with CPU, memory and I/O
    ///
    /// The screen follows events of escherd, and what is used is measured every --interval. Before the second
    /// measurement of an execution its CPU and I/O are those since its start. What a command uses can be measured
    /// where it has a cgroup. The output of the selected execution is below the table. `?` shows the keys.
    ///
    /// Columns that do not fit are dropped: the user, then the tasks, the name, and disk I/O. At most 1000 running and
    /// 1000 pending executions are shown, the newest. Without a terminal, one table is printed, as with --once.
    #[command(before_help = examples::TOP)]
    Top(TopArgs),
    /// Show the details of executions
    #[command(visible_aliases = ["status", "show"])]
    Inspect(TargetsArgs),
    /// Wait for an execution and show its output, up to the output limit
    Result(TargetArgs),
    /// Show the output of executions so far, or follow it
    ///
    /// With several IDs each line begins with its ID. Ctrl-C ends only the reading.
    #[command(before_help = examples::LOGS)]
    Logs(LogsArgs),
    /// Show all output of an execution to its end, and exit with its status
    ///
    /// Ctrl-C detaches; the execution continues. Exit status: as for `run`, but the command's own
    /// also if its output is incomplete.
    Attach(AttachArgs),
    /// Write standard input to that of an execution
    ///
    /// The execution must have been submitted with -i, and nobody else may feed it meanwhile. Its
    /// input stays open unless --end is given, also if standard input cannot be read to its end.
    #[command(before_help = examples::SEND)]
    Send(SendArgs),
    /// Cancel executions, gracefully at first
    ///
    /// Sends SIGTERM to all processes of each, then SIGKILL after the grace period.
    #[command(visible_alias = "stop", before_help = examples::CANCEL)]
    Cancel(CancelArgs),
    /// Send a signal to the main process of executions, or to all
    #[command(before_help = examples::KILL)]
    Kill(KillArgs),
    /// Pause all processes of executions
    ///
    /// The timeout continues to run. Pausing requires cgroups.
    #[command(before_help = examples::PAUSE)]
    Pause(TargetsOrFilterArgs),
    /// Resume paused executions
    #[command(before_help = examples::RESUME)]
    Resume(TargetsOrFilterArgs),
    /// Remove finished executions and their logs
    #[command(before_help = examples::RM)]
    Rm(TargetsOrFilterArgs),
    /// Remove all finished executions that match, and their logs
    ///
    /// On a terminal, shows how much that is and asks first.
    #[command(before_help = examples::PRUNE)]
    Prune(PruneArgs),
    /// Show events: submissions, starts and ends of executions
    #[command(before_help = examples::EVENTS)]
    Events(EventsArgs),
    /// Show the state and the limits of escherd
    Info,
    /// Show what you use of queue, slots and history, and may use
    ///
    /// An execution is charged to the user who submitted it. Root sees all users who have any. Of the history, the
    /// numbers after "of" are your share: what you have beyond it is removed first when the history is full.
    #[command(before_help = examples::QUOTA)]
    Quota(QuotaArgs),
    /// Show the metrics of escherd, in OpenMetrics format
    #[command(before_help = examples::METRICS)]
    Metrics,
    /// Show or check the configuration of escherd
    #[command(before_help = examples::CONFIG, subcommand_value_name = "VERB",
              subcommand_help_heading = "Verbs")]
    Config(ConfigArgs),
    /// Reload the configuration of escherd
    ///
    /// Settings that can change while escherd runs take effect at once; those that require a
    /// restart are listed. If any setting is invalid, nothing changes. Only root and the user that
    /// escherd runs as may reload.
    #[command(before_help = examples::RELOAD)]
    Reload,
    /// Check the installation, and suggest fixes
    ///
    /// From the socket to the kernel, checks what is visible to the caller, and has escherd check itself. If escherd does not run,
    /// shows what is known about why. Exit status: 1 if a check has failed, else 0.
    #[command(before_help = examples::DOCTOR)]
    Doctor,
}

impl Verb {
    pub(crate) fn exit_mapping(&self) -> ExitMapping {
        ExitMapping::for_verb(match self {
            Verb::Run(_) => "run",
            Verb::Attach(_) => "attach",
            Verb::Wait(_) => "wait",
            _ => "",
        })
    }
}

/// Returns the definition of the command line.
pub(crate) fn definition() -> clap::Command {
    help::arranged(escherd_choice::accept_behind_verbs(Cli::command()))
}

/// Parses the words of the command line, the first of which is the program's name.
pub(crate) fn parse<W>(words: impl IntoIterator<Item = W>) -> Result<Cli, clap::Error>
where
    W: Into<OsString> + Clone,
{
    let words: Vec<OsString> = words.into_iter().map(Into::into).collect();
    if let Some(cli) = without_options::parse(&words) {
        return Ok(cli);
    }
    let words = spelling::spelled_out(&words, position_of_verb(&words));
    let (verb, _) = find_verb_and_json(&words);
    if let Some(definition) = one_verb::definition_of(&verb) {
        match parse_by(definition, &words) {
            Err(error) if !one_verb::is_final(&error) => {}
            parsed => return parsed,
        }
    }
    parse_by(definition(), &words)
}

fn parse_by(mut definition: clap::Command, words: &[OsString]) -> Result<Cli, clap::Error> {
    let matches = definition
        .try_get_matches_from_mut(words)
        .map_err(unknown_verb::explained)?;
    let mut cli = Cli::from_arg_matches(&matches).map_err(|error| error.format(&mut definition))?;
    cli.global.escherd = EscherdArgs::of(&matches);
    cli.global.escherd.ensure_one(&mut definition)?;
    Ok(cli)
}

/// The global options whose values may be words of their own.
const TAKING_A_VALUE: [&str; 3] = ["--socket", "--reconnect", "--color"];

/// Finds the verb, and whether there is `--json`, in arguments that clap has rejected.
pub(crate) fn find_verb_and_json(arguments: &[OsString]) -> (String, bool) {
    let verb = position_of_verb(arguments).map(|at| arguments[at].to_string_lossy());
    let mut words = arguments.iter().skip(1).take_while(|word| *word != "--");
    let json = words.any(|word| word == "--json");
    (verb.unwrap_or_default().into_owned(), json)
}

/// Returns the index of the verb: of the first word that is no option and no value of one.
fn position_of_verb(arguments: &[OsString]) -> Option<usize> {
    let mut words = arguments.iter().enumerate().skip(1);
    while let Some((at, word)) = words.next() {
        if word == "--" {
            return None;
        } else if TAKING_A_VALUE.iter().any(|option| word == *option) {
            words.next();
        } else if !is_option(word) {
            return Some(at);
        }
    }
    None
}

fn is_option(word: &OsStr) -> bool {
    word.as_encoded_bytes().starts_with(b"-")
}

#[cfg(test)]
mod tests {
    use super::request::RequestArgs;
    use super::*;
    use escher_client::SocketChoice;
    use std::os::unix::ffi::OsStringExt;
    use std::path::PathBuf;

    fn parse_run(words: &[&str]) -> RequestArgs {
        let cli = parse([&["escherctl", "run"], words].concat()).unwrap();
        match cli.verb {
            Verb::Run(run) => run.request,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_definition_is_consistent() {
        definition().debug_assert();
    }

    #[test]
    fn examples_fit_a_narrow_terminal() {
        fn check(command: &clap::Command) {
            let examples = command.get_before_help().map(ToString::to_string);
            for line in examples.unwrap_or_default().lines() {
                assert!(line.len() <= 80, "{}: {line}", command.get_name());
            }
            command.get_subcommands().for_each(check);
        }
        check(&definition());
    }

    #[test]
    fn the_first_word_that_is_no_option_begins_the_command() {
        assert_eq!(
            parse_run(&["-q", "ls", "-l", "--json"]).command,
            ["ls", "-l", "--json"]
        );
        assert_eq!(
            parse_run(&["ls", "--", "-x", "-h"]).command,
            ["ls", "--", "-x", "-h"]
        );
        assert_eq!(
            parse_run(&["--", "--odd", "--", "x"]).command,
            ["--odd", "--", "x"]
        );
        assert_eq!(parse_run(&["-e", "A=1", "-E", "B", "env"]).env.len(), 2);
    }

    #[test]
    fn an_unknown_option_before_the_command_is_an_error() {
        assert!(parse(["escherctl", "run", "--tiemout", "5s", "ls"]).is_err());
    }

    #[test]
    fn a_shell_text_replaces_the_command() {
        assert!(parse_run(&["--shell", "a | b"]).command.is_empty());
        assert!(parse(["escherctl", "run", "--shell", "x", "ls"]).is_err());
        assert!(parse(["escherctl", "run"]).is_err());
    }

    #[test]
    fn global_options_may_stand_on_either_side_of_the_verb() {
        for words in [
            &["escherctl", "--json", "-q", "--socket", "/s", "ps"][..],
            &["escherctl", "ps", "--json", "-q", "--socket=/s"],
        ] {
            let cli = parse(words).unwrap();
            assert!(cli.global.json && cli.global.quiet);
            assert_eq!(cli.global.escherd.choice(), SocketChoice::path("/s"));
        }
    }

    #[test]
    fn an_escherd_is_chosen_on_either_side_of_the_verb() {
        let choice = |words: &str| {
            let cli = parse(format!("escherctl {words}").split(' ')).unwrap();
            cli.global.escherd.choice()
        };
        for words in [
            "--user ps",
            "ps --user",
            "config check --user",
            "--user run x",
        ] {
            assert_eq!(choice(words), SocketChoice::user(), "{words}");
        }
        for words in ["--system ps", "ps --system", "run --system x"] {
            assert_eq!(choice(words), SocketChoice::system(), "{words}");
        }
        // This is the user to run as.
        assert_ne!(choice("run --user bob x"), SocketChoice::user());
    }

    #[test]
    fn only_one_escherd_can_be_chosen() {
        for words in [
            "--system --user ps",
            "--system ps --user",
            "--user --socket /s ps",
            "--socket /s ps --system",
            "--user run --system x",
        ] {
            let error = parse(format!("escherctl {words}").split(' ')).unwrap_err();
            assert_eq!(
                error.kind(),
                clap::error::ErrorKind::ArgumentConflict,
                "{words}"
            );
        }
    }

    #[test]
    fn accepts_words_that_are_not_utf8() {
        let not_utf8 = OsString::from_vec(b"\xff=\xfe".to_vec());
        let words = ["escherctl", "run", "-w"].map(OsString::from);
        let rest = [
            not_utf8.clone(),
            "-e".into(),
            not_utf8.clone(),
            not_utf8.clone(),
        ];
        let cli = parse(words.into_iter().chain(rest)).unwrap();
        let Verb::Run(run) = cli.verb else { panic!() };
        assert_eq!(run.request.command, std::slice::from_ref(&not_utf8));
        assert_eq!(run.request.workdir, Some(PathBuf::from(not_utf8)));
    }

    #[test]
    fn finds_verb_and_json_in_rejected_arguments() {
        let find = |words: &[&str]| {
            let words: Vec<OsString> = words.iter().map(OsString::from).collect();
            find_verb_and_json(&words)
        };
        assert_eq!(
            find(&["c", "--socket", "run", "ps", "--x"]),
            ("ps".into(), false)
        );
        assert_eq!(
            find(&["c", "--reconnect", "5s", "wait"]),
            ("wait".into(), false)
        );
        assert_eq!(find(&["c", "--json", "run", "--x"]), ("run".into(), true));
        assert_eq!(find(&["c"]), (String::new(), false));
    }
}
