//! The sections at the end of a page: exit statuses, environment and files.

use clap_mangen::roff::{Roff, bold, roman};

/// What a program returns, reads and leaves.
pub(crate) struct Facts {
    /// Exit statuses of what does not say its own.
    pub(crate) exit_status: &'static [(&'static str, &'static str)],
    pub(crate) environment: &'static [(&'static str, &'static str)],
    pub(crate) files: &'static [(&'static str, &'static str)],
}

pub(crate) const ESCHERCTL: Facts = Facts {
    exit_status: &[
        ("0", "Success."),
        ("1", "escherd refused the request, or could not be reached."),
        ("2", "The command line makes no sense."),
    ],
    environment: &[
        (
            "ESCHER_SOCKET",
            "The socket of escherd, unless an option chooses one.",
        ),
        (
            "ESCHER_RECONNECT",
            "How long to wait for an escherd that is not there, as --reconnect.",
        ),
        (
            "ESCHER_COMPLETE",
            "bash, zsh or fish: print the completion script of this shell.",
        ),
        (
            "NO_COLOR, CLICOLOR_FORCE",
            "Never, or always, colour output, unless --color says otherwise.",
        ),
        ("TZ", "The time zone of times that are shown and given."),
        (
            "LC_ALL, LC_CTYPE, LANG",
            "The first that is set. If it is C or POSIX, or none is set, escherctl's own text is ASCII.",
        ),
        (
            "XDG_RUNTIME_DIR",
            "Where the socket of the user's own escherd is.",
        ),
    ],
    files: &[
        (
            "/run/escher/escherd.sock",
            "The socket of the system's escherd.",
        ),
        (
            "$XDG_RUNTIME_DIR/escher/escherd.sock",
            "The socket of the user's own escherd.",
        ),
        (
            "/var/log/escher/ID.log",
            "The output of an execution, with the system's escherd.",
        ),
    ],
};

pub(crate) const ESCHERD: Facts = Facts {
    exit_status: &[
        (
            "0",
            "It was stopped, or with --check the configuration is valid.",
        ),
        ("1", "It cannot serve."),
        ("2", "The configuration or the command line is invalid."),
    ],
    environment: &[
        (
            "EXEC_*",
            "Settings that override those of files: see escher.toml(5).",
        ),
        (
            "ESCHER_LOG",
            "What is logged: error, warn, info, debug or trace, for all or for parts of the program.",
        ),
        (
            "XDG_RUNTIME_DIR, XDG_STATE_HOME, XDG_CONFIG_HOME",
            "With --user, where its files are.",
        ),
    ],
    files: &[
        ("/etc/escher/escher.toml", "The configuration."),
        ("/run/escher", "The sockets."),
        (
            "/var/lib/escher",
            "The store, and exit records that no escherd has taken.",
        ),
        ("/var/log/escher", "The output of executions."),
    ],
};

pub(crate) const LAUNCHER: Facts = Facts {
    exit_status: &[
        ("0", "It was stopped, or escherd has ended."),
        ("1", "It cannot serve."),
        ("2", "The command line makes no sense."),
    ],
    environment: &[(
        "NOTIFY_SOCKET",
        "Set by systemd, which is told the state of the service.",
    )],
    files: &[
        (
            "/run/escher",
            "The sockets of the shims, each with the name of its execution.",
        ),
        ("/var/lib/escher", "Exit records that no escherd has taken."),
        ("/var/log/escher", "The output of executions."),
    ],
};

/// Adds the sections. `exit_status` is what the command itself says of it.
pub(crate) fn add(roff: &mut Roff, facts: &Facts, exit_status: Option<&str>) {
    roff.control("SH", ["EXIT STATUS"]);
    match exit_status {
        Some(text) => {
            roff.text([roman(text)]);
        }
        None => add_list(roff, facts.exit_status),
    }
    roff.control("SH", ["ENVIRONMENT"]);
    add_list(roff, facts.environment);
    roff.control("SH", ["FILES"]);
    add_list(roff, facts.files);
}

fn add_list(roff: &mut Roff, list: &[(&str, &str)]) {
    for (name, meaning) in list {
        roff.control("TP", []);
        roff.text([bold(*name)]).text([roman(*meaning)]);
    }
}
