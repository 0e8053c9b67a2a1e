//! `config check`: has escherd check a configuration.

use crate::args::verbs::ConfigCheckArgs;
use crate::context::{Context, write_stderr};
use crate::escherd_check::check_configuration;
use crate::exit_status::REFUSED;
use crate::failure::Failure;
use crate::render::{escape, json, print};

pub(super) fn check(context: &Context, args: &ConfigCheckArgs) -> Result<u8, Failure> {
    let file = args.file.as_deref();
    let report = check_configuration(context.is_own_escherd, file)?;
    if context.json {
        print(&json::config_check(file, report.is_valid, &report.errors()))?;
    } else {
        for line in &report.lines {
            write_stderr(&format!("{}\n", escape::text(line)));
        }
        if report.is_valid && !context.quiet {
            let name = file.map_or("the configuration".into(), |file| file.to_string_lossy());
            print(&format!("{} is valid\n", escape::text(&name)))?;
        }
    }
    Ok(if report.is_valid { 0 } else { REFUSED })
}
