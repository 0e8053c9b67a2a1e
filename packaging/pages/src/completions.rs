//! Completion scripts, under the names by which shells find them.

use clap::CommandFactory;
use clap::builder::PossibleValuesParser;
use clap_complete::aot::{Shell, generate};
use escherd::Profile;

/// Returns path and text of each file.
pub(crate) fn all() -> anyhow::Result<Vec<(String, String)>> {
    let mut files = Vec::new();
    // These call escherctl, which knows the current executions.
    for (shell, script) in escherctl::COMPLETIONS {
        files.push((path(shell, "escherctl"), script.to_owned()));
    }
    // The arguments of escherd are fixed.
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

/// Returns the arguments of escherd, with the names of all profiles as possible values.
fn escherd() -> clap::Command {
    let names = PossibleValuesParser::new(Profile::ALL.map(Profile::name));
    escherd::cli::Arguments::command().mut_arg("profile", |profile| profile.value_parser(names))
}

/// Returns where a shell looks for the completion of `program`.
fn path(shell: &str, program: &str) -> String {
    match shell {
        "zsh" => format!("zsh/_{program}"),
        "fish" => format!("fish/{program}.fish"),
        _ => format!("{shell}/{program}"),
    }
}
