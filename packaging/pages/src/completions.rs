//! Completions, under the names that shells look for.

use clap::CommandFactory;
use clap::builder::PossibleValuesParser;
use clap_complete::aot::{Shell, generate};
use escherd::Profile;

/// Returns path and text of each file.
pub(crate) fn all() -> anyhow::Result<Vec<(String, String)>> {
    let mut files = Vec::new();
    // escherctl's scripts ask escherctl, which knows the current executions.
    for (shell, script) in escherctl::COMPLETIONS {
        files.push((path(shell, "escherctl"), script.to_owned()));
    }
    // escherd's options are fixed.
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        let mut script = Vec::new();
        generate(shell, &mut escherd(), "escherd", &mut script);
        files.push((
            path(&shell.to_string(), "escherd"),
            String::from_utf8(script)?,
        ));
    }
    Ok(files)
}

/// Returns escherd's arguments, with the names of all profiles.
fn escherd() -> clap::Command {
    let names = PossibleValuesParser::new(Profile::ALL.map(Profile::name));
    escherd::cli::Arguments::command().mut_arg("profile", |profile| profile.value_parser(names))
}

/// Returns the path at which a shell looks for the completion of `program`.
fn path(shell: &str, program: &str) -> String {
    match shell {
        "zsh" => format!("zsh/_{program}"),
        "fish" => format!("fish/{program}.fish"),
        _ => format!("{shell}/{program}"),
    }
}
