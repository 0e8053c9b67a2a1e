//! The installed system of a machine.

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix::fcntl::{Flock, FlockArg};

use super::agent_protocol::PORT;
use crate::binaries::{self, target_directory};
use crate::{RunningProgram, has_program, report_skipped, require_root};

/// Packages beside the bare minimum.
const PACKAGES: &str =
    "systemd,systemd-sysv,libpam-systemd,dbus,udev,procps,needrestart,linux-image-cloud-amd64";

/// The version of glibc 2 in Debian 12.
const GLIBC: u32 = 36;

/// Size of its file system, whose file is sparse.
const SIZE: &str = "2G";

/// How long the download and installation of packages may take, on a slow network.
const INSTALL_DEADLINE: Duration = Duration::from_secs(900);

/// The programs that make and run a machine, and the Debian packages that have them.
const TOOLS: [(&str, &str); 3] = [
    ("mmdebstrap", "mmdebstrap"),
    ("mke2fs", "e2fsprogs"),
    ("qemu-system-x86_64", "qemu-system-x86"),
];

/// The disks of a machine: the system and the kit of the test.
const FSTAB: &str = "/dev/vda / ext4 rw 0 1\n/dev/vdb /kit ext4 ro 0 0\n";

const UNIT: &str = "[Unit]
Description=Runs the scripts of the test
RequiresMountsFor=/kit
BindsTo=dev-virtio\\x2dports-PORT.device
After=dev-virtio\\x2dports-PORT.device

[Service]
ExecStart=/kit/host-agent
TasksMax=infinity
";

/// Keeps needrestart, which runs after every installation, from ending the scripts of the test.
const NEEDRESTART: &str = "$nrconf{override_rc}{qr(^host-agent\\.service$)} = 0;\n";

/// Debian 12, installed and never booted.
#[derive(Debug)]
pub struct Debian {
    directory: PathBuf,
}

impl Debian {
    /// Returns the installation under `target/host`, which is made first where it is missing or outdated.
    /// Where that is impossible, reports that `what` was not tested.
    #[must_use]
    pub fn install_or_skip(what: &str) -> Option<Self> {
        if !require_root(what) {
            return None;
        }
        let missing = TOOLS.iter().filter(|(tool, _)| !has_program(tool));
        let missing: Vec<&str> = missing.map(|(_, package)| *package).collect();
        if !missing.is_empty() {
            let packages = missing.join(" ");
            report_skipped(&format!("needs the Debian packages {packages}"), what);
            return None;
        }
        let needed = [
            binaries::escherd(),
            binaries::escherctl(),
            binaries::host_agent(),
        ];
        let needed = needed.iter().map(|program| glibc_needed_by(program)).max();
        match needed {
            Some(needed) if cfg!(target_arch = "x86_64") && needed <= GLIBC => {
                Some(Self::installed())
            }
            _ => {
                let why = format!("needs programs for x86-64 and glibc 2.{GLIBC} or older");
                report_skipped(&why, what);
                None
            }
        }
    }

    /// Its root file system, ready to be copied.
    pub(super) fn root(&self) -> PathBuf {
        self.directory.join("root.ext4")
    }

    pub(super) fn kernel(&self) -> PathBuf {
        self.directory.join("vmlinuz")
    }

    pub(super) fn initrd(&self) -> PathBuf {
        self.directory.join("initrd.img")
    }

    fn installed() -> Self {
        let directory = target_directory().with_file_name("host");
        fs::create_dir_all(&directory).unwrap();
        // Several tests may need it at once.
        let lock = File::create(directory.join("lock")).unwrap();
        let _lock = Flock::lock(lock, FlockArg::LockExclusive).expect("a lock");
        // Written last, so that what it describes is complete.
        let recipe = directory.join("recipe");
        let inputs = format!("bookworm {PACKAGES} {SIZE}\n{FSTAB}{UNIT}{NEEDRESTART}");
        let debian = Debian { directory };
        if fs::read_to_string(&recipe).ok().as_ref() != Some(&inputs) {
            let _ = fs::remove_file(&recipe);
            debian.install();
            fs::write(recipe, inputs).unwrap();
        }
        debian
    }

    fn install(&self) {
        let root = tempfile::tempdir().unwrap();
        let mut install = Command::new("mmdebstrap");
        install
            .args(["--quiet", "--variant=minbase"])
            .arg(format!("--include={PACKAGES}"))
            .arg("bookworm")
            .arg(root.path());
        let _ = RunningProgram::spawn(install, INSTALL_DEADLINE)
            .wait()
            .expect(0);
        add_agent(root.path());
        let copy_from_boot = |name: &str, to: PathBuf| {
            let versions = fs::read_dir(root.path().join("boot")).unwrap().flatten();
            let named = |file: &fs::DirEntry| file.file_name().to_string_lossy().starts_with(name);
            let mut found: Vec<_> = versions.filter(named).collect();
            assert_eq!(found.len(), 1, "{name} in /boot: {found:?}");
            fs::copy(found.remove(0).path(), to).unwrap();
        };
        copy_from_boot("vmlinuz-", self.kernel());
        copy_from_boot("initrd.img-", self.initrd());
        make_image(&self.root(), root.path(), SIZE);
    }
}

/// Makes an ext4 file system of this size with the contents of `directory`.
pub(super) fn make_image(image: &Path, directory: &Path, size: &str) {
    let _ = fs::remove_file(image);
    let mut make = Command::new("mke2fs");
    make.args(["-q", "-t", "ext4", "-d"])
        .args([directory, image])
        .arg(size);
    let _ = RunningProgram::spawn(make, INSTALL_DEADLINE)
        .wait()
        .expect(0);
}

/// Adds what makes a Debian one for tests: its disks, and the service of the agent.
fn add_agent(root: &Path) {
    let units = root.join("etc/systemd/system");
    let wanted = units.join("multi-user.target.wants");
    fs::create_dir_all(&wanted).unwrap();
    fs::create_dir_all(root.join("kit")).unwrap();
    fs::write(root.join("etc/fstab"), FSTAB).unwrap();
    fs::write(root.join("etc/hostname"), "debian\n").unwrap();
    fs::write(
        root.join("etc/needrestart/conf.d/host-agent.conf"),
        NEEDRESTART,
    )
    .unwrap();
    fs::write(units.join("host-agent.service"), UNIT.replace("PORT", PORT)).unwrap();
    symlink("../host-agent.service", wanted.join("host-agent.service")).unwrap();
}

/// The newest version of glibc 2 that a program has symbols of.
fn glibc_needed_by(program: &Path) -> u32 {
    let bytes = fs::read(program).unwrap();
    let prefix = b"GLIBC_2.";
    let version = |at: usize| {
        let digits = bytes[at + prefix.len()..].iter();
        let digits = digits.take_while(|byte| byte.is_ascii_digit()).take(3);
        digits.fold(0, |number, digit| number * 10 + u32::from(digit - b'0'))
    };
    let windows = bytes.windows(prefix.len()).enumerate();
    let found = windows.filter(|(_, window)| window == prefix);
    found.map(|(at, _)| version(at)).max().unwrap_or(0)
}
