//! A running machine.

use std::fs;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Command, Stdio};

use nix::sys::signal::Signal;

use super::DEADLINE;
use super::agent_protocol::PORT;
use super::disk::Disk;
use super::task::{AgentClient, Task};
use crate::{FinishedProgram, RunningProgram, wait};

/// How much of the console is shown when a test fails.
const CONSOLE_BYTES: usize = 30_000;

/// The journal goes to the console as well, to explain failures.
const KERNEL_ARGUMENTS: &str = "console=ttyS0 root=/dev/vda rw quiet mitigations=off \
                                systemd.journald.forward_to_console=1";

/// A running machine. Dropping it cuts its power.
#[derive(Debug)]
pub struct Machine<'disk> {
    disk: &'disk Disk,
    qemu: RunningProgram,
    agent: AgentClient,
    _console: Console<'disk>,
}

/// Prints the console of the machine if it is dropped by a panic.
#[derive(Debug)]
struct Console<'disk>(&'disk Disk);

impl<'disk> Machine<'disk> {
    /// Starts a machine and waits until it is up.
    ///
    /// # Panics
    /// When it does not come up; with its console.
    #[must_use]
    pub fn boot(disk: &'disk Disk) -> Self {
        let _ = fs::remove_file(disk.port());
        let listener = UnixListener::bind(disk.port()).unwrap();
        let qemu = RunningProgram::spawn(qemu(disk), DEADLINE);
        let Some(port) = accept(&listener) else {
            qemu.signal(Signal::SIGKILL);
            panic!("QEMU does not start: {:?}", qemu.wait());
        };
        let machine = Machine {
            disk,
            qemu,
            agent: AgentClient::new(port),
            _console: Console(disk),
        };
        let ready = machine.agent.await_ready();
        assert!(ready.is_ok(), "the machine does not come up");
        machine
    }

    /// Runs a shell script as root, to its end.
    #[track_caller]
    #[must_use]
    pub fn run(&self, script: &str) -> FinishedProgram {
        self.start(script).wait()
    }

    /// The same as another user.
    #[track_caller]
    #[must_use]
    pub fn run_as(&self, user: &str, script: &str) -> FinishedProgram {
        self.start_as(user, script).wait()
    }

    /// Runs a shell script as root. It has to succeed; returns what it printed.
    #[track_caller]
    pub fn must(&self, script: &str) -> String {
        self.run(script).expect(0).out().to_owned()
    }

    /// Starts a shell script as root.
    #[must_use]
    pub fn start(&self, script: &str) -> Task {
        self.start_as("root", script)
    }

    /// Starts a shell script as a user.
    #[must_use]
    pub fn start_as(&self, user: &str, script: &str) -> Task {
        self.agent.start(user, script)
    }

    /// Cuts its power.
    pub fn cut_power(self) {
        self.qemu.signal(Signal::SIGKILL);
        let _ = self.qemu.wait().expect(-9);
    }

    /// Shuts it down cleanly, and waits until it is off.
    pub fn shut_down(self) {
        let _task = self.start("systemctl poweroff");
        let _ = self.qemu.wait().expect(0);
    }

    /// Reboots it cleanly.
    #[must_use]
    pub fn reboot(self) -> Self {
        let disk = self.disk;
        let _task = self.start("systemctl reboot");
        // QEMU exits at a reset; another one boots what is on the disk.
        let _ = self.qemu.wait().expect(0);
        Machine::boot(disk)
    }
}

impl Drop for Console<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let console = fs::read(self.0.console()).unwrap_or_default();
            let from = console.len().saturating_sub(CONSOLE_BYTES);
            let console = String::from_utf8_lossy(&console[from..]);
            eprintln!("--- the machine's console ---\n{console}---");
        }
    }
}

fn qemu(disk: &Disk) -> Command {
    let path = |path: &Path| path.to_str().expect("UTF-8").to_owned();
    // What the machine has flushed is in the file; what it has not is lost when QEMU is killed.
    let drive = |image: &Path| format!("file={},if=virtio,format=raw", path(image));
    let console = format!("file,id=console,append=on,path={}", path(&disk.console()));
    let port = format!("socket,id=port,path={}", path(&disk.port()));
    let port_device = format!("virtserialport,chardev=port,name={PORT}");
    let mut qemu = Command::new("qemu-system-x86_64");
    qemu.args(["-nodefaults", "-no-reboot", "-display", "none"])
        .args(["-machine", "q35", "-accel", "tcg,thread=multi"])
        .args(["-cpu", "max", "-smp", "2", "-m", "1024"])
        .args(["-kernel", &path(disk.kernel())])
        .args(["-initrd", &path(disk.initrd())])
        .args(["-append", KERNEL_ARGUMENTS])
        .args(["-drive", &drive(&disk.root())])
        .args(["-drive", &drive(&disk.kit())])
        .args(["-chardev", &console, "-serial", "chardev:console"])
        .args(["-chardev", &port, "-device", "virtio-serial-pci"])
        .args(["-device", &port_device, "-device", "virtio-rng-pci"])
        .stdin(Stdio::null());
    qemu
}

/// Waits until QEMU connects.
fn accept(listener: &UnixListener) -> Option<UnixStream> {
    if wait::readable_within(listener, DEADLINE) {
        listener.accept().ok().map(|(stream, _)| stream)
    } else {
        None
    }
}
