//! The directories of one escherd.

use std::fs::{self, Permissions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;

use escher_client::ExecutionId;
use escher_launcher::ipc::exit_record;
use escher_launcher::ipc::wire::FIRST_ATTEMPT;
use escherd::EngineSettings;
use tempfile::TempDir;

use crate::{Fifo, launcher};

/// A new directory with everything of one escherd, removed when dropped.
#[derive(Debug)]
pub struct Home {
    root: TempDir,
    /// Keeps pipes open while escherd runs: a test may write to one and end before the command opens it.
    fifos: Mutex<Vec<Fifo>>,
}

impl Home {
    /// Creates one, which other users may enter but not list.
    #[must_use]
    pub fn new() -> Self {
        let root = tempfile::Builder::new()
            .prefix("escher-")
            .tempdir()
            .expect("a temporary directory");
        fs::set_permissions(root.path(), Permissions::from_mode(0o711)).unwrap();
        let home = Home {
            root,
            fifos: Mutex::default(),
        };
        for directory in [home.runtime(), home.work()] {
            fs::create_dir(&directory).unwrap();
            // Whatever the umask: escherd uses no directory that others can write.
            fs::set_permissions(&directory, Permissions::from_mode(0o755)).unwrap();
        }
        // Commands of any user may work here.
        fs::set_permissions(home.work(), Permissions::from_mode(0o1777)).unwrap();
        home
    }

    /// The directory with all others.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.root.path()
    }

    /// The directory for the test's own files. Every user may write here.
    #[must_use]
    pub fn work(&self) -> PathBuf {
        self.path().join("work")
    }

    /// escherd's `--runtime-dir`.
    #[must_use]
    pub fn runtime(&self) -> PathBuf {
        self.path().join("run")
    }

    /// escherd's `--state-dir`.
    #[must_use]
    pub fn state(&self) -> PathBuf {
        self.path().join("state")
    }

    /// escherd's `--log-dir`.
    #[must_use]
    pub fn logs(&self) -> PathBuf {
        self.path().join("logs")
    }

    /// The configuration of an engine that runs in this process.
    #[must_use]
    pub fn engine_settings(&self) -> EngineSettings {
        EngineSettings {
            runtime_dir: self.runtime(),
            state_dir: self.state(),
            log_dir: self.logs(),
            launcher: launcher(),
            ..EngineSettings::default()
        }
    }

    /// escherd's socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.runtime().join("escherd.sock")
    }

    /// The log of an execution.
    #[must_use]
    pub fn log(&self, id: ExecutionId) -> PathBuf {
        self.logs().join(format!("{id}.log"))
    }

    /// The index beside it.
    #[must_use]
    pub fn index(&self, id: ExecutionId) -> PathBuf {
        self.logs().join(format!("{id}.idx"))
    }

    /// The directory of the exit records.
    #[must_use]
    pub fn exits(&self) -> PathBuf {
        self.state().join(exit_record::DIRECTORY)
    }

    /// The exit record of an execution.
    #[must_use]
    pub fn exit_record(&self, id: ExecutionId) -> PathBuf {
        self.exits().join(exit_record::file_name(id, FIRST_ATTEMPT))
    }

    /// The counts of [`DaemonBuilder::counting_instructions`](crate::DaemonBuilder::counting_instructions).
    pub(crate) fn instruction_counts(&self) -> PathBuf {
        self.path().join("callgrind.out")
    }

    /// How many instructions an escherd that has ended here has executed, from its start on, if they were
    /// counted.
    #[must_use]
    pub fn instructions(&self) -> u64 {
        let counts = std::fs::read_to_string(self.instruction_counts()).expect("counts");
        let total = counts
            .lines()
            .find_map(|line| line.strip_prefix("totals: "));
        total.and_then(|total| total.parse().ok()).expect("a total")
    }

    /// Writes a file with these permissions into [`Home::work`], or to an absolute path.
    ///
    /// Another process does it: while this one has a file open for writing, so may a child that another
    /// test has just forked, and a program that is open for writing cannot be run (ETXTBSY).
    pub fn file(&self, name: impl AsRef<Path>, content: impl AsRef<[u8]>, mode: u32) -> PathBuf {
        let path = self.work().join(name);
        let mut writer = Command::new("sh")
            .args(["-c", "cat > \"$1\" && chmod \"$2\" \"$1\"", "sh"])
            .arg(&path)
            .arg(format!("{mode:o}"))
            .stdin(Stdio::piped())
            .spawn()
            .expect("a shell");
        let mut stdin = writer.stdin.take().unwrap();
        stdin.write_all(content.as_ref()).unwrap();
        drop(stdin);
        assert!(writer.wait().unwrap().success());
        path
    }

    /// Creates a named pipe in [`Home::work`].
    #[must_use]
    pub fn fifo(&self, name: &str) -> Fifo {
        let fifo = Fifo::create(self.work().join(name));
        self.fifos.lock().unwrap().push(fifo.clone());
        fifo
    }

    /// Copies `program` to where every user can run it, whatever directory it was built in.
    #[must_use]
    pub fn share(&self, program: &Path) -> PathBuf {
        let copy = self.work().join(program.file_name().unwrap());
        if !copy.exists() {
            // Another process does it, for the reason given at `file`.
            let copied = Command::new("cp").arg(program).arg(&copy).status();
            assert!(copied.expect("cp").success());
        }
        copy
    }

    /// escherd's arguments for these directories.
    #[must_use]
    pub fn arguments(&self) -> Vec<PathBuf> {
        self.arguments_with(launcher())
    }

    /// The same with another launcher.
    #[must_use]
    pub fn arguments_with(&self, launcher: PathBuf) -> Vec<PathBuf> {
        vec![
            "--socket".into(),
            self.socket(),
            "--runtime-dir".into(),
            self.runtime(),
            "--state-dir".into(),
            self.state(),
            "--log-dir".into(),
            self.logs(),
            "--launcher".into(),
            launcher,
        ]
    }
}

impl Default for Home {
    fn default() -> Self {
        Home::new()
    }
}
