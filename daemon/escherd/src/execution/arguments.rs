//! The arguments and the environment of a command, within the limits of execve(2).

use std::collections::HashMap;
use std::sync::LazyLock;

use escher_protocol::execution::{MAX_VARIABLE_NAME_BYTES, MAX_VARIABLES};
use escher_protocol::{ApiError, Blob, ErrorCode, ExecutionId, ExecutionRequest};
use nix::sys::resource::{Resource, getrlimit};

use super::process_limits::stack_limit;
use crate::authz::Account;

/// PATH of a command whose request sets none: what systemd gives to services (systemd.exec(5)).
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The variable with the id of the execution. A request cannot set it.
const ID_VARIABLE: &[u8] = b"ESCHER_EXECUTION_ID";

/// Longest argument or variable with its NUL, in bytes: MAX_ARG_STRLEN of execve(2).
const MAX_STRING_BYTES: usize = 128 * 1024;

/// Least and most bytes that the kernel allows for arguments and environment, whatever the limit of the stack
/// (ARG_MAX, and three quarters of _STK_LIM, in fs/exec.c since Linux 4.13).
const ARGUMENT_BYTES: std::ops::RangeInclusive<u64> = 128 * 1024..=6 * 1024 * 1024;

/// The limit of the stack of a command whose request sets none, which it has in common with escherd.
static STACK_BYTES: LazyLock<u64> =
    LazyLock::new(|| getrlimit(Resource::RLIMIT_STACK).map_or(0, |(soft, _)| soft));

/// Returns the most bytes of arguments, environment and the pointers to them: a quarter of the limit of the stack
/// (execve(2)).
fn max_argument_bytes(stack_bytes: u64) -> u64 {
    (stack_bytes / 4).clamp(*ARGUMENT_BYTES.start(), *ARGUMENT_BYTES.end())
}

/// Builds the environment of a command from nothing: the variables of the account, what the request inherits and sets,
/// of which the last of each name counts, and the id of the execution.
pub(super) fn environment(
    request: &ExecutionRequest,
    account: &Account,
    id: ExecutionId,
) -> Vec<Blob> {
    let login = account.user.to_string();
    let id = id.to_string();
    let base: [(&[u8], &[u8]); 5] = [
        (b"PATH", DEFAULT_PATH.as_bytes()),
        (b"HOME", &account.home),
        (b"SHELL", &account.shell),
        (b"USER", login.as_bytes()),
        (b"LOGNAME", login.as_bytes()),
    ];
    let requested = || request.inherited.iter().chain(&request.environment);
    let last: HashMap<&[u8], usize> = requested()
        .enumerate()
        .map(|(index, (name, _))| (&**name, index))
        .collect();
    let mut variables = Vec::with_capacity(base.len() + requested().count() + 1);
    for (name, value) in base {
        if !last.contains_key(name) {
            variables.push(variable(name, value));
        }
    }
    for (index, (name, value)) in requested().enumerate() {
        if last.get(&**name) == Some(&index) && **name != *ID_VARIABLE {
            variables.push(variable(name, value));
        }
    }
    variables.push(variable(ID_VARIABLE, id.as_bytes()));
    variables
}

fn variable(name: &[u8], value: &[u8]) -> Blob {
    [name, b"=", value].concat().into()
}

/// Checks that the kernel will take the arguments and the environment of `request`.
///
/// # Errors
/// `invalid-request` or `arguments-too-long`, with the limit and the figure.
pub fn check_arguments(request: &ExecutionRequest, account: &Account) -> Result<(), ApiError> {
    let variables = request.inherited.len() + request.environment.len();
    if variables > MAX_VARIABLES {
        let message = format!("{variables} environment variables are more than {MAX_VARIABLES}");
        return Err(ApiError::new(ErrorCode::INVALID_REQUEST, message));
    }
    for (name, _) in request.inherited.iter().chain(&request.environment) {
        if name.len() > MAX_VARIABLE_NAME_BYTES {
            let message = format!(
                "the name of an environment variable has {} bytes, more than {MAX_VARIABLE_NAME_BYTES}",
                name.len()
            );
            return Err(ApiError::new(ErrorCode::INVALID_REQUEST, message));
        }
    }
    let (argv, id) = (request.command.to_argv(), ExecutionId::generate());
    let environment = environment(request, account, id);
    let stack_bytes = stack_limit(&request.process).unwrap_or(*STACK_BYTES);
    check_size(&argv, &environment, max_argument_bytes(stack_bytes))
}

/// Checks the strings of execve(2) one by one and together, as bprm_stack_limits() in fs/exec.c of Linux does.
fn check_size(argv: &[Blob], environment: &[Blob], max_bytes: u64) -> Result<(), ApiError> {
    // A program that is looked up has a path that is not known here.
    let program = argv.first().filter(|program| program.contains(&b'/'));
    let strings = argv.iter().chain(environment).chain(program);
    let mut bytes = 0;
    for (index, string) in strings.enumerate() {
        let length = string.len() + 1;
        if length > MAX_STRING_BYTES {
            let what = if index < argv.len() {
                format!("argument {index}")
            } else {
                let name = string
                    .split(|byte| *byte == b'=')
                    .next()
                    .unwrap_or_default();
                format!("the environment variable {}", String::from_utf8_lossy(name))
            };
            return Err(too_long(format!(
                "{what} has {length} bytes with its NUL, more than {MAX_STRING_BYTES}"
            )));
        }
        bytes += length as u64;
    }
    bytes += ((argv.len() + environment.len()) * size_of::<usize>()) as u64;
    if bytes > max_bytes {
        return Err(too_long(format!(
            "arguments and environment have {bytes} bytes with the pointers to them, more than {max_bytes}"
        )));
    }
    Ok(())
}

fn too_long(message: String) -> ApiError {
    ApiError::new(
        ErrorCode::ARGUMENTS_TOO_LONG,
        format!("{message} (the limit of the kernel, E2BIG)"),
    )
    .with_hint("pass a file or standard input instead")
}

#[cfg(test)]
mod tests {
    use super::*;
    use escher_protocol::{Command, Rlimit, RlimitResource, User};

    fn account() -> Account {
        Account {
            user: User {
                uid: 1,
                name: Some("me".into()),
            },
            home: "/home/me".into(),
            shell: "/bin/sh".into(),
            identity: None,
        }
    }

    fn blobs(strings: &[&str]) -> Vec<Blob> {
        strings.iter().map(|text| Blob::from(*text)).collect()
    }

    fn request(environment: Vec<(Blob, Blob)>) -> ExecutionRequest {
        ExecutionRequest {
            command: Command::Exec {
                argv: blobs(&["true"]),
            },
            environment,
            ..ExecutionRequest::default()
        }
    }

    #[test]
    fn the_last_variable_of_a_name_counts_and_the_id_cannot_be_set() {
        let id = ExecutionId::from_bytes([1; 16]);
        let requested: Vec<(Blob, Blob)> = [
            ("A", "1"),
            ("HOME", "/elsewhere"),
            ("A", "2"),
            ("ESCHER_EXECUTION_ID", "mine"),
        ]
        .map(|(name, value)| (name.into(), value.into()))
        .into();
        let id_variable = format!("ESCHER_EXECUTION_ID={id}");
        let path = format!("PATH={DEFAULT_PATH}");
        let expected = [
            path.as_str(),
            "USER=me",
            "LOGNAME=me",
            "SHELL=/bin/zsh",
            "HOME=/elsewhere",
            "A=2",
            id_variable.as_str(),
        ];
        let request = ExecutionRequest {
            inherited: vec![
                ("A".into(), "0".into()),
                ("SHELL".into(), "/bin/zsh".into()),
            ],
            ..request(requested)
        };
        assert_eq!(environment(&request, &account(), id), blobs(&expected));
    }

    #[test]
    fn the_number_of_variables_and_their_names_are_bounded() {
        let variables = |count: usize| {
            let variables = (0..count).map(|n| (Blob::from(&*format!("V{n}")), Blob::default()));
            check_arguments(&request(variables.collect()), &account())
        };
        assert_eq!(variables(MAX_VARIABLES), Ok(()));
        let error = variables(MAX_VARIABLES + 1).unwrap_err();
        assert_eq!(error.code, ErrorCode::INVALID_REQUEST);
        assert!(error.message.contains("4097"), "{error}");
        let named = |length: usize| {
            check_arguments(
                &request(vec![(Blob::from(&*"n".repeat(length)), Blob::default())]),
                &account(),
            )
        };
        assert_eq!(named(MAX_VARIABLE_NAME_BYTES), Ok(()));
        let error = named(MAX_VARIABLE_NAME_BYTES + 1).unwrap_err();
        assert_eq!(error.code, ErrorCode::INVALID_REQUEST);
        assert!(error.message.contains("256"), "{error}");
    }

    #[test]
    fn each_string_is_bounded() {
        let check = |argument: usize, value: usize| {
            let argv = blobs(&["true", &"x".repeat(argument)]);
            let environment = blobs(&[&format!("LONG={}", "x".repeat(value))]);
            check_size(&argv, &environment, u64::MAX)
        };
        let (longest, longest_value) = (MAX_STRING_BYTES - 1, MAX_STRING_BYTES - 1 - "LONG=".len());
        assert_eq!(check(longest, longest_value), Ok(()));
        let error = check(longest + 1, 0).unwrap_err();
        assert_eq!(error.code, ErrorCode::ARGUMENTS_TOO_LONG);
        assert!(error.message.contains("argument 1 has 131073"), "{error}");
        let error = check(0, longest_value + 1).unwrap_err();
        assert!(
            error.message.contains("variable LONG has 131073"),
            "{error}"
        );
    }

    #[test]
    fn a_lower_limit_of_the_stack_leaves_less_room_for_arguments() {
        let mebibyte = 1 << 20;
        for (stack, most) in [
            (0, 128 * 1024),
            (4 * mebibyte, mebibyte),
            (u64::MAX, 6 * mebibyte),
        ] {
            assert_eq!(max_argument_bytes(stack), most, "{stack}");
        }
        let long = "x".repeat(100_000);
        let mut request = ExecutionRequest {
            command: Command::Exec {
                argv: blobs(&["true", &long, &long]),
            },
            ..ExecutionRequest::default()
        };
        let with_stack = |request: &mut ExecutionRequest, soft| {
            request.process.rlimits = vec![Rlimit {
                resource: RlimitResource::Stack,
                soft,
                hard: Rlimit::INFINITY,
            }];
            check_arguments(request, &account())
        };
        assert_eq!(with_stack(&mut request, mebibyte), Ok(()));
        let error = with_stack(&mut request, mebibyte / 2).unwrap_err();
        assert_eq!(error.code, ErrorCode::ARGUMENTS_TOO_LONG);
    }

    #[test]
    fn all_strings_together_are_bounded_with_their_pointers() {
        let (argv, environment) = (blobs(&["true", "1"]), blobs(&["A=1"]));
        let bytes = (5 + 2 + 4 + 3 * size_of::<usize>()) as u64;
        assert_eq!(check_size(&argv, &environment, bytes), Ok(()));
        let error = check_size(&argv, &environment, bytes - 1).unwrap_err();
        assert!(error.message.contains(&bytes.to_string()), "{error}");
        // A path is passed once more, as the file to execute.
        let argv = blobs(&["/true", "1"]);
        assert_eq!(check_size(&argv, &environment, bytes + 7), Ok(()));
        assert!(check_size(&argv, &environment, bytes + 6).is_err());
    }
}
