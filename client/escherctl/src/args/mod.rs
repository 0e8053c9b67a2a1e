//! What may be asked of escherctl, as the contract that scripts rely on says.

pub(crate) mod filter;
pub(crate) mod moment;
pub(crate) mod property;
pub(crate) mod request;
pub(crate) mod values;

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::{Args, Parser, Subcommand, ValueHint};

use crate::exit_status::{Conduct, conduct_of};
use moment::Moment;
use property::Property;
use values::{
    EnvironmentEntry, Filter, KillAfter, Label, Patience, SignalNumber, TimeoutValue, UserName,
};

const EXAMPLES: &str = "\
Examples:
  escherctl run make -j4                 run a command: output and exit status
  escherctl submit ./backup.sh           the same without waiting; prints the id
  escherctl ps -a                        what runs and what ran
  escherctl logs -f 17                   the output of number 17, as it comes
  escherctl cancel 17                    end it";

const RUN_EXAMPLES: &str = "\
Examples:
  escherctl run make -j4
  escherctl run --timeout 5m -w /srv/app ./deploy --now
  escherctl run -e RUST_LOG=debug -e HOME --name nightly cargo test
  escherctl run -p MemoryMax=2G -p CPUQuota=150% ./import
  escherctl run --shell 'sort < in | uniq -c > out'
  tar c . | escherctl run -i tar t";

const SUBMIT_EXAMPLES: &str = "\
Examples:
  id=$(escherctl submit make -j4); escherctl wait \"$id\"
  escherctl submit --key deploy-42 ./deploy      (asked twice, it runs once)";

const WAIT_EXAMPLES: &str = "\
Examples:
  escherctl wait 17; echo $?             exit status as if it had been run here
  escherctl wait 17 18 19                0 only if all completed";

const PS_EXAMPLES: &str = "\
Examples:
  escherctl ps                           what waits and runs
  escherctl ps -a --filter status=failed --filter label.team=web
  escherctl ps -a --since 2h             what was submitted within two hours
  escherctl ps -a --since 2026-03-01 --until '2026-03-02 12:00' --limit 0";

const RM_EXAMPLES: &str = "\
Examples:
  escherctl rm 17                        forget it: its record and its log
  escherctl rm 17 18 nightly";

const PRUNE_EXAMPLES: &str = "\
Examples:
  escherctl prune --until 30d            what is older than 30 days
  escherctl prune --filter status=completed --filter label.team=web
  escherctl prune                        everything that is finished";

const LOGS_EXAMPLES: &str = "\
Examples:
  escherctl logs 17                      all output so far
  escherctl logs -f -n 20 -t nightly     the last 20 lines and more, with times";

const KILL_EXAMPLES: &str = "\
Examples:
  escherctl kill -s HUP 17
  escherctl kill -s 9 nightly            (`cancel` ends the whole tree, gently)";

const PAUSE_EXAMPLES: &str = "\
Examples:
  escherctl pause 17                     stop it where it is
  escherctl pause 17; sleep 60; escherctl resume 17";

const RESUME_EXAMPLES: &str = "\
Examples:
  escherctl resume 17                    let it go on";

const CONFIG_EXAMPLES: &str = "\
Examples:
  escherctl config show                  what is in force, and from where
  escherctl config check                 is what escherd would read now right?
  escherctl config check ./escher.toml   is this file?";

const CONFIG_SHOW_EXAMPLES: &str = "\
Examples:
  escherctl config show
  escherctl config show --json | jq -r 'select(.origin != \"default\") | .name'";

const CONFIG_CHECK_EXAMPLES: &str = "\
Examples:
  escherctl config check                 what escherd would read now
  escherctl config check ./escher.toml   this file alone
  escherctl config check --user          what `escherd --user` would read";

const RELOAD_EXAMPLES: &str = "\
Examples:
  escherctl reload                       apply what was changed in its files
  escherctl config check && escherctl reload";

const DOCTOR_EXAMPLES: &str = "\
Examples:
  escherctl doctor                       is all well, and if not, what to do?
  sudo escherctl doctor -q               only what is not; root is told more
  escherctl doctor --json | jq -r 'select(.severity == \"failure\") | .advice'";

const METRICS_EXAMPLES: &str = "\
Examples:
  escherctl metrics                      all of them, as OpenMetrics text
  escherctl metrics | grep executions
  escherctl metrics > /var/lib/prometheus/node-exporter/escher.prom";

/// Runs commands through escherd: they outlive this terminal, and their output and results stay.
#[derive(Debug, Parser)]
#[command(
    name = "escherctl",
    version,
    before_help = EXAMPLES,
    max_term_width = 100,
    subcommand_value_name = "VERB",
    subcommand_help_heading = "Verbs"
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Everywhere")]
pub(crate) struct Global {
    /// escherd's socket [else $ESCHER_SOCKET, the system's, the user's]
    #[arg(long, global = true, value_name = "PATH")]
    pub(crate) socket: Option<PathBuf>,
    /// Answer in JSON, one object per line
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Say nothing of escherctl's own, such as how a command was ended
    #[arg(short, long, global = true)]
    pub(crate) quiet: bool,
    /// How long to wait for escherd when it goes away or does not answer, or `none` [else $ESCHER_RECONNECT, 60s]
    #[arg(long, global = true, value_name = "TIME")]
    pub(crate) reconnect: Option<Patience>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Run a command: its output, its exit status
    ///
    /// The first Ctrl-C (or SIGTERM, SIGHUP) cancels it, the second kills it, the third leaves without
    /// waiting for its end. Exit status: the command's own; 124 timed out; 125 escher failed; 126 it
    /// could not be started; 127 there is no such program; 128+n it died of signal n.
    #[command(before_help = RUN_EXAMPLES,
              override_usage = "escherctl run [OPTIONS] [--] COMMAND [ARG]...")]
    Run(RunArgs),
    /// Have a command run, print its id, do not wait
    #[command(before_help = SUBMIT_EXAMPLES,
              override_usage = "escherctl submit [OPTIONS] [--] COMMAND [ARG]...")]
    Submit(RequestArgs),
    /// Wait for the end; exit as the command did
    #[command(before_help = WAIT_EXAMPLES)]
    Wait(TargetsArgs),
    /// List executions
    #[command(before_help = PS_EXAMPLES)]
    Ps(PsArgs),
    /// Show everything that is known about an execution
    Inspect(TargetsArgs),
    /// Show the output of an execution, once it is finished
    Result(TargetArgs),
    /// Show the output of an execution from its log
    #[command(before_help = LOGS_EXAMPLES)]
    Logs(LogsArgs),
    /// Follow an execution from its first byte to its exit status; Ctrl-C only detaches
    Attach(TargetArgs),
    /// End an execution: SIGTERM, and SIGKILL after the grace period
    Cancel(TargetsArgs),
    /// Send a signal to an execution's main process
    #[command(before_help = KILL_EXAMPLES)]
    Kill(KillArgs),
    /// Stop an execution, with everything below it, until it is resumed or ended
    ///
    /// Its time goes on meanwhile: a timeout ends it, and so does `cancel`. It takes cgroups; where there are
    /// none, escherd says so.
    #[command(before_help = PAUSE_EXAMPLES)]
    Pause(TargetsArgs),
    /// Let a paused execution go on
    #[command(before_help = RESUME_EXAMPLES)]
    Resume(TargetsArgs),
    /// Forget finished executions, with their logs
    #[command(before_help = RM_EXAMPLES)]
    Rm(TargetsArgs),
    /// Forget all finished executions that fit, with their logs
    #[command(before_help = PRUNE_EXAMPLES)]
    Prune(PruneArgs),
    /// Show what happens to executions
    Events(EventsArgs),
    /// Show what escherd is doing, and its limits
    Info,
    /// Show what escherd counts, for Prometheus and its kin
    #[command(before_help = METRICS_EXAMPLES)]
    Metrics,
    /// Show escherd's settings, or check a configuration
    #[command(before_help = CONFIG_EXAMPLES, subcommand_value_name = "VERB", subcommand_help_heading = "Verbs")]
    Config(ConfigArgs),
    /// Have escherd read its configuration again
    ///
    /// What can change while escherd runs is in force at once; what waits for its restart is named. With
    /// a fault anywhere, nothing changes. For root and escherd's own user.
    #[command(before_help = RELOAD_EXAMPLES)]
    Reload,
    /// Examine escher, from the socket to the kernel, and say what to do where it is not well
    ///
    /// It looks at what can be seen from here, and has escherd look at the rest; if escherd does not run, it says
    /// what is known of why. Exit status: 0 if nothing has failed, 1 if something has.
    #[command(before_help = DOCTOR_EXAMPLES)]
    Doctor,
}

impl Verb {
    /// How its exit status is made.
    pub(crate) fn conduct(&self) -> Conduct {
        conduct_of(match self {
            Verb::Run(_) => "run",
            Verb::Attach(_) => "attach",
            Verb::Wait(_) => "wait",
            _ => "",
        })
    }
}

#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// Pass standard input on to the command [else it reads /dev/null]
    #[arg(short, long)]
    pub(crate) interactive: bool,
    /// Do not wait: print the id, as `submit` does
    #[arg(short, long, conflicts_with = "interactive")]
    pub(crate) detach: bool,
    #[command(flatten)]
    pub(crate) request: RequestArgs,
}

#[derive(Debug, Args)]
pub(crate) struct RequestArgs {
    /// Set a variable, or pass the caller's value of it
    #[arg(short, short_alias = 'E', long, value_name = "K[=V]",
          value_parser = OsStringValueParser::new().try_map(EnvironmentEntry::parse))]
    pub(crate) env: Vec<EnvironmentEntry>,
    /// Run it there [else in the current directory]
    #[arg(short, long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) workdir: Option<PathBuf>,
    /// End it after so long: 90s, 5m, 1h30m, 1500ms, none
    #[arg(long, value_name = "TIME")]
    pub(crate) timeout: Option<TimeoutValue>,
    /// Time between SIGTERM and SIGKILL when it is ended: 10s
    #[arg(long, value_name = "TIME")]
    pub(crate) kill_after: Option<KillAfter>,
    /// Run it as this user: a login name, or a number as #1000
    #[arg(short, long)]
    pub(crate) user: Option<UserName>,
    /// What it may use: MemoryMax=512M, CPUQuota=150%, TasksMax=100 (may be repeated)
    #[arg(short, long = "property", value_name = "NAME=VALUE")]
    pub(crate) properties: Vec<Property>,
    /// A name to find it by; begins with a letter
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// A label, for filters (may be repeated)
    #[arg(short, long = "label", value_name = "K=V")]
    pub(crate) labels: Vec<Label>,
    /// Asked again with the same key, it does not run again
    #[arg(long)]
    pub(crate) key: Option<String>,
    /// Run this text in /bin/sh, in place of a COMMAND
    #[arg(long, value_name = "TEXT", conflicts_with = "command")]
    pub(crate) shell: Option<OsString>,
    /// The program and its arguments; the first word that is no option begins it
    #[arg(
        required_unless_present = "shell",
        trailing_var_arg = true,
        value_name = "COMMAND"
    )]
    pub(crate) command: Vec<OsString>,
}

#[derive(Debug, Args)]
pub(crate) struct TargetArgs {
    /// A number, an id, a name, or 4 or more digits that begin or end an id
    #[arg(value_name = "ID")]
    pub(crate) target: String,
}

#[derive(Debug, Args)]
pub(crate) struct TargetsArgs {
    /// Numbers, ids, names, or 4 or more digits that begin or end an id
    #[arg(value_name = "ID", required = true)]
    pub(crate) targets: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct PsArgs {
    /// Finished ones too
    #[arg(short, long)]
    pub(crate) all: bool,
    /// Only these; K is status, user, name or label.KEY (may be repeated)
    #[arg(long = "filter", value_name = "K=V")]
    pub(crate) filters: Vec<Filter>,
    /// Only those submitted then or later: 2h (ago), 2026-03-01, '2026-03-01 12:30', RFC 3339
    #[arg(long, value_name = "TIME")]
    pub(crate) since: Option<Moment>,
    /// Only those submitted before
    #[arg(long, value_name = "TIME")]
    pub(crate) until: Option<Moment>,
    /// At most so many, the newest; 0 shows all
    #[arg(long, value_name = "N", default_value_t = DEFAULT_LIMIT)]
    pub(crate) limit: u32,
}

/// Most executions that `ps` shows unless it is told otherwise.
const DEFAULT_LIMIT: u32 = 100;

#[derive(Debug, Args)]
pub(crate) struct PruneArgs {
    /// Only these; K is status, user, name or label.KEY (may be repeated)
    #[arg(long = "filter", value_name = "K=V")]
    pub(crate) filters: Vec<Filter>,
    /// Only those submitted before: 30d (ago), 2026-03-01, '2026-03-01 12:30', RFC 3339
    #[arg(long, value_name = "TIME")]
    pub(crate) until: Option<Moment>,
}

#[derive(Debug, Args)]
pub(crate) struct LogsArgs {
    /// Go on as output comes, until the command ends
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// Begin at the last N lines
    #[arg(short = 'n', long = "lines", value_name = "N")]
    pub(crate) lines: Option<u64>,
    /// Only what was written to standard output
    #[arg(long, conflicts_with = "stderr")]
    pub(crate) stdout: bool,
    /// Only what was written to standard error
    #[arg(long)]
    pub(crate) stderr: bool,
    /// Begin each line with its time
    #[arg(short, long)]
    pub(crate) timestamps: bool,
    #[command(flatten)]
    pub(crate) target: TargetArgs,
}

#[derive(Debug, Args)]
pub(crate) struct KillArgs {
    /// The signal: TERM, SIGTERM or 15
    #[arg(short, long)]
    pub(crate) signal: SignalNumber,
    #[command(flatten)]
    pub(crate) targets: TargetsArgs,
}

#[derive(Debug, Args)]
pub(crate) struct EventsArgs {
    /// Go on as things happen
    #[arg(short, long)]
    pub(crate) follow: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ConfigArgs {
    #[command(subcommand)]
    pub(crate) verb: ConfigVerb,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigVerb {
    /// Show the settings that are in force, and where each comes from
    #[command(before_help = CONFIG_SHOW_EXAMPLES)]
    Show,
    /// Say what is wrong with a configuration; escherd need not run
    ///
    /// Exit status: 0 it is right; 1 it is not.
    #[command(before_help = CONFIG_CHECK_EXAMPLES)]
    Check(ConfigCheckArgs),
}

#[derive(Debug, Args)]
pub(crate) struct ConfigCheckArgs {
    /// As `escherd --user` would read it
    #[arg(long)]
    pub(crate) user: bool,
    /// The file: TOML, or JSON if it ends in .json [else what escherd would read]
    pub(crate) file: Option<PathBuf>,
}

/// The verb, and whether JSON is wanted, of arguments that do not parse.
pub(crate) fn glance(arguments: &[OsString]) -> (String, bool) {
    let mut verb = String::new();
    let mut json = false;
    let mut words = arguments.iter().skip(1).map(OsString::as_os_str);
    while let Some(word) = words.next() {
        if word == "--" {
            break;
        } else if word == "--json" {
            json = true;
        } else if word == "--socket" || word == "--reconnect" {
            words.next();
        } else if !is_option(word) && verb.is_empty() {
            verb = word.to_string_lossy().into_owned();
        }
    }
    (verb, json)
}

fn is_option(word: &OsStr) -> bool {
    word.as_encoded_bytes().starts_with(b"-")
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;
    use std::os::unix::ffi::OsStringExt;

    fn run(words: &[&str]) -> RequestArgs {
        let cli = Cli::try_parse_from([&["escherctl", "run"], words].concat()).unwrap();
        match cli.verb {
            Verb::Run(run) => run.request,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
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
        check(&Cli::command());
    }

    #[test]
    fn the_first_word_that_is_no_option_begins_the_command() {
        assert_eq!(
            run(&["-q", "ls", "-l", "--json"]).command,
            ["ls", "-l", "--json"]
        );
        assert_eq!(
            run(&["ls", "--", "-x", "-h"]).command,
            ["ls", "--", "-x", "-h"]
        );
        assert_eq!(
            run(&["--", "--odd", "--", "x"]).command,
            ["--odd", "--", "x"]
        );
        assert_eq!(run(&["-e", "A=1", "-E", "B", "env"]).env.len(), 2);
    }

    #[test]
    fn an_unknown_option_before_the_command_is_an_error() {
        assert!(Cli::try_parse_from(["escherctl", "run", "--tiemout", "5s", "ls"]).is_err());
    }

    #[test]
    fn a_shell_text_stands_in_place_of_a_command() {
        assert!(run(&["--shell", "a | b"]).command.is_empty());
        assert!(Cli::try_parse_from(["escherctl", "run", "--shell", "x", "ls"]).is_err());
        assert!(Cli::try_parse_from(["escherctl", "run"]).is_err());
    }

    #[test]
    fn global_options_stand_on_either_side_of_the_verb() {
        for words in [
            &["escherctl", "--json", "-q", "--socket", "/s", "ps"][..],
            &["escherctl", "ps", "--json", "-q", "--socket=/s"],
        ] {
            let cli = Cli::try_parse_from(words).unwrap();
            assert!(cli.global.json && cli.global.quiet);
            assert_eq!(cli.global.socket, Some(PathBuf::from("/s")));
        }
    }

    #[test]
    fn words_that_are_not_utf8_pass() {
        let odd = OsString::from_vec(b"\xff=\xfe".to_vec());
        let words = ["escherctl", "run", "-w"].map(OsString::from);
        let words = words
            .into_iter()
            .chain([odd.clone(), "-e".into(), odd.clone(), odd.clone()]);
        let cli = Cli::try_parse_from(words).unwrap();
        let Verb::Run(run) = cli.verb else { panic!() };
        assert_eq!(run.request.command, std::slice::from_ref(&odd));
        assert_eq!(run.request.workdir, Some(PathBuf::from(odd)));
    }

    #[test]
    fn a_glance_finds_verb_and_json() {
        let glance = |words: &[&str]| {
            let words: Vec<OsString> = words.iter().map(OsString::from).collect();
            super::glance(&words)
        };
        assert_eq!(
            glance(&["c", "--socket", "run", "ps", "--x"]),
            ("ps".into(), false)
        );
        assert_eq!(
            glance(&["c", "--reconnect", "5s", "wait"]),
            ("wait".into(), false)
        );
        assert_eq!(glance(&["c", "--json", "run", "--x"]), ("run".into(), true));
        assert_eq!(glance(&["c"]), (String::new(), false));
    }
}
