//! A launcher of another version, as far as escherd can tell: it relays between escherd and the real one, says a
//! version of its own, and lets nothing through that the version does not have.
//!
//! The version is the number at the end of the name that it is started by, as in `launcher-v1`.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::process::{Command, Stdio};

use escher_launcher::ipc::packet::{PacketSocket, Received, Waiting};
use escher_launcher::ipc::wire::{LauncherReply, LauncherRequest, MAX_PACKET_BYTES};
use escher_launcher::launcher::control_from_stdin;
use escher_protocol::codec;
use escher_tests::launcher;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

fn main() -> io::Result<()> {
    let mut arguments = std::env::args_os();
    let name = arguments.next().expect("a name");
    let name = Path::new(&name)
        .file_name()
        .unwrap()
        .to_str()
        .unwrap()
        .to_owned();
    let version = name.rsplit('v').next().unwrap().parse().expect(&name);

    let escherd = PacketSocket::from_descriptor(control_from_stdin()?);
    let (here, there) = PacketSocket::pair()?;
    let mut real = Command::new(launcher())
        .args(arguments)
        .stdin(Stdio::from(OwnedFd::from(there)))
        .spawn()?;
    let mut buffer = vec![0; MAX_PACKET_BYTES];
    loop {
        let mut both = [
            PollFd::new(escherd.as_fd(), PollFlags::POLLIN),
            PollFd::new(here.as_fd(), PollFlags::POLLIN),
        ];
        poll(&mut both, PollTimeout::NONE)?;
        let ready = both.each_ref().map(|one| one.any().unwrap_or(true));
        if ready[0] {
            let Some(received) = escherd.receive(&mut buffer, Waiting::Never)? else {
                break;
            };
            check(&codec::decode(&buffer[..received.length]).unwrap(), version);
            here.send(&buffer[..received.length], None, Waiting::Allowed)?;
        }
        if ready[1] {
            let Some(received) = here.receive(&mut buffer, Waiting::Never)? else {
                break;
            };
            pass_on(&escherd, &buffer, received, version)?;
        }
    }
    drop(here);
    real.wait().map(drop)
}

/// A version that does not know a request would not understand it.
fn check(request: &LauncherRequest, version: u16) {
    let since = match request {
        LauncherRequest::Fork { .. } => 1,
        LauncherRequest::Remove { .. } => 2,
        LauncherRequest::Use(_) | LauncherRequest::Sweep { .. } => 4,
    };
    assert!(
        version >= since,
        "version {version} does not know {request:?}"
    );
}

fn pass_on(
    escherd: &PacketSocket,
    buffer: &[u8],
    received: Received,
    version: u16,
) -> io::Result<()> {
    let reply = match codec::decode(&buffer[..received.length]).unwrap() {
        LauncherReply::Hello { pid, uid, .. } => LauncherReply::Hello { version, pid, uid },
        LauncherReply::ShimDied { .. } | LauncherReply::Removed { .. } if version < 2 => {
            return Ok(());
        }
        LauncherReply::Abilities(_) if version < 4 => return Ok(()),
        other => other,
    };
    let bytes = codec::encode(&reply).unwrap();
    let descriptor = received.descriptor.as_ref().map(AsFd::as_fd);
    escherd.send(&bytes, descriptor, Waiting::Allowed)
}
