//! How an escherd is started.

use std::ffi::OsString;
use std::fs::{self, File, Permissions};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};

use nix::unistd::Pid;

use crate::{DEADLINE, Daemon, Home, Journal, escherd, reaper, wait};

/// The sockets that are passed to escherd, as systemd does it (sd_listen_fds(3)).
#[derive(Debug, Clone, Copy)]
enum ActivationSockets {
    None,
    Clients,
    ClientsAndMetrics,
}

/// What an escherd is started with.
#[derive(Debug)]
pub struct DaemonBuilder {
    home: Option<Arc<Home>>,
    config: String,
    is_user_mode: bool,
    options: Vec<OsString>,
    on_stop: &'static str,
    environment: Vec<(OsString, OsString)>,
    sockets: ActivationSockets,
    max_open_files: Option<u64>,
    blocked_signals: Option<&'static str>,
    launcher: PathBuf,
    has_log_dir_option: bool,
    journal: Option<PathBuf>,
    etc: Option<PathBuf>,
    keeps_notifications: bool,
    counts_instructions: bool,
}

impl Daemon {
    /// Starts one with the defaults, and `--on-stop cancel`.
    #[must_use]
    pub fn start() -> Daemon {
        Daemon::builder().start()
    }

    /// Starts one with the text of a configuration file in TOML.
    #[must_use]
    pub fn with_config(config: &str) -> Daemon {
        Daemon::builder().config(config).start()
    }

    /// Prepares one.
    #[must_use]
    pub fn builder() -> DaemonBuilder {
        DaemonBuilder::default()
    }
}

impl Default for DaemonBuilder {
    fn default() -> Self {
        DaemonBuilder {
            home: None,
            config: String::new(),
            is_user_mode: false,
            options: Vec::new(),
            on_stop: "cancel",
            environment: Vec::new(),
            sockets: ActivationSockets::None,
            max_open_files: None,
            blocked_signals: None,
            launcher: crate::launcher(),
            has_log_dir_option: true,
            journal: None,
            etc: None,
            keeps_notifications: false,
            counts_instructions: false,
        }
    }
}

impl DaemonBuilder {
    /// Sets the text of its configuration file, in TOML.
    #[must_use]
    pub fn config(mut self, config: &str) -> Self {
        config.clone_into(&mut self.config);
        self
    }

    /// Starts it with `--user`, so that it reads the files below `XDG_CONFIG_HOME` and no configuration
    /// file of the test.
    #[must_use]
    pub fn user_mode(mut self) -> Self {
        self.is_user_mode = true;
        self
    }

    /// Adds an option with its value.
    #[must_use]
    pub fn option(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.options.extend([name.into(), value.into()]);
        self
    }

    /// Uses the directories of an earlier escherd.
    #[must_use]
    pub fn home(mut self, home: &Arc<Home>) -> Self {
        self.home = Some(home.clone());
        self
    }

    /// Starts it with `--on-stop leave`, so that commands outlive it.
    #[must_use]
    pub fn leave_commands(mut self) -> Self {
        self.on_stop = "leave";
        self
    }

    /// Sets a variable of escherd's own environment.
    #[must_use]
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }

    /// Passes it its socket as systemd does (sd_listen_fds(3)).
    #[must_use]
    pub fn socket_activation(mut self) -> Self {
        self.sockets = ActivationSockets::Clients;
        self
    }

    /// Passes it two sockets by name: one for clients, and one for metrics, `metrics.sock` in the runtime
    /// directory.
    #[must_use]
    pub fn socket_activation_with_metrics(mut self) -> Self {
        self.sockets = ActivationSockets::ClientsAndMetrics;
        self
    }

    /// Omits `--log-dir`, so that the configuration decides where logs go.
    #[must_use]
    pub fn without_log_dir_option(mut self) -> Self {
        self.has_log_dir_option = false;
        self
    }

    /// Keeps its notifications to systemd after it is ready, for [`Daemon::next_notification`].
    #[must_use]
    pub fn keep_notifications(mut self) -> Self {
        self.keeps_notifications = true;
        self
    }

    /// Has it log to this journal, as if systemd had started it. For root only.
    #[must_use]
    pub fn journal(mut self, journal: &Journal) -> Self {
        self.journal = Some(journal.directory().to_owned());
        self.env("JOURNAL_STREAM", "1:1")
    }

    /// Puts the contents of `directory` over `/etc`, for this escherd alone. For root only.
    #[must_use]
    pub fn etc(mut self, directory: &Path) -> Self {
        self.etc = Some(directory.to_owned());
        self
    }

    /// Uses another launcher.
    #[must_use]
    pub fn launcher(mut self, launcher: PathBuf) -> Self {
        self.launcher = launcher;
        self
    }

    /// Starts it with these signals blocked, as env(1) names them.
    #[must_use]
    pub fn blocked_signals(mut self, signals: &'static str) -> Self {
        self.blocked_signals = Some(signals);
        self
    }

    /// Sets its limit of open files (RLIMIT_NOFILE), which it cannot raise.
    #[must_use]
    pub fn max_open_files(mut self, limit: u64) -> Self {
        self.max_open_files = Some(limit);
        self
    }

    /// Has its instructions counted, which takes valgrind(1) and fifty times as long: see
    /// [`Home::instructions`].
    #[must_use]
    pub fn counting_instructions(mut self) -> Self {
        self.counts_instructions = true;
        self
    }

    /// Starts it and waits until it reports that it is ready.
    ///
    /// # Panics
    /// When it does not become ready; with what it has logged.
    #[must_use]
    pub fn start(self) -> Daemon {
        let home = self.home.clone().unwrap_or_default();
        let config = home.path().join("escher.toml");
        fs::write(&config, &self.config).unwrap();
        // Whatever the umask: escherd reads no file that others can write.
        fs::set_permissions(&config, Permissions::from_mode(0o600)).unwrap();
        let notify = home.path().join("notify");
        let _ = fs::remove_file(&notify);
        let notifications = UnixDatagram::bind(&notify).expect("a datagram socket");

        let stderr = home.path().join("escherd.stderr");
        let mut command = self.command(&home);
        if self.is_user_mode {
            command.arg("--user")
        } else {
            command.arg("--config").arg(&config)
        };
        let mut arguments = home.arguments_with(self.launcher);
        if !self.has_log_dir_option {
            let is_log_dir = |word: &PathBuf| word == Path::new("--log-dir");
            let index = arguments.iter().position(is_log_dir).unwrap();
            arguments.drain(index..index + 2);
        }
        let mut reaper = command
            .args(arguments)
            .args(["--on-stop", self.on_stop])
            .args(self.options)
            .env("NOTIFY_SOCKET", &notify)
            .envs(self.environment)
            .stdout(Stdio::piped())
            .stderr(File::create(&stderr).unwrap())
            .spawn()
            .expect("the reaper");
        let reaper_stdin = reaper.stdin.take();
        let reaper_lines = forward_lines(&mut reaper, notify);
        let first = reaper_lines
            .recv_timeout(DEADLINE)
            .expect("the reaper's first line");
        let pid = first.strip_prefix("pid ").expect(&first).parse().unwrap();
        let mut daemon = Daemon {
            home,
            reaper,
            reaper_stdin,
            reaper_lines,
            pid: Pid::from_raw(pid),
            exit: None,
            stderr,
            notifications: None,
            is_checked: false,
        };
        await_readiness(&notifications, &daemon);
        daemon.notifications = self.keeps_notifications.then_some(notifications);
        daemon
    }

    fn command(&self, home: &Home) -> Command {
        let mut command = Command::new(reaper());
        command.stdin(Stdio::piped());
        // The shell's pid becomes escherd's, and it gives the sockets the numbers that they must have.
        match self.sockets {
            ActivationSockets::None => {}
            ActivationSockets::Clients => {
                let script = "exec 3<&0 </dev/null; LISTEN_FDS=1 LISTEN_PID=$$ exec \"$@\"";
                command.args(["--listen".as_ref(), home.socket().as_os_str()]);
                command.args(["/bin/sh", "-c", script, "sh"]);
            }
            ActivationSockets::ClientsAndMetrics => {
                let script = "exec 3<&1 4<&0 </dev/null >/dev/null; LISTEN_FDS=2 \
                              LISTEN_FDNAMES=metrics:clients LISTEN_PID=$$ exec \"$@\"";
                let metrics = home.runtime().join("metrics.sock");
                command.args(["--listen".as_ref(), home.socket().as_os_str()]);
                command.args(["--listen".as_ref(), metrics.as_os_str()]);
                command.args(["/bin/sh", "-c", script, "sh"]);
            }
        }
        if let Some(journal) = &self.journal {
            // The path of the journal's socket is fixed, and the host may have one: a mount namespace
            // hides it.
            let script = "mount -t tmpfs tmpfs /run && mkdir -p /run/systemd/journal \
                          && mount --bind \"$1\" /run/systemd/journal && shift && exec \"$@\"";
            command.args(["unshare", "--mount", "/bin/sh", "-c", script, "sh"]);
            command.arg(journal);
        }
        if let Some(directory) = &self.etc {
            let script =
                "mount -t overlay -o lowerdir=\"$1\":/etc overlay /etc && shift && exec \"$@\"";
            command.args(["unshare", "--mount", "/bin/sh", "-c", script, "sh"]);
            command.arg(directory);
        }
        if let Some(limit) = self.max_open_files {
            let script = "ulimit -n \"$1\"; shift; exec \"$@\"";
            command.args(["/bin/sh", "-c", script, "sh"]);
            command.arg(limit.to_string());
        }
        if self.counts_instructions {
            command.args(["valgrind", "--quiet", "--tool=callgrind"]);
            let mut option = OsString::from("--callgrind-out-file=");
            option.push(home.instruction_counts());
            command.arg(option);
        }
        if let Some(signals) = self.blocked_signals {
            command.arg("env").arg(format!("--block-signal={signals}"));
        }
        command.arg(escherd());
        command
    }
}

/// Forwards the lines of the reaper. Notifies `notify` of the end of escherd too, so that waiting for its readiness
/// ends when it has failed to start.
fn forward_lines(reaper: &mut Child, notify: PathBuf) -> Receiver<String> {
    let (sender, lines) = channel();
    let stdout = reaper.stdout.take().unwrap();
    std::thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            if line.starts_with("exited") {
                // Once escherd was ready, nobody may listen there any more.
                let socket = UnixDatagram::unbound().unwrap();
                let _ = socket.send_to(b"EXITED=1", &notify);
            }
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    lines
}

fn await_readiness(socket: &UnixDatagram, daemon: &Daemon) {
    let mut buffer = [0; 4096];
    loop {
        let length = wait::receive(socket, &mut buffer).unwrap_or_else(|error| {
            panic!("escherd is not ready in time ({error}):\n{}", daemon.log())
        });
        let message = String::from_utf8_lossy(&buffer[..length]);
        assert!(
            !message.starts_with("EXITED"),
            "escherd does not start:\n{}",
            daemon.log()
        );
        if message.lines().any(|line| line == "READY=1") {
            return;
        }
    }
}
