//! The child of a shim between clone(2) and execve(2).

use std::fs;
use std::io::Write;
use std::path::Path;

use escher_launcher::ipc::wire::LaunchSpec;
use escher_protocol::{Exit, StartStage};
use nix::errno::Errno;
use nix::sys::ptrace::{self, Options};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::commands::identity;
use crate::launcher::names;
use crate::{Launcher, OTHER_USER, Shim, exec, raw, require_root};
use escher_testkit::report_skipped;

/// A user whose quota of keys a test uses up.
const USER_WITHOUT_KEYS: u32 = OTHER_USER + 20;

/// Launches a command, stops its process when it is about to execute its program, and returns what
/// `look` sees then. The command goes on afterwards.
fn at_exec<T: Send>(shim: &Shim, spec: &LaunchSpec, look: impl FnOnce(u32) -> T + Send) -> T {
    let trace = || {
        let parent = Pid::from_raw(shim.pid().cast_signed());
        let wait = |pid| waitpid(pid, Some(WaitPidFlag::__WALL)).unwrap();
        let children = Options::PTRACE_O_TRACEFORK | Options::PTRACE_O_TRACECLONE;
        ptrace::seize(parent, children | Options::PTRACE_O_TRACESYSGOOD).unwrap();
        shim.launch(spec);
        let status = wait(parent);
        assert!(matches!(status, WaitStatus::PtraceEvent(..)), "{status:?}");
        let child = Pid::from_raw(ptrace::getevent(parent).unwrap().try_into().unwrap());
        ptrace::cont(parent, None).unwrap();
        wait(child);
        while raw::entered_call(child) != Some(libc::SYS_execve) {
            ptrace::syscall(child, None).unwrap();
            wait(child);
        }
        look(child.as_raw().unsigned_abs())
    };
    // The kernel detaches a thread that ends from what it traces.
    std::thread::scope(|scope| scope.spawn(trace).join().unwrap())
}

/// Whether two processes share their memory: the kernel gives all that do the same out-of-memory
/// score.
fn share_memory(one: u32, other: u32) -> bool {
    let score = |pid| format!("/proc/{pid}/oom_score_adj");
    let before = fs::read_to_string(score(other)).unwrap();
    fs::write(score(one), "7").unwrap();
    let after = fs::read_to_string(score(other)).unwrap();
    fs::write(score(one), &before).unwrap();
    after != before
}

/// A child that its user had stopped kept the connection to escherd open when its shim died.
#[test]
fn a_child_in_set_up_holds_nothing_of_its_shim() {
    if !require_root("the descriptors of a child in set-up") {
        return;
    }
    let launcher = Launcher::start();
    let shim = launcher.shim();
    let spec = LaunchSpec {
        stdin: true,
        ..exec(["true"])
    };
    let open = at_exec(&shim, &spec, |child| {
        names(Path::new(&format!("/proc/{child}/fd")))
    });
    // The fourth tells the shim that the set-up is over.
    assert_eq!(open, ["0", "1", "2", "3"]);
    assert_eq!(shim.finish().exit, Exit::Code(0));
}

/// The setting was read once, when the launcher started.
#[test]
fn a_child_has_memory_of_its_own_once_its_user_could_trace_it() {
    if !require_root("fs.suid_dumpable") {
        return;
    }
    let mut setting = tempfile::NamedTempFile::new().unwrap();
    setting.write_all(b"0").unwrap();
    let path = setting.path().display();
    let script = format!("mount --bind {path} /proc/sys/fs/suid_dumpable && exec \"$0\" \"$@\"");
    let launcher = Launcher::start_by(&["unshare", "--mount", "/bin/sh", "-c", &script]);
    let shim = launcher.shim();
    let as_root = || exec(["true"]);
    let as_user = || LaunchSpec {
        identity: identity(OTHER_USER, OTHER_USER, &[]),
        ..exec(["true"])
    };
    let shares = |spec: &LaunchSpec| {
        let shares = at_exec(&shim, spec, |child| share_memory(child, shim.pid()));
        assert_eq!(shim.finish().exit, Exit::Code(0));
        shares
    };
    assert!(shares(&as_user()) && shares(&as_root()));
    fs::write(setting.path(), "1").unwrap();
    assert!(!shares(&as_user()));
    // Root can trace it anyway.
    assert!(shares(&as_root()));
    fs::write(setting.path(), "2").unwrap();
    assert!(shares(&as_user()));
}

/// Such commands shared the launcher's keyring, whoever's they were.
#[test]
fn a_command_of_another_user_is_not_started_without_a_keyring_of_its_own() {
    if !require_root("a quota of keys") {
        return;
    }
    let launcher = Launcher::start_as(USER_WITHOUT_KEYS);
    let shim = launcher.shim();
    let without_keys = || {
        raw::become_user_in_this_thread(USER_WITHOUT_KEYS);
        let error = (0..10_000).find_map(|number| raw::add_key(number).err());
        let errno = error.and_then(|error| error.raw_os_error());
        if errno != Some(libc::EDQUOT) {
            let error = errno.map(Errno::from_raw);
            report_skipped(&format!("needs keys ({error:?})"), "a quota of keys");
            return;
        }
        let id = USER_WITHOUT_KEYS;
        let with_identity = LaunchSpec {
            identity: identity(id, id, &[]),
            ..exec(["true"])
        };
        let (stage, errno) = (StartStage::Keyring, libc::EDQUOT);
        let refused = Exit::NotStarted { stage, errno };
        assert_eq!(shim.run(&with_identity).exit, refused);
        // The launcher's own user has its keyring anyway.
        assert_eq!(shim.run(&exec(["true"])).exit, Exit::Code(0));
    };
    std::thread::scope(|scope| scope.spawn(without_keys).join().unwrap());
}
