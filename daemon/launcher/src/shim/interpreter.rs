//! Which interpreter is missing where execve(2) says only that something was not found.
//!
//! This is for the child between clone(2) and execve(2): it does not allocate and does not panic.

use std::ffi::CStr;

/// How many bytes of a script the kernel looks at (`BINPRM_BUF_SIZE`).
pub(super) const FIRST_BYTES: usize = 256;

/// How many scripts may be interpreters of each other: more than the kernel allows.
const MAX_SCRIPTS: usize = 8;

/// The first bytes of a file, filled up with zeros.
pub(super) type FirstBytes = [u8; FIRST_BYTES];

/// The path of an interpreter, with a final NUL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct InterpreterPath([u8; FIRST_BYTES]);

impl InterpreterPath {
    pub(super) fn as_c_str(&self) -> &CStr {
        CStr::from_bytes_until_nul(&self.0).unwrap_or(c"")
    }
}

/// An interpreter that does not exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct MissingInterpreter {
    /// Its path, as the script names it.
    pub(super) interpreter: InterpreterPath,
    /// The script that names it; `None`: the program itself.
    pub(super) script: Option<InterpreterPath>,
}

/// Returns the interpreter that is missing where executing `program` has failed with `ENOENT` or
/// `ENOTDIR`: its own, or that of an interpreter that is a script as well. `read_first` reads the
/// first bytes of a file, or returns its errno.
pub(super) fn find_missing(
    program: &CStr,
    read_first: impl Fn(&CStr) -> Result<FirstBytes, i32>,
) -> Option<MissingInterpreter> {
    let mut first = read_first(program).ok()?;
    let mut script = None;
    for _ in 0..MAX_SCRIPTS {
        let interpreter = interpreter_of(&first)?;
        match read_first(interpreter.as_c_str()) {
            Ok(bytes) => first = bytes,
            Err(libc::ENOENT | libc::ENOTDIR) => {
                return Some(MissingInterpreter {
                    interpreter,
                    script,
                });
            }
            Err(_) => return None,
        }
        script = Some(interpreter);
    }
    None
}

/// Returns the interpreter that a script's first line names, as the kernel reads it
/// (`load_script` in fs/binfmt_script.c).
fn interpreter_of(first: &FirstBytes) -> Option<InterpreterPath> {
    let line = first.strip_prefix(b"#!")?;
    let is_blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    let start = line.iter().position(|byte| !is_blank(byte))?;
    let rest = line.get(start..)?;
    // Without an end, the name may go on beyond these bytes.
    let ends_name = |byte: &u8| is_blank(byte) || matches!(byte, b'\n' | b'\0');
    let name = rest.get(..rest.iter().position(ends_name)?)?;
    if name.is_empty() {
        return None;
    }
    let mut path = [0; FIRST_BYTES];
    for (to, from) in path.iter_mut().zip(name) {
        *to = *from;
    }
    Some(InterpreterPath(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first(text: &[u8]) -> FirstBytes {
        let mut bytes = [0; FIRST_BYTES];
        for (to, from) in bytes.iter_mut().zip(text) {
            *to = *from;
        }
        bytes
    }

    #[test]
    fn the_first_line_is_read_as_the_kernel_reads_it() {
        let longest = [b"#!/", "x".repeat(FIRST_BYTES - 4).as_bytes(), b"\n"].concat();
        let too_long = [b"#!/", "x".repeat(FIRST_BYTES).as_bytes(), b"\n"].concat();
        for (text, expected) in [
            (&b"#!/bin/sh\necho"[..], Some(&b"/bin/sh"[..])),
            (b"#! \t /bin/sh -e\n", Some(b"/bin/sh")),
            (b"#!/bin/sh\r\n", Some(b"/bin/sh\r")),
            (b"#!/bin/sh\r -e\r\n", Some(b"/bin/sh\r")),
            (b"#!sh", Some(b"sh")),
            (b"#!/\x1b[2J\xff\n", Some(b"/\x1b[2J\xff")),
            (&longest, Some(&longest[2..FIRST_BYTES - 1])),
            (&too_long, None),
            (b"#!\n/bin/sh\n", None),
            (b"#!  \n", None),
            (b"#!\0\0/bin/sh", None),
            (b"# !/bin/sh\n", None),
            (b"\x7fELF", None),
            (b"#", None),
            (b"", None),
        ] {
            let found = interpreter_of(&first(text));
            let found = found.as_ref().map(|path| path.as_c_str().to_bytes());
            assert_eq!(found, expected, "{}", text.escape_ascii());
        }
    }

    #[test]
    fn the_missing_one_of_interpreters_that_are_scripts_is_found() {
        let read = |path: &CStr| match path.to_bytes() {
            b"outer" => Ok(first(b"#!middle\n")),
            b"middle" => Ok(first(b"#!gone\n")),
            b"plain" => Ok(first(b"#!gone -x\n")),
            b"below-a-file" => Ok(first(b"#!file/sh\n")),
            b"closed" => Ok(first(b"#!secret\n")),
            b"circle" => Ok(first(b"#!circle\n")),
            b"whole" => Ok(first(b"#!program\n")),
            b"program" => Ok(first(b"\x7fELF")),
            b"secret" => Err(libc::EACCES),
            b"file/sh" => Err(libc::ENOTDIR),
            _ => Err(libc::ENOENT),
        };
        for (program, expected) in [
            (c"plain", Some((c"gone", None))),
            (c"outer", Some((c"gone", Some(c"middle")))),
            (c"below-a-file", Some((c"file/sh", None))),
            (c"closed", None),
            (c"circle", None),
            (c"whole", None),
            (c"program", None),
            (c"nothing", None),
        ] {
            let found = find_missing(program, read);
            let found = found.as_ref().map(|missing| {
                let script = missing.script.as_ref();
                let script = script.map(InterpreterPath::as_c_str);
                (missing.interpreter.as_c_str(), script)
            });
            assert_eq!(found, expected, "{program:?}");
        }
    }
}
