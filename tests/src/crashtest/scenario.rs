//! The escherd of a round, killed and started anew.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::injection::{Injection, Reach};
use super::plan::{Cycle, Kill, Victim};
use super::{CYCLE_DEADLINE, Tally, check, client};
use crate::{Daemon, Home, descendants, in_runtime_within, parent_of};

/// The folders, the escherd that serves, and those before it: each watches over what it has left behind.
pub(super) struct CrashScenario {
    home: Arc<Home>,
    config: String,
    daemons: Vec<Daemon>,
    /// Shims that were killed, each of which may cost one execution.
    shims_killed: u64,
    lost: u64,
}

/// How long a process may take to come to the system call in which it is to die. A busy one does at once; a shim
/// whose command is silent never does, and is not worth a long wait.
const COMMIT_PATIENCE: Duration = Duration::from_millis(400);
const APPEND_PATIENCE: Duration = Duration::from_millis(100);

/// What the store writes with, and what a log is written with.
const COMMIT_CALLS: &str = "pwrite64,fdatasync,ftruncate";
const APPEND_CALLS: &str = "write,pwrite64";

impl CrashScenario {
    pub(super) fn new(power: bool) -> Self {
        let durability = if power { "power" } else { "crash" };
        let mut scenario = CrashScenario {
            home: Arc::new(Home::new()),
            config: format!(
                "[store]\ndurability = \"{durability}\"\n\
                 [execution]\nmax_concurrent_executions = 6\nmax_in_memory_executions = 10\n"
            ),
            daemons: Vec::new(),
            shims_killed: 0,
            lost: 0,
        };
        std::fs::create_dir(scenario.accounts()).unwrap();
        scenario.start();
        scenario
    }

    fn accounts(&self) -> PathBuf {
        self.home.work().join("accounts")
    }

    fn start(&mut self) {
        let daemon = Daemon::builder()
            .home(&self.home)
            .config(&self.config)
            .leaving_commands()
            .start();
        self.daemons.push(daemon);
    }

    fn current(&mut self) -> &mut Daemon {
        self.daemons.last_mut().expect("one was started")
    }

    /// Plays one cycle: clients on a thread of their own, kills on this one.
    pub(super) fn play(&mut self, cycle: &Cycle, tally: &mut Tally) {
        let (socket, accounts) = (self.home.socket(), self.accounts());
        let planned = cycle.executions.clone();
        let clients = std::thread::spawn(move || {
            let all = client::see_through(&socket, &accounts, planned);
            in_runtime_within(CYCLE_DEADLINE, all)
        });
        for kill in &cycle.kills {
            self.kill(*kill, tally);
        }
        let told = match clients.join() {
            Ok(told) => told,
            Err(panic) => std::panic::resume_unwind(panic),
        };
        tally.executions += told.len() as u64;
        let judged = check::judge(&self.home, &self.accounts(), &told);
        tally.output_bytes += judged.output_bytes;
        tally.lost += judged.lost;
        self.lost += judged.lost;
        assert!(
            self.lost <= self.shims_killed,
            "{} executions are lost, but only {} shims were killed",
            self.lost,
            self.shims_killed
        );
    }

    fn kill(&mut self, kill: Kill, tally: &mut Tally) {
        // A random instant is what is wanted, not a time at which something has happened.
        std::thread::sleep(kill.after);
        match kill.what {
            Victim::Escherd => {
                self.current().kill();
                tally.escherd_kills += 1;
                self.start();
            }
            Victim::EscherdInCommit(count) => {
                let (pid, folder) = (self.current().pid(), self.home.path().to_owned());
                let injection =
                    Injection::kill_in(pid, Reach::AllThreads, COMMIT_CALLS, count, &folder);
                match self.current().exit_within(COMMIT_PATIENCE) {
                    Some(_) => tally.escherd_injections += 1,
                    None => {
                        self.current().kill();
                        tally.escherd_kills += 1;
                    }
                }
                drop(injection);
                self.start();
            }
            Victim::Shim(which) => {
                if let Some(pid) = self.some_shim(which)
                    && nix::sys::signal::kill(pid, Signal::SIGKILL).is_ok()
                {
                    tally.shim_kills += 1;
                    self.shims_killed += 1;
                }
            }
            Victim::ShimInAppend(which, count) => {
                if let Some(pid) = self.some_shim(which) {
                    self.inject_into_shim(pid, count, tally);
                }
            }
            Victim::Launcher => {
                if let Some(pid) = self.named(LAUNCHER_NAME).first().copied()
                    && nix::sys::signal::kill(pid, Signal::SIGKILL).is_ok()
                {
                    tally.launcher_kills += 1;
                }
            }
        }
    }

    fn inject_into_shim(&mut self, pid: Pid, count: u64, tally: &mut Tally) {
        let folder = self.home.path().to_owned();
        let Some(injection) =
            Injection::kill_in(pid, Reach::OneThread, APPEND_CALLS, count, &folder)
        else {
            return;
        };
        // Its clients go on meanwhile; if it has nothing to write, it lives.
        injection.wait(APPEND_PATIENCE);
        drop(injection);
        if kill(pid, None).is_err() || is_zombie(pid) {
            tally.shim_injections += 1;
            self.shims_killed += 1;
        }
    }

    /// A shim that has a command, if any has.
    fn some_shim(&self, which: u64) -> Option<Pid> {
        let mut shims = self.named(SHIM_NAME);
        let busy: Vec<Pid> = shims
            .iter()
            .copied()
            .filter(|shim| !descendants(*shim).is_empty())
            .collect();
        if !busy.is_empty() {
            shims = busy;
        }
        let place = usize::try_from(which)
            .unwrap_or(0)
            .checked_rem(shims.len())?;
        Some(shims[place])
    }

    /// The processes of this name. A command has its shim's until it executes its program.
    fn named(&self, name: &str) -> Vec<Pid> {
        let is_named = |pid: &Pid| name_of(*pid).as_deref() == Some(name);
        let is_command = |pid: &Pid| parent_of(*pid).is_some_and(|parent| is_named(&parent));
        let kin = self.daemons.iter().flat_map(Daemon::processes);
        kin.map(|kin| kin.pid)
            .filter(|pid| is_named(pid) && !is_command(pid) && !is_zombie(*pid))
            .collect()
    }

    /// Stops escherd and sees that nothing is left: no process, and, once a last escherd has been there to
    /// clear away what the killed ones could not, no file but history.
    pub(super) fn clear_away(mut self) {
        while let Some(daemon) = self.daemons.pop() {
            drop(daemon);
        }
        check::judge_store(&self.home);
        for (folder, what) in [
            (self.home.runtime().join("shims"), "sockets of shims"),
            (self.home.exits(), "exit records"),
        ] {
            let left = names(&folder);
            assert!(left.is_empty(), "{what} are left: {left:?}");
        }
    }
}

/// The names by which the kernel knows them (proc_pid_comm(5)).
const SHIM_NAME: &str = "escher-shim";
const LAUNCHER_NAME: &str = "escher-launcher";

fn name_of(pid: Pid) -> Option<String> {
    let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    Some(name.trim_end().to_owned())
}

fn is_zombie(pid: Pid) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    status
        .lines()
        .any(|line| line.starts_with("State:") && line.contains('Z'))
}

pub(super) fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect()
}
