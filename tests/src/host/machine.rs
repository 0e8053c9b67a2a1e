//! A machine that is on.

use std::fs;
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Command, Stdio};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;

use super::DEADLINE;
use super::disk::Disk;
use super::orders::PORT;
use super::task::{Orders, Task};
use crate::{Ended, Started};

/// How much of the console is shown when a test fails.
const CONSOLE_BYTES: usize = 30_000;

/// The journal goes to the console as well, for whoever has to find out what went wrong.
const KERNEL_ARGUMENTS: &str = "console=ttyS0 root=/dev/vda rw quiet mitigations=off \
                                systemd.journald.forward_to_console=1";

/// A machine that is on. Off, as if its power were cut, if the test forgets it.
#[derive(Debug)]
pub struct Machine<'disk> {
    disk: &'disk Disk,
    qemu: Started,
    orders: Orders,
    _console: Console<'disk>,
}

/// Shows what the machine has said, where a test has failed.
#[derive(Debug)]
struct Console<'disk>(&'disk Disk);

impl<'disk> Machine<'disk> {
    /// Turns a machine on and waits until it is up.
    ///
    /// # Panics
    /// When it does not come up; with what it has said.
    #[must_use]
    pub fn boot(disk: &'disk Disk) -> Self {
        let _ = fs::remove_file(disk.port());
        let listener = UnixListener::bind(disk.port()).unwrap();
        let qemu = Started::new(qemu(disk), DEADLINE);
        let Some(port) = accept(&listener) else {
            qemu.signal(Signal::SIGKILL);
            panic!("QEMU does not start: {:?}", qemu.end());
        };
        let machine = Machine {
            disk,
            qemu,
            orders: Orders::new(port),
            _console: Console(disk),
        };
        let ready = machine.orders.await_ready();
        assert!(ready.is_ok(), "the machine does not come up");
        machine
    }

    /// Has root run a shell's script to its end.
    #[track_caller]
    #[must_use]
    pub fn run(&self, script: &str) -> Ended {
        self.start(script).end()
    }

    /// The same for another user.
    #[track_caller]
    #[must_use]
    pub fn run_as(&self, user: &str, script: &str) -> Ended {
        self.start_as(user, script).end()
    }

    /// Has root run a shell's script, which has to succeed; returns what it printed.
    #[track_caller]
    pub fn must(&self, script: &str) -> String {
        self.run(script).expect(0).out().to_owned()
    }

    /// Has root start a shell's script.
    #[must_use]
    pub fn start(&self, script: &str) -> Task {
        self.start_as("root", script)
    }

    /// Has a user start a shell's script.
    #[must_use]
    pub fn start_as(&self, user: &str, script: &str) -> Task {
        self.orders.give(user, script)
    }

    /// Cuts its power.
    pub fn cut_power(self) {
        self.qemu.signal(Signal::SIGKILL);
        let _ = self.qemu.end().expect(-9);
    }

    /// Shuts it down as it should be, and waits until it is off.
    pub fn shut_down(self) {
        let _order = self.start("systemctl poweroff");
        let _ = self.qemu.end().expect(0);
    }

    /// Has it boot again, as it should be.
    #[must_use]
    pub fn reboot(self) -> Self {
        let disk = self.disk;
        let _order = self.start("systemctl reboot");
        // QEMU ends at a reset; what is on the disk boots in the next.
        let _ = self.qemu.end().expect(0);
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
    // What the machine has flushed is in the file, and what it has not is gone with QEMU.
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

/// Waits for QEMU to call.
fn accept(listener: &UnixListener) -> Option<UnixStream> {
    let patience = PollTimeout::try_from(DEADLINE).unwrap_or(PollTimeout::MAX);
    let mut one = [PollFd::new(listener.as_fd(), PollFlags::POLLIN)];
    match poll(&mut one, patience) {
        Ok(1..) => listener.accept().ok().map(|(stream, _)| stream),
        _ => None,
    }
}
