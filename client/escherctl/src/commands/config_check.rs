//! `config check`: what is wrong with a configuration.

use std::io::{self, Write};

use crate::Context;
use crate::args::ConfigCheckArgs;
use crate::checker;
use crate::exit_status::REFUSED;
use crate::failure::Failure;
use crate::render::{escape, json, print};

pub(super) fn check(context: &Context, args: &ConfigCheckArgs) -> Result<u8, Failure> {
    let file = args.file.as_deref();
    let judgement = checker::judge(args.user, file)?;
    let valid = judgement.is_valid;
    if context.json {
        print(&json::checked(file, valid, &judgement.faults()))?;
    } else {
        for line in &judgement.said {
            // A closed standard error leaves nobody to tell.
            let _ = writeln!(io::stderr(), "{}", escape::text(line));
        }
        if valid && !context.quiet {
            let what = file.map_or("the configuration".into(), |file| file.to_string_lossy());
            print(&format!("{} is right\n", escape::text(&what)))?;
        }
    }
    Ok(if valid { 0 } else { REFUSED })
}
