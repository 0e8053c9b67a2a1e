//! Checks the structure of the code: no crate of the workspace has a cycle among its modules, and no dependency that
//! deny.toml does not accept ([`packages`]).
//!
//! A module is a node, together with all modules inside it. Between siblings, an arrow leads from A to B
//! if code in A names an item that is defined in B. These arrows must not form a cycle. So [`cycles`]
//! compares `config` with `server`, and `config::load` with `config::layers`.
//!
//! - An item belongs to the module that defines it. A module that re-exports it with `pub use` neither
//!   depends on it nor is depended on.
//! - There are no arrows between a module and the modules inside it: `scheduler.rs` defines the types to
//!   which the files in `scheduler/` add methods.
//! - Tests in a module (`#[cfg(test)]`) and links in documentation do not count.
//! - What is compared are paths and names in the source ([`tokens`], [`modules`], [`dependencies`]), not
//!   types. A call of a method is no arrow: the code has its value from somewhere.

mod cycles;
mod dependencies;
mod doc_paths;
mod modules;
mod packages;
mod tokens;

use std::fmt::Write;
use std::path::{Path, PathBuf};

use cycles::Cycle;

/// Directories without source files of this workspace.
const SKIPPED: [&str; 2] = ["target", ".git"];

#[test]
fn no_cycle_among_the_modules_of_any_crate() {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut roots = Vec::new();
    find_roots(workspace, &mut roots);
    assert!(roots.len() > 6, "{roots:?}");
    let read = |path: &Path| std::fs::read_to_string(workspace.join(path)).ok();
    let mut report = String::new();
    for root in roots {
        let root = root.strip_prefix(workspace).unwrap();
        for cycle in cycles_of(root, &read) {
            write!(report, "\n{}: {}", root.display(), describe(&cycle)).unwrap();
        }
    }
    assert!(report.is_empty(), "cycles among modules:\n{report}");
}

/// Finds the root modules of all crates: libraries, programs, tests.
fn find_roots(directory: &Path, roots: &mut Vec<PathBuf>) {
    let mut entries: Vec<PathBuf> = std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    entries.sort();
    for path in entries {
        let name = path.file_name().unwrap_or_default();
        if path.is_dir() {
            if !path.is_symlink() && !SKIPPED.iter().any(|skipped| name == *skipped) {
                find_roots(&path, roots);
            }
        } else if name == "lib.rs" || name == "main.rs" {
            roots.push(path);
        }
    }
}

fn cycles_of(root: &Path, read: modules::ReadSource<'_>) -> Vec<Cycle> {
    let modules = modules::read_crate(root, read);
    cycles::find(&dependencies::dependencies(&modules))
}

/// Describes a cycle: each arrow of a shortest way around, with the mentions that make it.
fn describe(cycle: &Cycle) -> String {
    let names: Vec<String> = cycle.members.iter().map(|path| path.join("::")).collect();
    let mut text = format!("a cycle of {}: {}\n", names.len(), names.join(", "));
    for arrow in &cycle.arrows {
        let (from, to) = (arrow.from.join("::"), arrow.to.join("::"));
        writeln!(text, "  {from} -> {to}").unwrap();
        for mention in &arrow.mentions {
            writeln!(text, "    {mention}").unwrap();
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The descriptions of the cycles of a crate with these files.
    fn cycles(files: &[(&str, &str)]) -> Vec<String> {
        let read = |path: &Path| {
            let file = files.iter().find(|(name, _)| Path::new(name) == path);
            file.map(|(_, text)| (*text).to_owned())
        };
        let cycles = cycles_of(Path::new("lib.rs"), &read);
        cycles.iter().map(describe).collect()
    }

    #[test]
    fn finds_a_cycle_through_three_files() {
        let cycles = cycles(&[
            ("lib.rs", "mod a; mod b; mod c; mod d;"),
            ("a.rs", "use crate::b::B;\npub struct A;\nfn f(_: B) {}"),
            ("b/mod.rs", "mod inner;\npub use inner::B;"),
            ("b/inner.rs", "use super::super::c;\npub struct B(c::C);"),
            ("c.rs", "pub struct C;\nfn f(_: super::a::A) {}"),
            (
                "d.rs",
                "use crate::{a::A, b::B, c::*};\npub struct D(A, B, C);",
            ),
        ]);
        let [cycle] = &cycles[..] else {
            panic!("{cycles:?}")
        };
        assert!(cycle.starts_with("a cycle of 3: a, b, c\n"), "{cycle}");
        for line in [
            "  a -> b\n    a.rs:1: b::inner::B\n",
            "  b -> c\n    b/inner.rs:2: c::C\n",
            "  c -> a\n    c.rs:2: a::A\n",
        ] {
            assert!(cycle.contains(line), "{cycle}");
        }
    }

    #[test]
    fn finds_a_cycle_inside_a_module() {
        let cycles = cycles(&[
            ("lib.rs", "mod a { mod b; mod c; pub use b::B; }"),
            ("a/b.rs", "pub struct B(super::c::C);"),
            ("a/c.rs", "pub struct C(Option<Box<super::B>>);"),
        ]);
        assert_eq!(cycles.len(), 1);
        assert!(cycles[0].starts_with("a cycle of 2: a::b, a::c\n"));
    }

    #[test]
    fn reexports_parents_tests_and_links_make_no_cycle() {
        let cycles = cycles(&[
            (
                "lib.rs",
                "//! [`a::A`]\nmod a; mod b; pub use a::A; pub struct Root;",
            ),
            (
                "a.rs",
                "/// [`crate::b::B`]\npub struct A;\n#[cfg(test)] mod tests { use crate::b::B; }\n\
                 #[cfg(test)] use crate::b::f;\nfn r() -> crate::Root { crate::Root }",
            ),
            (
                "b.rs",
                "use crate::A;\npub struct B(A);\npub fn f() { \"crate::a\"; }",
            ),
        ]);
        assert_eq!(cycles, [""; 0]);
    }
}
