//! A running escherd, and the certainty that nothing of it stays behind.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::{Ctl, DEADLINE, Home, escherd, reaper};

/// How escherd ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// With this status.
    Code(i32),
    /// By this signal.
    Signal(i32),
}

/// An escherd of its own, ready to serve. Its end, by [`Daemon::stop`] or by going out of scope, fails the
/// test if a process is left.
#[derive(Debug)]
pub struct Daemon {
    home: Arc<Home>,
    reaper: Child,
    orders: Option<ChildStdin>,
    lines: Receiver<String>,
    pid: Pid,
    exit: Option<Exit>,
    stderr: PathBuf,
    notifications: Option<UnixDatagram>,
    is_checked: bool,
}

/// The sockets that escherd is handed, as systemd does it.
#[derive(Debug, Clone, Copy)]
enum HandedOver {
    Nothing,
    Clients,
    ClientsAndMetrics,
}

/// What an escherd is started with.
#[derive(Debug)]
pub struct Builder {
    home: Option<Arc<Home>>,
    config: String,
    is_user: bool,
    options: Vec<OsString>,
    on_stop: &'static str,
    environment: Vec<(OsString, OsString)>,
    handed_over: HandedOver,
    max_files: Option<u64>,
    launcher: PathBuf,
    names_log_dir: bool,
    journal: Option<PathBuf>,
    etc: Option<PathBuf>,
    is_heard: bool,
}

impl Daemon {
    /// With the defaults, and `--on-stop cancel`.
    #[must_use]
    pub fn start() -> Daemon {
        Daemon::builder().start()
    }

    /// With settings: the text of a configuration file in TOML.
    #[must_use]
    pub fn with_config(config: &str) -> Daemon {
        Daemon::builder().config(config).start()
    }

    /// With anything.
    #[must_use]
    pub fn builder() -> Builder {
        Builder {
            home: None,
            config: String::new(),
            is_user: false,
            options: Vec::new(),
            on_stop: "cancel",
            environment: Vec::new(),
            handed_over: HandedOver::Nothing,
            max_files: None,
            launcher: crate::launcher(),
            names_log_dir: true,
            journal: None,
            etc: None,
            is_heard: false,
        }
    }

    /// Its folders.
    #[must_use]
    pub fn home(&self) -> &Arc<Home> {
        &self.home
    }

    /// escherd's process. Signalling it is safe until [`Daemon::exit`] has told its end.
    #[must_use]
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// escherctl for this escherd.
    #[must_use]
    pub fn ctl(&self) -> Ctl {
        Ctl::new(self.home.clone())
    }

    /// What escherd has logged.
    #[must_use]
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.stderr).unwrap_or_default()).into_owned()
    }

    /// Every process that descends from this escherd, itself and orphans included.
    #[must_use]
    pub fn processes(&self) -> Vec<crate::Descendants> {
        crate::descendants(Pid::from_raw(self.reaper.id().cast_signed()))
    }

    /// What escherd tells systemd next, of [`Builder::hearing_notifications`] (sd_notify(3)).
    #[must_use]
    pub fn notification(&self) -> String {
        let socket = self.notifications.as_ref().expect("somebody listens");
        let mut buffer = [0; 4096];
        let length = socket.recv(&mut buffer).expect("a notification in time");
        String::from_utf8(buffer[..length].to_vec()).expect("UTF-8")
    }

    /// Kills escherd, and nothing else, with SIGKILL, and waits for its end.
    pub fn kill(&mut self) {
        if self.exit.is_none() {
            // Gone already, where something else has killed it a moment ago.
            let _ = kill(self.pid, Signal::SIGKILL);
        }
        assert_eq!(self.exit(), Exit::Signal(9));
    }

    /// Sends SIGTERM to escherd alone and waits for its end.
    pub fn terminate(&mut self) -> Exit {
        kill(self.pid, Signal::SIGTERM).expect("it runs");
        self.exit()
    }

    /// Waits for the end of escherd.
    pub fn exit(&mut self) -> Exit {
        while self.exit.is_none() {
            let line = self.line();
            self.note(&line);
        }
        self.exit.unwrap()
    }

    /// Waits for the end of escherd for so long, and no longer.
    pub fn exit_within(&mut self, patience: std::time::Duration) -> Option<Exit> {
        let end = std::time::Instant::now() + patience;
        while self.exit.is_none() {
            let left = end.saturating_duration_since(std::time::Instant::now());
            let line = self.lines.recv_timeout(left).ok()?;
            self.note(&line);
        }
        self.exit
    }

    /// Ends escherd and checks that nothing is left. Returns how it ended.
    pub fn stop(mut self) -> Exit {
        self.check();
        self.exit.expect("the reaper has told its end")
    }

    fn line(&self) -> String {
        match self.lines.recv_timeout(DEADLINE) {
            Ok(line) => line,
            Err(RecvTimeoutError::Timeout) => panic!("escherd does not end:\n{}", self.log()),
            Err(RecvTimeoutError::Disconnected) => panic!("the reaper is gone"),
        }
    }

    fn note(&mut self, line: &str) {
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            ["exited", "code", code] => self.exit = Some(Exit::Code(code.parse().unwrap())),
            ["exited", "signal", signal] => self.exit = Some(Exit::Signal(signal.parse().unwrap())),
            _ => {}
        }
    }

    fn check(&mut self) {
        self.is_checked = true;
        self.orders = None;
        let mut left = Vec::new();
        loop {
            let line = self.line();
            self.note(&line);
            match line.as_str() {
                "clean" | "unclean" => break,
                line if line.starts_with("left ") => left.push(line.to_owned()),
                _ => {}
            }
        }
        self.reaper
            .wait()
            .expect("the reaper ends after its last line");
        let left = left.join("\n");
        assert!(
            left.is_empty(),
            "processes were left behind:\n{left}\nescherd's log:\n{}",
            self.log()
        );
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- escherd's log ---\n{}---", self.log());
            // The reaper cleans up as its standard input closes.
            self.orders = None;
            let _ = self.reaper.wait();
        } else if !self.is_checked {
            self.check();
        }
    }
}

impl Builder {
    /// Settings: the text of a configuration file in TOML.
    #[must_use]
    pub fn config(mut self, config: &str) -> Self {
        config.clone_into(&mut self.config);
        self
    }

    /// `--user`, and the files that `XDG_CONFIG_HOME` leads to in place of one with settings.
    #[must_use]
    pub fn of_user(mut self) -> Self {
        self.is_user = true;
        self
    }

    /// An option with its value.
    #[must_use]
    pub fn option(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.options.extend([name.into(), value.into()]);
        self
    }

    /// The folders of an earlier escherd.
    #[must_use]
    pub fn home(mut self, home: &Arc<Home>) -> Self {
        self.home = Some(home.clone());
        self
    }

    /// `--on-stop leave`: commands live on.
    #[must_use]
    pub fn leaving_commands(mut self) -> Self {
        self.on_stop = "leave";
        self
    }

    /// A variable of escherd's own environment.
    #[must_use]
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }

    /// Binds the socket here and hands it over as systemd does (sd_listen_fds(3)).
    #[must_use]
    pub fn handing_over_socket(mut self) -> Self {
        self.handed_over = HandedOver::Clients;
        self
    }

    /// The same with two, which have names: one for clients, and one for metrics, `metrics.sock` in the runtime
    /// directory.
    #[must_use]
    pub fn handing_over_metrics_socket(mut self) -> Self {
        self.handed_over = HandedOver::ClientsAndMetrics;
        self
    }

    /// Without `--log-dir`: the configuration says where logs go.
    #[must_use]
    pub fn without_log_dir(mut self) -> Self {
        self.names_log_dir = false;
        self
    }

    /// Goes on to listen to what escherd tells systemd once it is ready: [`Daemon::notification`].
    #[must_use]
    pub fn hearing_notifications(mut self) -> Self {
        self.is_heard = true;
        self
    }

    /// Logging to this journal, as if systemd had started it. Takes root.
    #[must_use]
    pub fn journal(mut self, journal: &crate::Journal) -> Self {
        self.journal = Some(journal.folder().to_owned());
        self.env("JOURNAL_STREAM", "1:1")
    }

    /// With what is in `folder` over `/etc`, for this escherd alone. Takes root.
    #[must_use]
    pub fn etc(mut self, folder: &Path) -> Self {
        self.etc = Some(folder.to_owned());
        self
    }

    /// With another launcher.
    #[must_use]
    pub fn launcher(mut self, launcher: PathBuf) -> Self {
        self.launcher = launcher;
        self
    }

    /// With so few open files (RLIMIT_NOFILE), and no way to have more.
    #[must_use]
    pub fn limiting_files(mut self, most: u64) -> Self {
        self.max_files = Some(most);
        self
    }

    /// Starts it and waits until it says that it is ready.
    ///
    /// # Panics
    /// When it does not become ready; with what it has logged.
    #[must_use]
    pub fn start(self) -> Daemon {
        let home = self.home.clone().unwrap_or_default();
        let config = home.path().join("escher.toml");
        fs::write(&config, &self.config).unwrap();
        let notify = home.path().join("notify");
        let _ = fs::remove_file(&notify);
        let readiness = UnixDatagram::bind(&notify).expect("a datagram socket");
        readiness.set_read_timeout(Some(DEADLINE)).unwrap();

        let stderr = home.path().join("escherd.stderr");
        let mut command = self.command(&home);
        if self.is_user {
            command.arg("--user")
        } else {
            command.arg("--config").arg(&config)
        };
        let mut arguments = home.arguments_with(self.launcher);
        if !self.names_log_dir {
            let place = arguments
                .iter()
                .position(|word| word == Path::new("--log-dir"));
            arguments.drain(place.unwrap()..place.unwrap() + 2);
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
        let orders = reaper.stdin.take();
        let lines = forward_lines(&mut reaper, notify);
        let first = lines
            .recv_timeout(DEADLINE)
            .expect("the reaper's first line");
        let pid = first.strip_prefix("pid ").expect(&first).parse().unwrap();
        let mut daemon = Daemon {
            home,
            reaper,
            orders,
            lines,
            pid: Pid::from_raw(pid),
            exit: None,
            stderr,
            notifications: None,
            is_checked: false,
        };
        await_readiness(&readiness, &daemon);
        daemon.notifications = self.is_heard.then_some(readiness);
        daemon
    }

    fn command(&self, home: &Home) -> Command {
        let mut command = Command::new(reaper());
        command.stdin(Stdio::piped());
        // The shell knows its own pid, which is escherd's, and gives sockets the numbers that they have to have.
        match self.handed_over {
            HandedOver::Nothing => {}
            HandedOver::Clients => {
                let script = "exec 3<&0 </dev/null; LISTEN_FDS=1 LISTEN_PID=$$ exec \"$@\"";
                command.args(["--listen".as_ref(), home.socket().as_os_str()]);
                command.args(["/bin/sh", "-c", script, "sh"]);
            }
            HandedOver::ClientsAndMetrics => {
                let script = "exec 3<&1 4<&0 </dev/null >/dev/null; LISTEN_FDS=2 \
                              LISTEN_FDNAMES=metrics:clients LISTEN_PID=$$ exec \"$@\"";
                let metrics = home.runtime().join("metrics.sock");
                command.args(["--listen".as_ref(), home.socket().as_os_str()]);
                command.args(["--listen".as_ref(), metrics.as_os_str()]);
                command.args(["/bin/sh", "-c", script, "sh"]);
            }
        }
        if let Some(journal) = &self.journal {
            // The journal's place is fixed, and there may be a real one: mounts of its own hide that.
            let script = "mount -t tmpfs tmpfs /run && mkdir -p /run/systemd/journal \
                          && mount --bind \"$1\" /run/systemd/journal && shift && exec \"$@\"";
            command.args(["unshare", "--mount", "/bin/sh", "-c", script, "sh"]);
            command.arg(journal);
        }
        if let Some(folder) = &self.etc {
            let script =
                "mount -t overlay -o lowerdir=\"$1\":/etc overlay /etc && shift && exec \"$@\"";
            command.args(["unshare", "--mount", "/bin/sh", "-c", script, "sh"]);
            command.arg(folder);
        }
        if let Some(most) = self.max_files {
            command.args([
                "/bin/sh",
                "-c",
                "ulimit -n \"$1\"; shift; exec \"$@\"",
                "sh",
            ]);
            command.arg(most.to_string());
        }
        command.arg(escherd());
        command
    }
}

/// The reaper's lines, one by one. The end of escherd is told to `notify` as well, so that nobody waits for
/// the readiness of one that has failed.
fn forward_lines(reaper: &mut Child, notify: PathBuf) -> Receiver<String> {
    let (sender, lines) = channel();
    let stdout = reaper.stdout.take().unwrap();
    std::thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            if line.starts_with("exited") {
                tell(&notify);
            }
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    lines
}

fn tell(notify: &Path) {
    // Once escherd was ready nobody listens there any more.
    let _ = UnixDatagram::unbound()
        .unwrap()
        .send_to(b"EXITED=1", notify);
}

fn await_readiness(socket: &UnixDatagram, daemon: &Daemon) {
    let mut buffer = [0; 4096];
    loop {
        let length = socket.recv(&mut buffer).unwrap_or_else(|error| {
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
