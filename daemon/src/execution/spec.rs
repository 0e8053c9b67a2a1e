//! What a shim is told to run.

use escher_launcher::wire::LaunchSpec;
use escher_protocol::{Blob, StdinMode};

use super::Execution;

/// PATH of a command whose request sets none: what systemd gives to services (systemd.exec(5)).
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The variable that tells a command which execution it is. A request cannot set it.
const ID_VARIABLE: &[u8] = b"ESCHER_EXECUTION_ID";

/// The launch of `execution`, with an environment built from nothing: the account's variables, then those
/// of the request, then the execution's id.
#[must_use]
pub fn launch_spec(execution: &Execution) -> LaunchSpec {
    let Execution {
        request,
        checked,
        account,
        ..
    } = execution;
    let home = account.home.clone();
    LaunchSpec {
        id: execution.id,
        argv: request.command.to_argv(),
        environment: environment(execution),
        working_dir: request.working_dir.clone().unwrap_or(home),
        or_root: request.working_dir.is_none(),
        identity: account.identity.clone(),
        stdin: request.stdin == StdinMode::Stream,
        timeout_ms: checked.timeout_ms,
        kill_grace_ms: checked.kill_grace_ms,
    }
}

fn environment(execution: &Execution) -> Vec<Blob> {
    let account = &execution.account;
    let login = account.user.to_string();
    let id = execution.id.to_string();
    let base: [(&[u8], &[u8]); 5] = [
        (b"PATH", DEFAULT_PATH.as_bytes()),
        (b"HOME", &account.home),
        (b"SHELL", &account.shell),
        (b"USER", login.as_bytes()),
        (b"LOGNAME", login.as_bytes()),
    ];
    let asked = &execution.request.environment;
    let is_overridden = |name: &[u8], later: &[(Blob, Blob)]| {
        name == ID_VARIABLE || later.iter().any(|(other, _)| **other == *name)
    };
    let mut variables = Vec::with_capacity(base.len() + asked.len() + 1);
    for (name, value) in base {
        if !is_overridden(name, asked) {
            variables.push(variable(name, value));
        }
    }
    for (index, (name, value)) in asked.iter().enumerate() {
        if !is_overridden(name, &asked[index + 1..]) {
            variables.push(variable(name, value));
        }
    }
    variables.push(variable(ID_VARIABLE, id.as_bytes()));
    variables
}

fn variable(name: &[u8], value: &[u8]) -> Blob {
    [name, b"=", value].concat().into()
}
