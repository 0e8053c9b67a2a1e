//! Checks the structure of the code: no crate of the workspace has a circle among its modules.
//!
//! A module is a node, with all modules inside it. For modules that are side by side, inside the
//! same one, an arrow leads from A to B if code in A names an item that is defined in B; and these
//! arrows must not form a circle. So [`circles`] compares `config` with `server`, and
//! `config::load` with `config::layers`.
//!
//! - An item belongs to the module that defines it. Whoever passes it on with `pub use` neither
//!   uses it nor is used for it.
//! - Between a module and those inside it there is no arrow. They belong together: the module
//!   defines a type, say, and the files inside it add methods.
//! - Tests inside a module (`#[cfg(test)]`) are left out, and so is documentation: a link is not a
//!   use.
//! - Paths and names of the source are compared ([`tokens`], [`modules`], [`dependencies`]), not
//!   types. A call of a method makes no arrow. The name of its type does, wherever it is imported.

mod circles;
mod dependencies;
mod modules;
mod tokens;

use std::fmt::Write;
use std::path::{Path, PathBuf};

use circles::Circle;

/// Root modules of crates whose circles have not been cut yet.
const NOT_CUT_YET: [&str; 2] = [
    "client/escher-client/src/lib.rs",
    "daemon/launcher/tests/it/main.rs",
];

/// Folders without source files of this workspace.
const SKIPPED: [&str; 2] = ["target", ".git"];

#[test]
fn no_circle_among_the_modules_of_any_crate() {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut roots = Vec::new();
    find_roots(workspace, &mut roots);
    assert!(roots.len() > 6, "{roots:?}");
    let read = |path: &Path| std::fs::read_to_string(workspace.join(path)).ok();
    let mut report = String::new();
    for root in roots {
        let root = root.strip_prefix(workspace).unwrap();
        if NOT_CUT_YET.iter().any(|known| Path::new(known) == root) {
            continue;
        }
        for circle in circles_of(root, &read) {
            write!(report, "\n{}: {}", root.display(), show(&circle)).unwrap();
        }
    }
    assert!(report.is_empty(), "circles among modules:\n{report}");
}

/// Finds the root modules of all crates: libraries, programs, tests.
fn find_roots(folder: &Path, roots: &mut Vec<PathBuf>) {
    let mut entries: Vec<PathBuf> = std::fs::read_dir(folder)
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

fn circles_of(root: &Path, read: modules::ReadSource<'_>) -> Vec<Circle> {
    let modules = modules::read_crate(root, read);
    circles::find(&dependencies::dependencies(&modules))
}

/// Shows a circle in full: each arrow of a shortest way around, with all that makes it.
fn show(circle: &Circle) -> String {
    let names: Vec<String> = circle.members.iter().map(|path| path.join("::")).collect();
    let mut shown = format!("a circle of {}: {}\n", names.len(), names.join(", "));
    for arrow in &circle.arrows {
        let (from, to) = (arrow.from.join("::"), arrow.to.join("::"));
        writeln!(shown, "  {from} -> {to}").unwrap();
        for mention in &arrow.mentions {
            writeln!(shown, "    {mention}").unwrap();
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The circles of a crate with these files, as they are shown.
    fn circles(files: &[(&str, &str)]) -> Vec<String> {
        let read = |path: &Path| {
            let file = files.iter().find(|(name, _)| Path::new(name) == path);
            file.map(|(_, text)| (*text).to_owned())
        };
        let circles = circles_of(Path::new("lib.rs"), &read);
        circles.iter().map(show).collect()
    }

    #[test]
    fn finds_a_circle_through_three_files() {
        let circles = circles(&[
            ("lib.rs", "mod a; mod b; mod c; mod d;"),
            ("a.rs", "use crate::b::B;\npub struct A;\nfn f(_: B) {}"),
            ("b/mod.rs", "mod inner;\npub use inner::B;"),
            ("b/inner.rs", "use super::super::c;\npub struct B(c::C);"),
            ("c.rs", "pub struct C;\nfn f() -> super::a::A { todo!() }"),
            (
                "d.rs",
                "use crate::{a::A, b::B, c::*};\npub struct D(A, B, C);",
            ),
        ]);
        let [circle] = &circles[..] else {
            panic!("{circles:?}")
        };
        assert!(circle.starts_with("a circle of 3: a, b, c\n"), "{circle}");
        for line in [
            "  a -> b\n    a.rs:1: b::inner::B\n",
            "  b -> c\n    b/inner.rs:2: c::C\n",
            "  c -> a\n    c.rs:2: a::A\n",
        ] {
            assert!(circle.contains(line), "{circle}");
        }
    }

    #[test]
    fn finds_a_circle_inside_a_module() {
        let circles = circles(&[
            ("lib.rs", "mod a { mod b; mod c; pub use b::B; }"),
            ("a/b.rs", "pub struct B(super::c::C);"),
            ("a/c.rs", "pub struct C(Option<Box<super::B>>);"),
        ]);
        assert_eq!(circles.len(), 1);
        assert!(circles[0].starts_with("a circle of 2: a::b, a::c\n"));
    }

    #[test]
    fn passing_on_parents_tests_and_links_make_no_circle() {
        let circles = circles(&[
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
        assert_eq!(circles, [""; 0]);
    }
}
