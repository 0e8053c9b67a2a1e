//! What a shim keeps of the commands that it has had, and of those that started it.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use escher_protocol::Exit;

use crate::commands::with_input;
use crate::{Launcher, require_root};

/// Whether a process has these bytes anywhere in memory that it can write to.
fn has_in_memory(pid: u32, text: &str) -> bool {
    let memory = File::open(format!("/proc/{pid}/mem")).unwrap();
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    let writable = maps.lines().filter_map(|line| {
        let (range, rest) = line.split_once(' ')?;
        let (start, end) = range.split_once('-')?;
        let address = |text| u64::from_str_radix(text, 16).ok();
        rest.starts_with("rw")
            .then_some((address(start)?, address(end)?))
    });
    writable.into_iter().any(|(start, end)| {
        let mut bytes = vec![0; usize::try_from(end - start).unwrap()];
        memory.read_exact_at(&mut bytes, start).unwrap();
        let mut windows = bytes.windows(text.len());
        windows.any(|window| window == text.as_bytes())
    })
}

/// They stayed where they had been decoded, or in the buffer of the last packet, for the life of
/// the shim.
#[test]
fn a_shim_keeps_nothing_of_an_environment() {
    if !require_root("the memory of a shim") {
        return;
    }
    let launcher = Launcher::start();
    let shim = launcher.shim();
    // In a packet, and in memory that comes with a packet.
    for variables in [3, 5000] {
        let mut spec = with_input("read -r line");
        let variable = |index| {
            format!("CANARY_{index}=needle-in-a-haystack")
                .as_str()
                .into()
        };
        spec.environment = (0..variables).map(variable).collect();
        shim.start(&spec);
        let while_it_runs = has_in_memory(shim.pid(), "needle-in-a-haystack");
        shim.input("go\n", true);
        assert_eq!(shim.finish().exit, Exit::Code(0));
        let afterwards = has_in_memory(shim.pid(), "needle-in-a-haystack");
        assert_eq!((while_it_runs, afterwards), (false, false), "{variables}");
    }
    // The search finds what is there.
    let mut spec = with_input("read -r line");
    spec.kill_grace_ms = u64::from_le_bytes(*b"straw!!!");
    shim.start(&spec);
    assert!(has_in_memory(shim.pid(), "straw!!!"));
    shim.input("go\n", true);
    shim.finish();
}

/// Returns the files that a process has open.
fn open_files(pid: u32) -> Vec<PathBuf> {
    let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    let links = descriptors.map(|entry| fs::read_link(entry.unwrap().path()));
    links.flatten().collect()
}

/// The one end of a pipe or the lock of whoever had started escherd stayed open in the launcher and
/// in all shims.
#[test]
fn launcher_and_shims_close_what_they_have_inherited() {
    let directory = tempfile::tempdir().unwrap();
    let inherited = directory.path().join("inherited");
    fs::write(&inherited, "").unwrap();
    let script = format!(
        "exec 7< {0}; exec 9> {0}; exec \"$0\" \"$@\"",
        inherited.display()
    );
    let launcher = Launcher::start_by(&["/bin/sh", "-c", &script]);
    let shim = launcher.shim();
    for pid in [launcher.pid(), shim.pid()] {
        let open = open_files(pid);
        assert!(!open.is_empty() && !open.contains(&inherited), "{open:?}");
    }
}
