//! Carries out, inside a machine, what the test outside says: each [`Order`] is a shell's, any number at once.
//!
//! A machine whose test is gone powers itself off, so that it is not left behind.

use std::fs::{File, OpenOptions};
use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use escher_protocol::OutputStream;
use escher_tests::host::orders::{News, Order, PORT, receive, send};

/// The way to the test. Where it is closed, nobody is there to be told so.
type Port = Arc<Mutex<File>>;

fn main() {
    let path = format!("/dev/virtio-ports/{PORT}");
    let port = OpenOptions::new().read(true).write(true).open(path);
    let mut orders = port.expect("the port");
    let news = Arc::new(Mutex::new(orders.try_clone().expect("a descriptor")));
    tell(&news, &News::Ready);
    while let Ok(Some(order)) = receive(&mut orders) {
        let news = news.clone();
        std::thread::spawn(move || carry_out(&order, &news));
    }
    let _ = Command::new("systemctl").arg("poweroff").status();
}

fn carry_out(order: &Order, news: &Port) {
    let task = order.task;
    let mut child = Command::new("runuser")
        .args(["-u", &order.user, "--", "/bin/sh", "-c", &order.script])
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("runuser(1)");
    let stdout = child.stdout.take().expect("a pipe");
    let stderr = child.stderr.take().expect("a pipe");
    std::thread::scope(|scope| {
        scope.spawn(|| pass_on(task, OutputStream::Stdout, stdout, news));
        scope.spawn(|| pass_on(task, OutputStream::Stderr, stderr, news));
    });
    let status = child.wait().expect("it is a child");
    let code = status.code().unwrap_or_else(|| -status.signal().unwrap());
    tell(news, &News::Ended { task, code });
}

fn pass_on(task: u32, stream: OutputStream, mut pipe: impl Read, news: &Port) {
    let mut buffer = vec![0; 65_536];
    while let Ok(length @ 1..) = pipe.read(&mut buffer) {
        let data = buffer[..length].into();
        tell(news, &News::Output { task, stream, data });
    }
}

fn tell(port: &Port, news: &News) {
    let _ = send(&mut *port.lock().unwrap(), news);
}
