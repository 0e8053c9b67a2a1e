//! Runs a test's scripts inside its virtual machine, any number at once: see `escher_tests::host`.
//!
//! When the test has ended it powers the machine off, so that none is left behind.

use std::fs::{File, OpenOptions};
use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use escher_protocol::OutputStream;
use escher_tests::host::agent_protocol::{PORT, Report, RunScript, receive, send};

/// The way to the test, shared by the threads that report.
type Port = Arc<Mutex<File>>;

fn main() {
    let path = format!("/dev/virtio-ports/{PORT}");
    let port = OpenOptions::new().read(true).write(true).open(path);
    let mut incoming = port.expect("the port");
    let outgoing = Arc::new(Mutex::new(incoming.try_clone().expect("a descriptor")));
    report(&outgoing, &Report::Ready);
    while let Ok(Some(script)) = receive(&mut incoming) {
        let outgoing = outgoing.clone();
        std::thread::spawn(move || run(&script, &outgoing));
    }
    let _ = Command::new("systemctl").arg("poweroff").status();
}

fn run(script: &RunScript, port: &Port) {
    let task = script.task;
    let mut child = Command::new("runuser")
        .args(["-u", &script.user, "--", "/bin/sh", "-c", &script.script])
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("runuser(1)");
    let stdout = child.stdout.take().expect("a pipe");
    let stderr = child.stderr.take().expect("a pipe");
    std::thread::scope(|scope| {
        scope.spawn(|| forward(task, OutputStream::Stdout, stdout, port));
        scope.spawn(|| forward(task, OutputStream::Stderr, stderr, port));
    });
    let status = child.wait().expect("it is a child");
    let code = status.code().unwrap_or_else(|| -status.signal().unwrap());
    report(port, &Report::Ended { task, code });
}

fn forward(task: u32, stream: OutputStream, mut pipe: impl Read, port: &Port) {
    let mut buffer = vec![0; 65_536];
    while let Ok(length @ 1..) = pipe.read(&mut buffer) {
        let data = buffer[..length].into();
        report(port, &Report::Output { task, stream, data });
    }
}

fn report(port: &Port, report: &Report) {
    // Where the test has ended, nobody is there to read it.
    let _ = send(&mut *port.lock().unwrap(), report);
}
