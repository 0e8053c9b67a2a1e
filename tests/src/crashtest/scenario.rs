//! The escherd of a round, killed and restarted.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::check::{self, file_names};
use super::injection::{Injection, Reach};
use super::plan::{Cycle, Kill, Victim};
use super::{CYCLE_DEADLINE, Statistics, client_log};
use crate::{Daemon, Home, descendants, in_runtime, parent_of};

/// One set of directories, the escherd that serves there, and the ones before it, which still watch over the
/// processes that they have left behind.
pub(super) struct CrashScenario {
    home: Arc<Home>,
    config: String,
    daemons: Vec<Daemon>,
    /// Number of shims that were killed, or that may have been. Each may cost one execution.
    shims_killed: u64,
    lost: u64,
}

/// How long a process may take to reach the system call in which it is killed. A busy one does so at once; a
/// shim whose command is silent never does.
const COMMIT_DEADLINE: Duration = Duration::from_millis(400);
const APPEND_DEADLINE: Duration = Duration::from_millis(100);

/// The system calls that write the store, and those that write a log.
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
        std::fs::create_dir(scenario.run_records()).unwrap();
        scenario.start();
        scenario
    }

    /// Where commands record their runs.
    fn run_records(&self) -> PathBuf {
        self.home.work().join("run-records")
    }

    fn start(&mut self) {
        let daemon = Daemon::builder()
            .home(&self.home)
            .config(&self.config)
            .leave_commands()
            .start();
        self.daemons.push(daemon);
    }

    fn current(&mut self) -> &mut Daemon {
        self.daemons.last_mut().expect("one was started")
    }

    /// Plays one cycle: clients on a thread of their own, kills on this one.
    pub(super) fn play(&mut self, cycle: &Cycle, statistics: &mut Statistics) {
        let (socket, run_records) = (self.home.socket(), self.run_records());
        let planned = cycle.executions.clone();
        let (connected, is_connected) = mpsc::channel();
        let clients = std::thread::spawn(move || {
            let on_connected = move || {
                let _ = connected.send(());
            };
            let all = client_log::run_all(&socket, &run_records, planned, on_connected);
            in_runtime(async { tokio::time::timeout(CYCLE_DEADLINE, all).await })
                .expect("the cycle ends in time")
        });
        // Fails if the client has panicked, which joining it reports.
        if is_connected.recv().is_ok() {
            for kill in &cycle.kills {
                self.kill(*kill, statistics);
            }
        }
        let logs = match clients.join() {
            Ok(logs) => logs,
            Err(panic) => std::panic::resume_unwind(panic),
        };
        statistics.executions += logs.len() as u64;
        let totals = check::check_cycle(&self.home, &self.run_records(), &logs);
        statistics.output_bytes += totals.output_bytes;
        statistics.lost += totals.lost;
        self.lost += totals.lost;
        assert!(
            self.lost <= self.shims_killed,
            "{} executions are lost, but only {} shims were killed",
            self.lost,
            self.shims_killed
        );
    }

    fn kill(&mut self, kill: Kill, statistics: &mut Statistics) {
        // A random instant is what is wanted, not a time at which something has happened.
        std::thread::sleep(kill.after);
        match kill.victim {
            Victim::Escherd => {
                self.current().kill();
                statistics.escherd_kills += 1;
                self.start();
            }
            Victim::EscherdInCommit(count) => {
                let (pid, directory) = (self.current().pid(), self.home.path().to_owned());
                let injection =
                    Injection::kill_in(pid, Reach::AllThreads, COMMIT_CALLS, count, &directory);
                match self.current().wait_for_exit_within(COMMIT_DEADLINE) {
                    Some(_) => statistics.escherd_injections += 1,
                    None => {
                        self.current().kill();
                        statistics.escherd_kills += 1;
                    }
                }
                drop(injection);
                self.start();
            }
            Victim::Shim(choice) => {
                if let Some(pid) = self.choose_shim(choice)
                    && nix::sys::signal::kill(pid, Signal::SIGKILL).is_ok()
                {
                    statistics.shim_kills += 1;
                    self.shims_killed += 1;
                }
            }
            Victim::ShimInAppend(choice, count) => {
                if let Some(pid) = self.choose_shim(choice) {
                    self.kill_shim_in_append(pid, count, statistics);
                }
            }
            Victim::Launcher => {
                if let Some(pid) = self.processes_named(LAUNCHER_NAME).first().copied()
                    && nix::sys::signal::kill(pid, Signal::SIGKILL).is_ok()
                {
                    statistics.launcher_kills += 1;
                }
            }
        }
    }

    fn kill_shim_in_append(&mut self, pid: Pid, count: u64, statistics: &mut Statistics) {
        let directory = self.home.path().to_owned();
        let Some(injection) =
            Injection::kill_in(pid, Reach::OneThread, APPEND_CALLS, count, &directory)
        else {
            return;
        };
        // Its clients go on meanwhile. If it has nothing to write, it lives.
        injection.wait(APPEND_DEADLINE);
        drop(injection);
        // The signal may still be on its way when strace has detached.
        self.shims_killed += 1;
        if kill(pid, None).is_err() || is_zombie(pid) {
            statistics.shim_injections += 1;
        }
    }

    /// Chooses a shim: one that has a command, if any has.
    fn choose_shim(&self, choice: u64) -> Option<Pid> {
        let mut shims = self.processes_named(SHIM_NAME);
        let busy: Vec<Pid> = shims
            .iter()
            .copied()
            .filter(|shim| !descendants(*shim).is_empty())
            .collect();
        if !busy.is_empty() {
            shims = busy;
        }
        let index = usize::try_from(choice)
            .unwrap_or(0)
            .checked_rem(shims.len())?;
        Some(shims[index])
    }

    /// The processes of this name. A command has its shim's name until it executes its program, and is left
    /// out.
    fn processes_named(&self, name: &str) -> Vec<Pid> {
        let is_named = |pid: &Pid| name_of(*pid).as_deref() == Some(name);
        let is_command = |pid: &Pid| parent_of(*pid).is_some_and(|parent| is_named(&parent));
        let processes = self.daemons.iter().flat_map(Daemon::processes);
        processes
            .map(|process| process.pid)
            .filter(|pid| is_named(pid) && !is_command(pid) && !is_zombie(*pid))
            .collect()
    }

    /// Stops escherd and checks that nothing is left: no process, and, after a last escherd has removed what
    /// the killed ones could not, no file but the history.
    pub(super) fn finish(mut self) {
        while let Some(daemon) = self.daemons.pop() {
            drop(daemon);
        }
        check::check_store(&self.home);
        for (directory, what) in [
            (self.home.runtime().join("shims"), "sockets of shims"),
            (self.home.exits(), "exit records"),
        ] {
            let left = file_names(&directory);
            assert!(left.is_empty(), "{what} are left: {left:?}");
        }
    }
}

/// The names of their processes (proc_pid_comm(5)).
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
