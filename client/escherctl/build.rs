//! Links escherctl statically and at a fixed address, as far as the host has static libraries.
//!
//! A command line program lives for a millisecond, and most of that goes into page faults: the dynamic linker and the
//! relocations of a program that may be anywhere in memory cost twice as many as escherctl's own work. rustc's option for
//! this (`crt-static`) is one for the whole build, and escherd has to load the modules of the user database (nss(5)). So
//! the linker finds a directory with nothing but the static libraries before those of the system.
//!
//! escherctl therefore looks nobody up by itself: see `user_database`.

use std::env;
use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The libraries that rustc links programs with, each with the static one to use in its place.
const LIBRARIES: [(&str, &str); 7] = [
    ("libgcc_s.a", "libgcc_eh.a"),
    ("libc.a", "libc.a"),
    ("libm.a", "libm.a"),
    ("libdl.a", "libdl.a"),
    ("libpthread.a", "libpthread.a"),
    ("librt.a", "librt.a"),
    ("libutil.a", "libutil.a"),
];

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if !is_dynamic_by_default() {
        return;
    }
    let directory = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default()).join("static");
    match collect_libraries(&directory) {
        Ok(()) => {
            let search = format!("-L{}", directory.display());
            // libc and libgcc_eh use each other.
            let libraries = "-Wl,--start-group,-lc,-lgcc_s,-lgcc,--end-group";
            for argument in ["-static", "-no-pie", &search, libraries] {
                println!("cargo::rustc-link-arg-bins={argument}");
            }
        }
        Err(error) => {
            println!("cargo::warning=escherctl is linked dynamically and starts slower: {error}");
        }
    }
}

/// Whether the target links programs with shared libraries of glibc unless told otherwise.
fn is_dynamic_by_default() -> bool {
    let variable = |name: &str| env::var(name).unwrap_or_default();
    let is_native = variable("TARGET") == variable("HOST");
    let is_glibc =
        variable("CARGO_CFG_TARGET_OS") == "linux" && variable("CARGO_CFG_TARGET_ENV") == "gnu";
    let features = variable("CARGO_CFG_TARGET_FEATURE");
    is_native && is_glibc && !features.split(',').any(|feature| feature == "crt-static")
}

/// Fills `directory` with links to the static libraries that the C compiler uses.
fn collect_libraries(directory: &Path) -> io::Result<()> {
    fs::create_dir_all(directory)?;
    for (name, library) in LIBRARIES {
        let link = directory.join(name);
        match fs::remove_file(&link) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => symlink(find_library(library)?, &link)?,
        }
    }
    Ok(())
}

/// Asks the C compiler where a library is.
fn find_library(name: &str) -> io::Result<PathBuf> {
    let output = Command::new("cc")
        .arg(format!("-print-file-name={name}"))
        .output()?;
    let path = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim_end());
    // It repeats the name of a library that it does not find.
    if path.is_absolute() {
        Ok(path)
    } else {
        Err(io::Error::new(
            io::ErrorKind::NotFound,
            format!("{name} not found (is it in a package like libc6-dev or glibc-static?)"),
        ))
    }
}
