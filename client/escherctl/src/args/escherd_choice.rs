//! The options that choose an escherd.

use std::path::PathBuf;

use clap::error::ErrorKind;
use clap::{Arg, ArgMatches, Args, Command};
use escher_client::SocketChoice;

/// The options. They exclude each other, on whichever side of the verb they stand.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
pub(crate) struct EscherdArgs {
    /// Connect to this socket [default: $ESCHER_SOCKET, else the system's; where that is missing or you
    /// may not use it, that of your own escherd]
    #[arg(long, global = true, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// Use the system's escherd
    #[arg(long, global = true)]
    system: bool,
    /// Use your own escherd; with `run`, `submit` and `quota` only before the verb
    #[arg(id = OWN, long = "user")]
    own: bool,
}

/// The id of `--user` as the option that chooses an escherd.
const OWN: &str = "own_escherd";

impl EscherdArgs {
    /// Reads them from the matches of the whole command line.
    pub(crate) fn of(matches: &ArgMatches) -> Self {
        EscherdArgs {
            socket: value(matches, "socket"),
            system: value(matches, "system").unwrap_or_default(),
            own: is_own(matches),
        }
    }

    /// Fails if there is more than one.
    pub(crate) fn ensure_one(&self, definition: &mut Command) -> Result<(), clap::Error> {
        let options = [
            ("--socket", self.socket.is_some()),
            ("--system", self.system),
            ("--user", self.own),
        ];
        let mut given = options.into_iter().filter(|(_, is_given)| *is_given);
        match (given.next(), given.next()) {
            (Some((one, _)), Some((other, _))) => {
                let message = format!("the argument '{one}' cannot be used with '{other}'");
                Err(definition.error(ErrorKind::ArgumentConflict, message))
            }
            _ => Ok(()),
        }
    }

    /// Whether the user's own escherd is chosen.
    pub(crate) fn is_own(&self) -> bool {
        self.own
    }

    /// Returns the sockets that may be used.
    pub(crate) fn choice(self) -> SocketChoice {
        match self.socket {
            Some(path) => SocketChoice::path(path),
            None if self.own => SocketChoice::user(),
            None if self.system => SocketChoice::system(),
            None => SocketChoice::by_default(),
        }
    }
}

/// Lets `--user` stand behind the verbs, too, that have no option of this name. clap's global options
/// cannot do that: they are added to all verbs.
pub(super) fn accept_behind_verbs(definition: Command) -> Command {
    let option = definition.get_arguments().find(|arg| arg.get_id() == OWN);
    match option.cloned() {
        Some(option) => add_to_verbs(definition, &option),
        None => definition,
    }
}

fn add_to_verbs(command: Command, option: &Arg) -> Command {
    command.mut_subcommands(|verb| {
        let has_own = verb
            .get_arguments()
            .any(|arg| arg.get_long() == option.get_long());
        if has_own {
            verb
        } else {
            add_to_verbs(verb.arg(option.clone()), option)
        }
    })
}

fn is_own(matches: &ArgMatches) -> bool {
    let is_here = value(matches, OWN).unwrap_or_default();
    is_here || matches.subcommand().is_some_and(|(_, verb)| is_own(verb))
}

/// Returns the value of an option, unless the arguments were too incomplete to have one.
fn value<T: Clone + Send + Sync + 'static>(matches: &ArgMatches, id: &str) -> Option<T> {
    matches.try_get_one(id).ok().flatten().cloned()
}
