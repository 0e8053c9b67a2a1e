//! Why a command could not be started. The report of its shim has the step and the errno; what was tried is known
//! here.

use escher_launcher::ipc::wire::MissingInterpreter;
use escher_protocol::invisible::is_invisible;
use escher_protocol::{ApiError, Blob, ErrorCode, StartStage};
use nix::errno::Errno;

/// What was to be started, as far as an error names it.
#[derive(Debug, Clone, Copy)]
pub struct StartAttempt<'a> {
    /// The program, as the request names it.
    pub program: &'a Blob,
    /// Whether the request has a program alone, without arguments.
    pub is_alone: bool,
    /// The PATH in which a program without a slash was looked up, if it is still known.
    pub search_path: Option<&'a Blob>,
    /// The directory that the request names, if it does.
    pub working_dir: Option<&'a Blob>,
    /// The interpreter that does not exist, if the program is a script.
    pub missing_interpreter: Option<&'a MissingInterpreter>,
}

/// Returns the message about an attempt that failed at this step with this errno, and a hint in place of the usual one;
/// `None` where there is nothing to name.
pub(super) fn explain(
    stage: StartStage,
    errno: i32,
    attempt: StartAttempt<'_>,
) -> Option<(String, Option<String>)> {
    let errno = Errno::from_raw(errno);
    let reason = describe(stage, errno);
    let is_missing = matches!(errno, Errno::ENOENT | Errno::ENOTDIR);
    let program = attempt.program.to_string_lossy();
    let is_path = attempt.program.contains(&b'/');
    if let (StartStage::Exec, Some(missing)) = (stage, attempt.missing_interpreter) {
        let (message, hint) = explain_interpreter(missing, attempt.program);
        return Some((format!("{message}: {reason}"), Some(hint)));
    }
    match stage {
        StartStage::WorkingDirectory => {
            let directory = attempt.working_dir?.to_string_lossy();
            let message = format!("cannot enter the working directory {directory}: {reason}");
            Some((message, None))
        }
        StartStage::Exec if is_missing && is_path => {
            let hint = "if the file is there, what executes it is not: the interpreter of its first line (#!), or the \
                        dynamic loader of the system for which it was built";
            let message = format!("cannot execute {program}: {reason}");
            Some((message, Some(hint.to_owned())))
        }
        StartStage::Exec if is_missing => {
            let searched = match attempt.search_path {
                Some(path) => format!("is not in PATH ({})", path.to_string_lossy()),
                None => "is not in PATH".to_owned(),
            };
            let is_command_line = attempt.is_alone && program.contains(char::is_whitespace);
            let hint = if is_command_line {
                format!("for a shell: escherctl run --shell {program:?}")
            } else {
                "give its path, or a PATH with its directory (-e PATH=...)".to_owned()
            };
            let message = format!("program not found: {program:?} {searched}: {reason}");
            Some((message, Some(hint)))
        }
        StartStage::Exec => Some((format!("cannot execute {program}: {reason}"), None)),
        _ => None,
    }
}

/// Returns message and hint about an interpreter that does not exist.
fn explain_interpreter(missing: &MissingInterpreter, program: &Blob) -> (String, String) {
    let script = quoted_if_odd(missing.script.as_ref().unwrap_or(program));
    let interpreter = quoted_if_odd(&missing.interpreter);
    let message = format!("the interpreter {interpreter} of {script} was not found");
    if missing.interpreter.ends_with(b"\r") {
        let message = format!("{message}, since its first line ends in a carriage return");
        let hint =
            format!("save {script} with Unix line ends (LF) instead of Windows line ends (CRLF)");
        return (message, hint);
    }
    let hint = format!("install it, or correct the first line of {script} (#!)");
    (message, hint)
}

/// Returns a path, quoted and escaped if it has blanks or characters that nobody would see.
fn quoted_if_odd(path: &Blob) -> String {
    let path = path.to_string_lossy();
    if path.contains(|c: char| c.is_whitespace() || is_invisible(c)) {
        format!("{path:?}")
    } else {
        path.into_owned()
    }
}

/// Returns the error of a command that could not be started.
pub(super) fn not_started(stage: StartStage, errno: i32) -> ApiError {
    let errno = Errno::from_raw(errno);
    let reason = describe(stage, errno);
    let error = match (stage, errno) {
        (StartStage::Exec, Errno::ENOENT | Errno::ENOTDIR) => ApiError::new(
            ErrorCode::PROGRAM_NOT_FOUND,
            format!("program not found: {reason}"),
        ),
        _ => ApiError::new(
            ErrorCode::START_FAILED,
            format!("cannot be started: {reason}"),
        ),
    };
    match hint(stage, errno) {
        Some(hint) => error.with_hint(hint),
        None => error,
    }
}

/// Describes the error of a system call at a stage of a start.
fn describe(stage: StartStage, errno: Errno) -> String {
    let stage_name = stage.name();
    format!("{} ({errno:?}, at stage {stage_name})", errno.desc())
}

fn hint(stage: StartStage, errno: Errno) -> Option<&'static str> {
    match (stage, errno) {
        (StartStage::Exec, Errno::EACCES) => Some(
            "the file must be executable by the user, and every directory of its path searchable",
        ),
        (StartStage::Exec, Errno::ENOEXEC) => {
            Some("a script needs a first line such as #!/bin/sh, or run it by its interpreter")
        }
        (StartStage::Exec, Errno::E2BIG) => Some(
            "arguments and environment together are limited by the kernel (execve(2)); pass a file or standard input",
        ),
        (StartStage::WorkingDirectory, Errno::EACCES) => Some(
            "the command's user needs search permission (x) on it and on its parents; choose another one with -w DIR",
        ),
        (StartStage::WorkingDirectory, _) => Some("choose another one with -w DIR"),
        (StartStage::Attributes | StartStage::Limits, Errno::EPERM | Errno::EACCES) => Some(
            "to set more than a command gets by itself, root needs the capabilities CAP_SYS_NICE (Nice) and \
             CAP_SYS_RESOURCE (OOMScoreAdjust, Limit*), which it may lack in a container; no LimitNOFILE is \
             over fs.nr_open",
        ),
        (StartStage::Limits, Errno::ENOTSUP) => {
            Some("resource limits need a cgroup v2 that is delegated to the launcher")
        }
        (StartStage::Prepare | StartStage::Exec, Errno::EAGAIN) => {
            Some("a limit on processes is reached; try again later")
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_tried_is_named() {
        let (path, directory) = (Blob::from("/usr/bin:/bin"), Blob::from("/closed"));
        let explained = |stage, errno, program: &str, is_alone| {
            let program = Blob::from(program);
            let attempt = StartAttempt {
                program: &program,
                is_alone,
                search_path: Some(&path),
                working_dir: Some(&directory),
                missing_interpreter: None,
            };
            explain(stage, errno as i32, attempt).unwrap()
        };
        for (stage, errno, program, is_alone, message, hint) in [
            (
                StartStage::Exec,
                Errno::ENOENT,
                "cargo",
                false,
                "program not found: \"cargo\" is not in PATH (/usr/bin:/bin): No such file",
                Some("-e PATH"),
            ),
            (
                StartStage::Exec,
                Errno::ENOENT,
                "echo hi",
                true,
                "\"echo hi\" is not in PATH",
                Some("--shell \"echo hi\""),
            ),
            (
                StartStage::Exec,
                Errno::ENOENT,
                "/srv/x",
                true,
                "cannot execute /srv/x: No such file",
                Some("dynamic loader"),
            ),
            (
                StartStage::Exec,
                Errno::EACCES,
                "/srv/x",
                true,
                "cannot execute /srv/x: Permission denied (EACCES, at stage exec)",
                None,
            ),
            (
                StartStage::WorkingDirectory,
                Errno::EACCES,
                "x",
                true,
                "cannot enter the working directory /closed: Permission denied",
                None,
            ),
        ] {
            let (found, found_hint) = explained(stage, errno, program, is_alone);
            assert!(found.contains(message), "{found}");
            let found_hint = found_hint.as_deref();
            assert_eq!(found_hint.is_some(), hint.is_some(), "{found_hint:?}");
            assert!(found_hint.unwrap_or("").contains(hint.unwrap_or("")));
        }
        let program = Blob::from("x");
        let attempt = StartAttempt {
            program: &program,
            is_alone: true,
            search_path: None,
            working_dir: None,
            missing_interpreter: None,
        };
        assert_eq!(explain(StartStage::Uid, Errno::EPERM as i32, attempt), None);
    }
    #[test]
    fn a_missing_interpreter_is_named_and_escaped() {
        let program = Blob::from("./script.sh");
        let end = "No such file or directory (ENOENT, at stage exec)";
        for (interpreter, script, message, hint) in [
            (
                &b"/bin/nosuch"[..],
                None,
                "the interpreter /bin/nosuch of ./script.sh was not found: ",
                "correct the first line of ./script.sh",
            ),
            (
                b"/no",
                Some("/usr/bin/middle"),
                "the interpreter /no of /usr/bin/middle was not found: ",
                "correct the first line of /usr/bin/middle",
            ),
            (
                b"/bin/sh\r",
                None,
                "the interpreter \"/bin/sh\\r\" of ./script.sh was not found, since its first line ends in a carriage \
                 return: ",
                "Unix line ends",
            ),
            (
                b"/\x1b[2J\xff",
                Some("/a b"),
                "the interpreter \"/\\u{1b}[2J\u{fffd}\" of \"/a b\" was not found: ",
                "install it",
            ),
        ] {
            let missing = MissingInterpreter {
                interpreter: interpreter.into(),
                script: script.map(Blob::from),
            };
            let attempt = StartAttempt {
                program: &program,
                is_alone: true,
                search_path: None,
                working_dir: None,
                missing_interpreter: Some(&missing),
            };
            let explained = explain(StartStage::Exec, Errno::ENOENT as i32, attempt);
            let (found, found_hint) = explained.unwrap();
            assert_eq!(found, format!("{message}{end}"));
            assert!(found_hint.unwrap().contains(hint));
        }
    }
}
