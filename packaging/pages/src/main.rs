//! Writes the manual pages and completions of a package:
//!
//! - `man/`: by [`commands`] and [`launcher`] from the programs' arguments and help texts, by
//!   [`settings`] from `docs/configuration.md`; [`page`] and [`sections`] are what they have in common;
//! - `completions/bash`, `zsh` and `fish`: by [`completions`].
#![forbid(unsafe_code)]

mod commands;
mod completions;
mod launcher;
mod page;
mod sections;
mod settings;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Parser;

use page::Page;

/// Write escher's manual pages and completions
#[derive(Debug, Parser)]
struct Arguments {
    /// Directory to write `man` and `completions` to
    #[arg(default_value = "target/packaging")]
    directory: PathBuf,
}

fn main() -> anyhow::Result<()> {
    let directory = Arguments::parse().directory;
    let date = page::date()?;
    for Page { file, text } in pages(&date)? {
        write(&directory.join("man").join(file), &text)?;
    }
    for (file, text) in completions::all()? {
        write(&directory.join("completions").join(file), &text)?;
    }
    Ok(())
}

fn pages(date: &str) -> anyhow::Result<Vec<Page>> {
    let mut pages = commands::escherctl(date)?;
    pages.push(commands::escherd(date)?);
    pages.push(launcher::page(date)?);
    pages.push(settings::page(date)?);
    Ok(pages)
}

fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    let directory = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(directory)
        .with_context(|| format!("cannot create {}", directory.display()))?;
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}
