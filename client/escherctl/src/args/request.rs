//! From arguments to a request.

use std::path::{Path, PathBuf};

use escher_client::{Blob, Command, ExecutionRequest, Parts, RunAs, StdinMode, Timeout};
use uuid::Uuid;

use crate::args::RequestArgs;
use crate::args::property;
use crate::args::values::EnvironmentEntry;
use crate::failure::Failure;

/// The request that `args` describe. It has a key in any case, so that it may be repeated when the
/// connection is lost.
pub(crate) fn make(args: RequestArgs, stdin: StdinMode) -> Result<ExecutionRequest, Failure> {
    let directory = working_dir(args.workdir.as_deref())?;
    let command = match args.shell {
        Some(text) => Command::Shell {
            text: text.into(),
            shell: None,
        },
        None => Command::Exec {
            argv: args.command.into_iter().map(Blob::from).collect(),
        },
    };
    let environment = args.env.into_iter().filter_map(EnvironmentEntry::resolve);
    Ok(ExecutionRequest {
        key: Some(args.key.unwrap_or_else(fresh_key).into()),
        name: args.name.map(Into::into),
        command,
        environment: environment
            .map(|(name, value)| (name.into(), value.into()))
            .collect(),
        working_dir: Some(directory.into_os_string().into()),
        run_as: args.user.map_or(RunAs::Caller, |user| user.0),
        stdin,
        timeout: args.timeout.map_or(Timeout::Default, |timeout| timeout.0),
        kill_grace_ms: args.kill_after.map(|grace| grace.0),
        limits: property::limits(&args.properties),
        labels: args
            .labels
            .into_iter()
            .map(|label| (label.0, label.1))
            .collect(),
        parts: Parts::new(),
    })
}

fn fresh_key() -> String {
    Uuid::now_v7().to_string()
}

/// Absolute, but not resolved: that is done with the command's own authority.
fn working_dir(given: Option<&Path>) -> Result<PathBuf, Failure> {
    match given {
        Some(given) if given.is_absolute() => Ok(given.to_owned()),
        given => {
            let here = std::env::current_dir().map_err(Failure::WorkingDirectory)?;
            let there = given.map_or(here.clone(), |given| here.join(given));
            // Leaves out `.`; `..` stays, it may lead elsewhere through a link.
            Ok(there.components().collect())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_are_relative_to_the_callers() {
        let here = std::env::current_dir().unwrap();
        assert_eq!(working_dir(None).unwrap(), here);
        assert_eq!(working_dir(Some(Path::new("."))).unwrap(), here);
        assert_eq!(
            working_dir(Some(Path::new("./a/../b"))).unwrap(),
            here.join("a/../b")
        );
        assert_eq!(
            working_dir(Some(Path::new("/x/"))).unwrap(),
            Path::new("/x/")
        );
    }
}
