//! Generates the manual pages, completions and configuration file of a package from the programs'
//! definitions and documentation:
//!
//! - `man/`: [`commands`] and [`launcher`] from arguments and help, [`settings`] from
//!   `docs/configuration.md`; [`page`] has their common parts;
//! - `completions/bash`, `zsh` and `fish`: [`completions`];
//! - `escher.toml`: [`defaults`].
#![forbid(unsafe_code)]

mod commands;
mod completions;
mod defaults;
mod launcher;
mod page;
mod settings;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Parser;

use page::Page;

/// Generates escher's manual pages, completions and configuration file
#[derive(Debug, Parser)]
struct Arguments {
    /// Directory for `man`, `completions` and `escher.toml`
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
    write(&directory.join("escher.toml"), &defaults::file()?)
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
        .with_context(|| format!("cannot make {}", directory.display()))?;
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}
