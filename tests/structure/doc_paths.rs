//! Checks that the source files named in the documentation exist.

use std::path::Path;

/// Folders that the pages name files relative to.
const BASES: [&str; 6] = [
    "",
    "client/escher-client/src",
    "client/escherctl/src",
    "daemon/escherd/src",
    "daemon/launcher/src",
    "daemon/launcher/src/shim",
];

/// Returns the names of source files in the code spans of a page.
fn source_files(page: &str) -> impl Iterator<Item = &str> {
    let spans = page.split('`').skip(1).step_by(2);
    spans.filter(|span| span.ends_with(".rs") && !span.contains(char::is_whitespace))
}

#[test]
fn the_pages_name_source_files_that_exist() {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut checked = 0;
    for entry in std::fs::read_dir(workspace.join("docs")).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            continue;
        }
        let page = std::fs::read_to_string(&path).unwrap();
        for name in source_files(&page) {
            let exists = |base: &&str| workspace.join(base).join(name).is_file();
            assert!(
                BASES.iter().any(exists),
                "{} names {name}, which does not exist",
                path.display()
            );
            checked += 1;
        }
    }
    assert!(checked > 20, "{checked} names were found");
}

#[test]
fn source_files_are_found_in_code_spans_alone() {
    let page = "See `a/b.rs`, not c.rs, and `cargo test x.rs`; `mod d` and `e.rs`.";
    assert_eq!(source_files(page).collect::<Vec<_>>(), ["a/b.rs", "e.rs"]);
}
