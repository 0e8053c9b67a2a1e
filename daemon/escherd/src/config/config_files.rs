//! Finds and reads configuration files.
//!
//! The rules are those of the UAPI group's configuration files specification. Of the main files,
//! only the first that exists applies. The drop-ins of all directories apply in the order of their
//! names. A drop-in masks those of the same name in later directories, so an empty file, or a link
//! to `/dev/null`, disables them.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::error::ConfigProblem;
use crate::host::trusted_path::{UntrustedPath, ensure_trusted, ensure_unchangeable};

/// Name of the main file.
const FILE_NAME: &str = "escher.toml";

/// Name of the directory of drop-ins beside it.
const DROP_INS: &str = "escher.toml.d";

/// Maximum size of a file, in bytes. A file with all settings, each with a comment, has a few
/// thousand.
const MAX_FILE_BYTES: u64 = 1024 * 1024;

/// Lists the files of these directories in the order in which they apply, with the directories'
/// problems.
pub(super) fn find(dirs: &[PathBuf]) -> (Vec<PathBuf>, Vec<ConfigProblem>) {
    let mut problems = Vec::new();
    let main = dirs
        .iter()
        .map(|dir| dir.join(FILE_NAME))
        .find(|path| exists(path));
    let mut drop_ins = BTreeMap::new();
    for dir in dirs {
        match drop_ins_in(&dir.join(DROP_INS)) {
            Ok(paths) => {
                for path in paths {
                    let name = path.file_name().unwrap_or_default().to_owned();
                    drop_ins.entry(name).or_insert(path);
                }
            }
            Err(error) => problems.push(unreadable(&dir.join(DROP_INS), &error)),
        }
    }
    (
        main.into_iter().chain(drop_ins.into_values()).collect(),
        problems,
    )
}

/// Whether a file exists. An unreadable one does: the error follows when it is read.
fn exists(path: &Path) -> bool {
    let metadata = fs::symlink_metadata(path);
    !matches!(metadata, Err(error) if error.kind() == io::ErrorKind::NotFound)
}

/// Lists the drop-ins in one directory. Hidden files are skipped: editors create such files.
fn drop_ins_in(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().as_encoded_bytes();
        if name.ends_with(b".toml") && !name.starts_with(b".") {
            paths.push(path);
        }
    }
    Ok(paths)
}

/// Reads the text of a file that nobody else can change.
pub(super) fn read(path: &Path) -> Result<String, ConfigProblem> {
    let mut bytes = Vec::new();
    let untrusted = |error: UntrustedPath| {
        let explanation = format!("not read, since others could change it: {error}");
        ConfigProblem::new(path.display().to_string(), explanation)
    };
    let file = File::open(path).map_err(|error| unreadable(path, &error))?;
    let metadata = file.metadata().map_err(|error| unreadable(path, &error))?;
    ensure_unchangeable(path, &metadata).map_err(untrusted)?;
    ensure_trusted(path).map_err(untrusted)?;
    file.take(MAX_FILE_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| unreadable(path, &error))?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        let explanation =
            format!("longer than {MAX_FILE_BYTES} bytes, so not a configuration file");
        return Err(ConfigProblem::new(path.display().to_string(), explanation));
    }
    String::from_utf8(bytes).map_err(|error| {
        let valid = error
            .as_bytes()
            .iter()
            .take(error.utf8_error().valid_up_to());
        let line = valid.filter(|byte| **byte == b'\n').count() + 1;
        let subject = format!("{}:{line}", path.display());
        ConfigProblem::new(subject, "not UTF-8")
    })
}

fn unreadable(path: &Path, error: &io::Error) -> ConfigProblem {
    ConfigProblem::new(
        path.display().to_string(),
        format!("cannot be read: {error}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Tree {
        root: tempfile::TempDir,
    }

    impl Tree {
        fn new(files: &[&str]) -> Self {
            let root = tempfile::tempdir().unwrap();
            for file in files {
                let path = root.path().join(file);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, "").unwrap();
            }
            Tree { root }
        }

        fn found(&self) -> Vec<String> {
            let dirs = ["etc", "run", "usr"].map(|dir| self.root.path().join(dir));
            let (files, problems) = find(&dirs);
            assert!(problems.is_empty(), "{problems:?}");
            let names = files
                .iter()
                .map(|file| file.strip_prefix(&self.root).unwrap());
            names.map(|name| name.display().to_string()).collect()
        }
    }

    #[test]
    fn takes_the_first_main_file_and_drop_ins_by_their_names() {
        let tree = Tree::new(&[
            "run/escher.toml",
            "usr/escher.toml",
            "usr/escher.toml.d/10-a.toml",
            "etc/escher.toml.d/20-b.toml",
            "run/escher.toml.d/30-c.toml",
        ]);
        let drop_ins = [
            "usr/escher.toml.d/10-a.toml",
            "etc/escher.toml.d/20-b.toml",
            "run/escher.toml.d/30-c.toml",
        ];
        assert_eq!(tree.found(), [&["run/escher.toml"], &drop_ins[..]].concat());
        fs::remove_dir_all(tree.root.path().join("usr/escher.toml.d")).unwrap();
        fs::remove_file(tree.root.path().join("run/escher.toml")).unwrap();
        fs::remove_file(tree.root.path().join("usr/escher.toml")).unwrap();
        assert_eq!(tree.found(), &drop_ins[1..], "without a main file too");
    }

    #[test]
    fn masks_drop_ins_of_the_same_name_in_later_directories() {
        let tree = Tree::new(&["usr/escher.toml.d/10-a.toml", "run/escher.toml.d/10-a.toml"]);
        assert_eq!(tree.found(), ["run/escher.toml.d/10-a.toml"]);
        let etc = tree.root.path().join("etc/escher.toml.d");
        fs::create_dir_all(&etc).unwrap();
        std::os::unix::fs::symlink("/dev/null", etc.join("10-a.toml")).unwrap();
        assert_eq!(tree.found(), ["etc/escher.toml.d/10-a.toml"]);
        assert_eq!(read(&etc.join("10-a.toml")), Ok(String::new()));
    }

    #[test]
    fn ignores_files_of_editors_and_other_extensions() {
        let tree = Tree::new(&[
            "etc/escher.toml.d/.#10-a.toml",
            "etc/escher.toml.d/10-a.toml~",
            "etc/escher.toml.d/README",
        ]);
        assert!(tree.found().is_empty());
    }

    #[test]
    fn reports_what_cannot_be_read() {
        let tree = Tree::new(&["usr/escher.toml", "etc/escher.toml.d"]);
        let etc = tree.root.path().join("etc");
        std::os::unix::fs::symlink("nowhere", etc.join("escher.toml")).unwrap();
        let dirs = [etc.clone(), tree.root.path().join("usr")];
        let (files, problems) = find(&dirs);
        assert_eq!(files, [etc.join("escher.toml")], "a dangling link exists");
        assert_eq!(problems.len(), 1, "the drop-ins' directory is a file");
        assert!(
            problems[0]
                .to_string()
                .contains("escher.toml.d: cannot be read")
        );
        let problem = read(&files[0]).unwrap_err().to_string();
        assert!(
            problem.contains("etc/escher.toml: cannot be read"),
            "{problem}"
        );
        assert!(read(&etc).is_err(), "a directory");

        let odd = etc.join("odd");
        fs::write(&odd, b"a\nb\nc\xff\n").unwrap();
        assert!(read(&odd).unwrap_err().to_string().contains("odd:3: "));
        fs::write(&odd, vec![b'#'; 1024 * 1024 + 1]).unwrap();
        assert!(
            read(&odd)
                .unwrap_err()
                .to_string()
                .contains("longer than 1048576")
        );
    }
}
