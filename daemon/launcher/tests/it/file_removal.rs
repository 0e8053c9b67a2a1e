//! Deleting the files of executions.

use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;

use escher_launcher::ipc::exit_record;
use escher_launcher::ipc::wire::{ExecutionFiles, FIRST_ATTEMPT, MAX_IDS_AT_ONCE};
use escher_protocol::ExecutionId;

use crate::claims::listening_socket;
use crate::commands::claim;
use crate::launcher::names;
use crate::{Fifo, Launcher, exec, shell};

const EXIT_RECORD: ExecutionFiles = ExecutionFiles::ExitRecord {
    attempt: FIRST_ATTEMPT,
};
const CLAIM: ExecutionFiles = ExecutionFiles::Claim {
    attempt: FIRST_ATTEMPT,
};

#[test]
fn each_artifact_is_deleted_by_itself() {
    let launcher = Launcher::start();
    let [had_output, alone, killed] = launcher.shims(3).try_into().ok().unwrap();
    let (log, record, dead) = (shell("echo output"), exec(["true"]), exec(["true"]));
    had_output.run(&log);
    alone.launch(&record);
    alone.wait_for_end();
    killed.run(&dead);
    killed.kill();
    launcher.receive_shim_death();

    let (log, record, dead) = (log.id, record.id, dead.id);
    let kinds = [
        (CLAIM, dead),
        (ExecutionFiles::Log, log),
        (EXIT_RECORD, record),
    ];
    let left = || {
        (
            names(&launcher.log_dir()).len(),
            launcher.exit_records().len(),
            launcher.sockets().len(),
        )
    };
    // The living shim has a socket, too.
    assert_eq!(left(), (2, 1, 2));
    for (files, id) in kinds {
        assert_eq!(launcher.remove(files, &[id]), [id]);
    }
    assert_eq!(left(), (0, 0, 1));
    for (files, id) in kinds {
        assert_eq!(launcher.remove(files, &[id]), [id]);
    }
    assert_eq!(launcher.remove(ExecutionFiles::Log, &[]), []);
}

#[test]
fn only_files_of_named_executions_are_deleted() {
    let launcher = Launcher::start();
    let [first, alone] = launcher.shims(2).try_into().ok().unwrap();
    let (log, record) = (shell("echo output"), exec(["true"]));
    first.run(&log);
    first.kill();
    launcher.receive_shim_death();
    alone.launch(&record);
    alone.wait_for_end();
    for files in [ExecutionFiles::Log, EXIT_RECORD, CLAIM] {
        let another = ExecutionId::generate();
        assert_eq!(launcher.remove(files, &[another]), [another]);
    }
    assert!(launcher.log(log.id).exists() && launcher.index(log.id).exists());
    assert_eq!(launcher.exit_record(record.id).id, record.id);
    assert_eq!(launcher.sockets(), [claim(log.id)]);
}

#[test]
fn the_claim_of_a_living_shim_is_not_deleted() {
    let launcher = Launcher::start();
    let shim = launcher.shim();
    let (over, running) = (exec(["true"]), exec(["sleep", "1000"]));
    shim.run(&over);
    assert!(launcher.remove(CLAIM, &[over.id]).is_empty());
    shim.start(&running);
    // The shim has renamed its first claim, so that one does not exist any more.
    let ids = [over.id, running.id];
    assert_eq!(launcher.remove(CLAIM, &ids), [over.id]);
    let orphan = shim.disconnect();
    assert!(launcher.remove(CLAIM, &[running.id]).is_empty());
    // The shim can still be adopted.
    let shim = launcher.adopt(&orphan, running.id);
    shim.receive_state();
    shim.cancel(true);
    shim.finish();
}

#[test]
fn whoever_has_a_log_open_keeps_nothing_of_it() {
    let launcher = Launcher::start();
    let shim = launcher.shim();
    let spec = shell("echo output");
    shim.run(&spec);
    let files = [launcher.log(spec.id), launcher.index(spec.id)];
    let open = files.map(|path| File::open(path).unwrap());
    assert!(open.iter().all(|file| file.metadata().unwrap().len() > 0));
    assert_eq!(launcher.remove(ExecutionFiles::Log, &[spec.id]), [spec.id]);
    for file in &open {
        let left = file.metadata().unwrap();
        assert_eq!((left.nlink(), left.len(), left.blocks()), (0, 0, 0));
    }
}

#[test]
fn a_fifo_in_the_place_of_a_log_is_deleted_without_waiting_for_its_reader() {
    let launcher = Launcher::start();
    let id = ExecutionId::generate();
    let fifo = Fifo::create(launcher.log(id));
    let path = fifo.path().to_owned();
    // Closes its ends.
    drop(fifo);
    assert_eq!(launcher.remove(ExecutionFiles::Log, &[id]), [id]);
    assert!(!path.exists());
}

#[test]
fn a_symbolic_link_is_deleted_without_being_followed() {
    let launcher = Launcher::start();
    let id = ExecutionId::generate();
    let precious = launcher.path("precious");
    fs::write(&precious, "mine").unwrap();
    let listener = listening_socket(&launcher.path(""), "socket");
    let socket = launcher.path("socket");
    let claim_path = launcher.shim_dir().join(claim(id).to_string());
    let record = launcher
        .exit_dir()
        .join(exit_record::file_name(id, FIRST_ATTEMPT));
    let plants: [(ExecutionFiles, &Path, &Path); 5] = [
        (ExecutionFiles::Log, &precious, &launcher.log(id)),
        (ExecutionFiles::Log, &precious, &launcher.index(id)),
        (EXIT_RECORD, &precious, &record),
        (CLAIM, &precious, &claim_path),
        // A link to a socket that accepts connections.
        (CLAIM, &socket, &claim_path),
    ];
    for (files, target, place) in plants {
        symlink(target, place).unwrap();
        assert_eq!(launcher.remove(files, &[id]), [id]);
        assert!(!place.is_symlink());
        assert!(target.exists());
    }
    drop(listener);
    // A link to nothing, too.
    symlink(launcher.path("absent"), &claim_path).unwrap();
    assert_eq!(launcher.remove(CLAIM, &[id]), [id]);
    assert!(!claim_path.is_symlink());
    assert_eq!(fs::read(&precious).unwrap(), b"mine");
}

#[test]
fn a_file_that_cannot_be_deleted_is_not_reported_as_deleted() {
    let launcher = Launcher::start();
    let (folder, fine) = (ExecutionId::generate(), ExecutionId::generate());
    fs::create_dir(launcher.log(folder)).unwrap();
    fs::write(launcher.log(fine), "").unwrap();
    assert_eq!(
        launcher.remove(ExecutionFiles::Log, &[folder, fine]),
        [fine]
    );
    assert!(launcher.log(folder).is_dir());
}

#[test]
fn no_more_than_the_maximum_is_deleted_at_once() {
    let launcher = Launcher::start();
    let ids: Vec<ExecutionId> = (0..=MAX_IDS_AT_ONCE)
        .map(|_| ExecutionId::generate())
        .collect();
    for id in &ids {
        fs::write(launcher.log(*id), "").unwrap();
    }
    let removed = launcher.remove(ExecutionFiles::Log, &ids);
    assert_eq!(removed, ids[..MAX_IDS_AT_ONCE]);
    assert_eq!(names(&launcher.log_dir()).len(), 1);
}
