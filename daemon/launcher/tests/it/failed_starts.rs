//! Commands that cannot be started, as distinct from commands that fail.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use escher_launcher::ipc::wire::{EndCause, LaunchSpec, MissingInterpreter};
use escher_protocol::{Blob, Exit, OutputTotals, StartStage};
use escher_testkit::peak_memory_bytes;
use nix::unistd::{Pid, getegid, geteuid};

use crate::commands::identity;
use crate::launcher::{install, names};
use crate::{Launcher, OTHER_USER, Output, exec, require_root, shell};

fn refused(launcher: &Launcher, spec: LaunchSpec, stage: StartStage, errno: i32) {
    let what = format!("{spec:.200?}");
    let shim = launcher.shim();
    let report = shim.run(&spec);
    assert_eq!(report.exit, Exit::NotStarted { stage, errno }, "{what}");
    assert_eq!(report.cause, EndCause::Itself);
    assert_eq!(report.output, OutputTotals::default());
    // The shim can run the next command.
    assert_eq!(shim.run(&exec(["true"])).exit, Exit::Code(0));
}

/// Writes a script, by another process: see [`install`].
fn write_script(path: &Path, text: &str) {
    let mut install = Command::new("install")
        .args(["-m", "755", "/dev/stdin"])
        .arg(path)
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = install.stdin.take().unwrap();
    stdin.write_all(text.as_bytes()).unwrap();
    drop(stdin);
    assert!(install.wait().unwrap().success());
}

#[test]
fn an_unusable_command_line_or_environment_fails_to_prepare() {
    let launcher = Launcher::start();
    let none: [&str; 0] = [];
    refused(&launcher, exec(none), StartStage::Prepare, libc::ENOENT);
    refused(&launcher, exec([""]), StartStage::Prepare, libc::ENOENT);
    let nul = exec(["echo", "a\0b"]);
    refused(&launcher, nul, StartStage::Prepare, libc::EINVAL);
    let mut nul = exec(["true"]);
    nul.environment.push("A=\0".into());
    refused(&launcher, nul, StartStage::Prepare, libc::EINVAL);
}

#[test]
fn an_unusable_working_directory_fails_or_falls_back_to_the_root() {
    let launcher = Launcher::start();
    let stage = StartStage::WorkingDirectory;
    for (directory, errno) in [("/nonexistent", libc::ENOENT), ("/dev/null", libc::ENOTDIR)] {
        let spec = || LaunchSpec {
            working_dir: directory.into(),
            ..exec(["pwd"])
        };
        refused(&launcher, spec(), stage, errno);
        let or_root = LaunchSpec {
            falls_back_to_root_dir: true,
            ..spec()
        };
        assert_eq!(launcher.shim().run(&or_root).exit, Exit::Code(0));
        assert_eq!(Output::of(&launcher, or_root.id).text(), "/\n");
    }
}

#[test]
fn an_unusable_program_fails_with_its_errno() {
    let launcher = Launcher::start();
    let stage = StartStage::Exec;
    let path = |name| launcher.path(name).into_os_string();
    let program = |name| exec([path(name)]);
    refused(&launcher, program("nothing"), stage, libc::ENOENT);
    refused(
        &launcher,
        exec(["no-such-program-here"]),
        stage,
        libc::ENOENT,
    );
    refused(&launcher, exec(["/"]), stage, libc::EACCES);
    fs::write(path("text"), "echo hi\n").unwrap();
    refused(&launcher, program("text"), stage, libc::EACCES);
    write_script(&launcher.path("bare"), "echo hi\n");
    refused(&launcher, program("bare"), stage, libc::ENOEXEC);
    write_script(&launcher.path("lost"), "#!/nonexistent/interpreter\n");
    refused(&launcher, program("lost"), stage, libc::ENOENT);
    std::os::unix::fs::symlink("circle", path("circle")).unwrap();
    refused(&launcher, program("circle"), stage, libc::ELOOP);
    install(Path::new("/bin/true"), &launcher.path("busy"), "755");
    let writer = File::options().append(true).open(path("busy")).unwrap();
    refused(&launcher, program("busy"), stage, libc::ETXTBSY);
    drop(writer);
    assert_eq!(launcher.shim().run(&program("busy")).exit, Exit::Code(0));
    assert!(names(&launcher.log_dir()).is_empty());
}

/// Runs a script that cannot be executed, and returns which interpreter its shim has found missing.
fn missing(launcher: &Launcher, spec: &LaunchSpec, errno: i32) -> Option<MissingInterpreter> {
    let report = launcher.shim().run(spec);
    let stage = StartStage::Exec;
    assert_eq!(
        report.exit,
        Exit::NotStarted { stage, errno },
        "{spec:.200?}"
    );
    report.missing_interpreter
}

/// All that was known was that something had not been found.
#[test]
fn the_interpreter_that_is_missing_is_named_whatever_the_first_line_is() {
    let launcher = Launcher::start();
    let path = |name: &str| launcher.path(name);
    let nested = path("middle").display().to_string();
    write_script(&path("middle"), "#!/no/such -x\n");
    write_script(&path("file"), "");
    let below_a_file = format!("{}/sh", path("file").display());
    let longest = format!("/no/{}", "x".repeat(249));
    for (first_line, errno, interpreter, script) in [
        ("#!/no/such\n", libc::ENOENT, Some("/no/such"), None),
        (
            "#! /no/such -e\nexit\n",
            libc::ENOENT,
            Some("/no/such"),
            None,
        ),
        ("#!no-such-file", libc::ENOENT, Some("no-such-file"), None),
        (
            "#!/bin/sh\r\nexit\r\n",
            libc::ENOENT,
            Some("/bin/sh\r"),
            None,
        ),
        ("#!/\x1b[2J\x07\n", libc::ENOENT, Some("/\x1b[2J\x07"), None),
        (
            &format!("#!{below_a_file}\n"),
            libc::ENOTDIR,
            Some(&*below_a_file),
            None,
        ),
        (
            &format!("#!{nested}\n"),
            libc::ENOENT,
            Some("/no/such"),
            Some(&*nested),
        ),
        (
            &format!("#!{longest}\n"),
            libc::ENOENT,
            Some(&*longest),
            None,
        ),
        (&format!("#!{longest}x\n"), libc::ENOEXEC, None, None),
        (
            &format!("#!{}\n", "x".repeat(100_000)),
            libc::ENOEXEC,
            None,
            None,
        ),
        ("\0\x01\x02", libc::ENOEXEC, None, None),
        ("#!\n", libc::ENOEXEC, None, None),
    ] {
        write_script(&path("script"), first_line);
        let expected = interpreter.map(|interpreter| MissingInterpreter {
            interpreter: interpreter.into(),
            script: script.map(Into::into),
        });
        let spec = exec([path("script").into_os_string()]);
        assert_eq!(
            missing(&launcher, &spec, errno),
            expected,
            "{first_line:.80?}"
        );
    }
    // What an earlier command has lacked says nothing of a later one.
    let spec = exec([path("nothing").into_os_string()]);
    assert_eq!(missing(&launcher, &spec, libc::ENOENT), None);
}

#[test]
fn a_first_line_of_four_gigabytes_is_not_read_to_its_end() {
    let launcher = Launcher::start();
    let script = launcher.path("script");
    write_script(&script, "#!/no/such ");
    let file = File::options().write(true).open(&script).unwrap();
    file.set_len(4 << 30).unwrap();
    drop(file);
    let found = missing(&launcher, &exec([script.into_os_string()]), libc::ENOENT);
    assert_eq!(found.unwrap().interpreter, Blob::from("/no/such"));
}

#[test]
fn a_script_in_path_is_named_with_its_interpreter_unless_its_path_is_too_long() {
    let launcher = Launcher::start();
    let directory = |name: &str| {
        fs::create_dir(launcher.path(name)).unwrap();
        launcher.path(name)
    };
    let (short, long) = (directory("short"), directory(&"d".repeat(250)));
    let found_in = |directory: &Path| {
        write_script(&directory.join("tool"), "#!/no/such\n");
        let mut path = Blob::from("PATH=/no/such/directory:").into_vec();
        path.extend_from_slice(directory.as_os_str().as_encoded_bytes());
        let spec = LaunchSpec {
            environment: vec![path.into()],
            ..exec(["tool"])
        };
        let found = missing(&launcher, &spec, libc::ENOENT).unwrap();
        assert_eq!(found.interpreter, Blob::from("/no/such"));
        found.script
    };
    let script = short.join("tool").into_os_string();
    assert_eq!(found_in(&short), Some(script.into()));
    assert_eq!(found_in(&long), None);
}

/// The first line is read as the user: the kernel executes what may not be read.
#[test]
fn a_script_that_its_user_may_not_read_is_not_read() {
    if !require_root("a file of somebody else") {
        return;
    }
    let launcher = Launcher::start();
    let script = launcher.path("script");
    write_script(&script, "#!/no/such\n");
    let found = |mode| {
        fs::set_permissions(&script, fs::Permissions::from_mode(mode)).unwrap();
        let spec = LaunchSpec {
            identity: identity(OTHER_USER, OTHER_USER, &[]),
            ..exec([script.clone().into_os_string()])
        };
        missing(&launcher, &spec, libc::ENOENT)
    };
    assert!(found(0o755).is_some());
    assert_eq!(found(0o711), None);
}

#[test]
fn an_argument_at_the_kernels_limit_passes_and_one_more_byte_does_not() {
    const LONGEST: usize = 32 * 4096 - 1; // MAX_ARG_STRLEN, execve(2), without the final NUL
    let launcher = Launcher::start();
    let spec = |length| exec(["true".to_owned().as_str(), &"x".repeat(length)]);
    assert_eq!(launcher.shim().run(&spec(LONGEST)).exit, Exit::Code(0));
    refused(&launcher, spec(LONGEST + 1), StartStage::Exec, libc::E2BIG);
    let many = exec(
        ["true"]
            .into_iter()
            .chain((0..260_000).map(|_| "0123456789abcdef0123456")),
    );
    refused(&launcher, many, StartStage::Exec, libc::E2BIG);
}

#[test]
fn programs_are_searched_in_the_commands_own_path() {
    let launcher = Launcher::start();
    let folder = |name| {
        fs::create_dir(launcher.path(name)).unwrap();
        launcher.path(name)
    };
    let (first, second) = (folder("first"), folder("second"));
    fs::write(first.join("tool"), "not executable").unwrap();
    let mut path = Blob::from("PATH=").into_vec();
    for part in [first.as_os_str(), ":".as_ref(), second.as_os_str()] {
        path.extend_from_slice(part.as_encoded_bytes());
    }
    let spec = || LaunchSpec {
        environment: vec![path.clone().into()],
        ..exec(["tool"])
    };
    refused(&launcher, spec(), StartStage::Exec, libc::EACCES);
    write_script(&second.join("tool"), "#!/bin/sh\nexit 8\n");
    assert_eq!(launcher.shim().run(&spec()).exit, Exit::Code(8));
}

/// The shim made all paths at once: as many bytes as the name has, multiplied by the colons.
#[test]
fn a_long_name_and_a_path_of_many_directories_take_no_memory() {
    const KIB: u64 = 1024;
    let launcher = Launcher::start();
    let shim = launcher.shim();
    let with_path = |name: String, path: &str| LaunchSpec {
        environment: vec![format!("PATH={path}").as_str().into()],
        ..exec([name.as_str()])
    };
    // The first command makes the shim as large as it is.
    let colons = ":".repeat(64 * 1024);
    shim.run(&with_path("x".repeat(64 * 1024), "/bin"));
    let peak = || peak_memory_bytes(Pid::from_raw(shim.pid().cast_signed())).unwrap();
    let before = peak();
    let too_long_directory = format!("/{}:/bin", "d".repeat(5000));
    for (spec, errno) in [
        (
            with_path("x".repeat(64 * 1024), &colons),
            libc::ENAMETOOLONG,
        ),
        (with_path("x".repeat(255), &colons), libc::ENOENT),
        (
            with_path("x".repeat(5000) + "/", "/bin"),
            libc::ENAMETOOLONG,
        ),
        (with_path("x".to_owned(), &too_long_directory), libc::ENOENT),
    ] {
        let stage = StartStage::Exec;
        assert_eq!(shim.run(&spec).exit, Exit::NotStarted { stage, errno });
    }
    let grown = peak() - before;
    assert!(grown < 512 * KIB, "{grown} bytes more");
    let found = with_path("true".to_owned(), &format!("{too_long_directory}:{colons}"));
    assert_eq!(shim.run(&found).exit, Exit::Code(0));
}

#[test]
fn exit_126_and_127_are_statuses_of_the_command_itself() {
    let launcher = Launcher::start();
    let shim = launcher.shim();
    for code in [126, 127] {
        let report = shim.run(&shell(&format!("exit {code}")));
        assert_eq!(report.exit, Exit::Code(code));
    }
}

#[test]
fn without_privileges_no_command_changes_its_user() {
    let launcher = Launcher::start_without_privileges();
    let anybody = LaunchSpec {
        identity: identity(OTHER_USER + 1, OTHER_USER + 1, &[]),
        ..exec(["true"])
    };
    refused(&launcher, anybody, StartStage::Groups, libc::EPERM);
    let root = LaunchSpec {
        identity: identity(0, 0, &[0]),
        ..exec(["true"])
    };
    refused(&launcher, root, StartStage::Groups, libc::EPERM);
    let spec = shell("id -u; id -g");
    launcher.shim().run(&spec);
    let (uid, gid) = if geteuid().is_root() {
        (OTHER_USER, OTHER_USER)
    } else {
        (geteuid().as_raw(), getegid().as_raw())
    };
    assert_eq!(
        Output::of(&launcher, spec.id).text(),
        format!("{uid}\n{gid}\n")
    );
}

#[test]
fn an_invalid_id_is_noticed_after_the_change_of_user() {
    if !require_root("ids that the kernel takes for `leave it as it is`") {
        return;
    }
    let launcher = Launcher::start();
    let stage = StartStage::VerifyIdentity;
    for (uid, gid) in [(u32::MAX, OTHER_USER), (OTHER_USER, u32::MAX)] {
        let spec = LaunchSpec {
            identity: identity(uid, gid, &[]),
            ..exec(["true"])
        };
        refused(&launcher, spec, stage, libc::EPERM);
    }
    let spec = LaunchSpec {
        identity: identity(OTHER_USER, OTHER_USER, &[u32::MAX]),
        ..exec(["true"])
    };
    refused(&launcher, spec, StartStage::Groups, libc::EINVAL);
}

#[test]
fn working_directory_and_program_are_accessed_as_the_user() {
    if !require_root("folders of somebody else") {
        return;
    }
    let launcher = Launcher::start();
    let only_root = fs::Permissions::from_mode(0o700);
    fs::set_permissions(launcher.path(""), only_root).unwrap();
    let as_other = |spec: LaunchSpec| LaunchSpec {
        identity: identity(OTHER_USER, OTHER_USER, &[]),
        ..spec
    };
    let closed = LaunchSpec {
        working_dir: launcher.log_dir().into_os_string().into(),
        ..exec(["true"])
    };
    refused(
        &launcher,
        as_other(closed),
        StartStage::WorkingDirectory,
        libc::EACCES,
    );
    install(Path::new("/bin/true"), &launcher.path("mine"), "755");
    let program = exec([launcher.path("mine").into_os_string()]);
    refused(&launcher, as_other(program), StartStage::Exec, libc::EACCES);
}
