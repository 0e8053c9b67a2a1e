//! The system of a machine, as it is installed.

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix::fcntl::{Flock, FlockArg};

use super::orders::PORT;
use crate::binaries::{self, target_folder};
use crate::{Started, has_program, is_root_for, say_skipped};

/// What is installed beside the bare minimum.
const PACKAGES: &str =
    "systemd,systemd-sysv,libpam-systemd,dbus,udev,procps,linux-image-cloud-amd64";

/// The version of glibc 2 in Debian 12.
const GLIBC: u32 = 36;

/// As large as its file may grow; until it is used it takes no room.
const SIZE: &str = "2G";

/// A download of packages, over whatever network there is, and their installation.
const DEADLINE: Duration = Duration::from_secs(900);

/// The programs that make and run a machine, and the Debian packages that have them.
const TOOLS: [(&str, &str); 3] = [
    ("mmdebstrap", "mmdebstrap"),
    ("mke2fs", "e2fsprogs"),
    ("qemu-system-x86_64", "qemu-system-x86"),
];

/// Disks of a machine: that of the system, and the one that a test brings along.
const FSTAB: &str = "/dev/vda / ext4 rw 0 1\n/dev/vdb /kit ext4 ro 0 0\n";

const UNIT: &str = "[Unit]
Description=Carries out what the test says
RequiresMountsFor=/kit
BindsTo=dev-virtio\\x2dports-PORT.device
After=dev-virtio\\x2dports-PORT.device

[Service]
ExecStart=/kit/hand
TasksMax=infinity
";

/// Debian 12, installed and never booted.
#[derive(Debug)]
pub struct Debian {
    folder: PathBuf,
}

impl Debian {
    /// The one that is kept, made anew if there is none or if it is to be another. Where that cannot be done,
    /// says loudly that `what` was not tested, and why.
    #[must_use]
    pub fn for_testing(what: &str) -> Option<Self> {
        if !is_root_for(what) {
            return None;
        }
        let missing = TOOLS.iter().filter(|(tool, _)| !has_program(tool));
        let missing: Vec<&str> = missing.map(|(_, package)| *package).collect();
        if !missing.is_empty() {
            let packages = missing.join(" ");
            say_skipped(&format!("needs the Debian packages {packages}"), what);
            return None;
        }
        let needed = [
            binaries::escherd(),
            binaries::escherctl(),
            binaries::host_agent(),
        ];
        let needed = needed.iter().map(|program| glibc_needed_by(program)).max();
        match needed {
            Some(needed) if cfg!(target_arch = "x86_64") && needed <= GLIBC => Some(Self::kept()),
            _ => {
                let why = format!("needs programs for x86-64 and glibc 2.{GLIBC} or older");
                say_skipped(&why, what);
                None
            }
        }
    }

    /// Its root file system, ready to be copied.
    pub(super) fn root(&self) -> PathBuf {
        self.folder.join("root.ext4")
    }

    pub(super) fn kernel(&self) -> PathBuf {
        self.folder.join("vmlinuz")
    }

    pub(super) fn initrd(&self) -> PathBuf {
        self.folder.join("initrd.img")
    }

    fn kept() -> Self {
        let folder = target_folder().with_file_name("host");
        fs::create_dir_all(&folder).unwrap();
        // Several tests may want it at once.
        let lock = File::create(folder.join("lock")).unwrap();
        let _lock = Flock::lock(lock, FlockArg::LockExclusive).expect("a lock");
        // Written last: what it tells of is there.
        let recipe = folder.join("recipe");
        let inputs = format!("bookworm {PACKAGES} {SIZE}\n{FSTAB}{UNIT}");
        let debian = Debian { folder };
        if fs::read_to_string(&recipe).ok().as_ref() != Some(&inputs) {
            let _ = fs::remove_file(&recipe);
            debian.make();
            fs::write(recipe, inputs).unwrap();
        }
        debian
    }

    fn make(&self) {
        let root = tempfile::tempdir().unwrap();
        let mut install = Command::new("mmdebstrap");
        install
            .args(["--quiet", "--variant=minbase"])
            .arg(format!("--include={PACKAGES}"))
            .arg("bookworm")
            .arg(root.path());
        let _ = Started::new(install, DEADLINE).end().expect(0);
        furnish(root.path());
        let take_out = |name: &str, to: PathBuf| {
            let versions = fs::read_dir(root.path().join("boot")).unwrap().flatten();
            let named = |file: &fs::DirEntry| file.file_name().to_string_lossy().starts_with(name);
            let mut found: Vec<_> = versions.filter(named).collect();
            assert_eq!(found.len(), 1, "{name} in /boot: {found:?}");
            fs::copy(found.remove(0).path(), to).unwrap();
        };
        take_out("vmlinuz-", self.kernel());
        take_out("initrd.img-", self.initrd());
        make_image(&self.root(), root.path(), SIZE);
    }
}

/// An ext4 of this size with everything that is in `folder`.
pub(super) fn make_image(image: &Path, folder: &Path, size: &str) {
    let _ = fs::remove_file(image);
    let mut make = Command::new("mke2fs");
    make.args(["-q", "-t", "ext4", "-d"])
        .args([folder, image])
        .arg(size);
    let _ = Started::new(make, DEADLINE).end().expect(0);
}

/// What makes any Debian one for tests.
fn furnish(root: &Path) {
    let units = root.join("etc/systemd/system");
    let wanted = units.join("multi-user.target.wants");
    fs::create_dir_all(&wanted).unwrap();
    fs::create_dir_all(root.join("kit")).unwrap();
    fs::write(root.join("etc/fstab"), FSTAB).unwrap();
    fs::write(root.join("etc/hostname"), "debian\n").unwrap();
    fs::write(units.join("hand.service"), UNIT.replace("PORT", PORT)).unwrap();
    symlink("../hand.service", wanted.join("hand.service")).unwrap();
}

/// The newest version of glibc 2 that a program has symbols of.
fn glibc_needed_by(program: &Path) -> u32 {
    let bytes = fs::read(program).unwrap();
    let mark = b"GLIBC_2.";
    let version = |at: usize| {
        let digits = bytes[at + mark.len()..].iter();
        let digits = digits.take_while(|byte| byte.is_ascii_digit()).take(3);
        digits.fold(0, |number, digit| number * 10 + u32::from(digit - b'0'))
    };
    let places = bytes.windows(mark.len()).enumerate();
    let versions = places.filter(|(_, window)| window == mark);
    versions.map(|(at, _)| version(at)).max().unwrap_or(0)
}
