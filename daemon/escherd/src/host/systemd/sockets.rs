//! The sockets that systemd listens on for escherd (sd_listen_fds(3)).

use std::io;
use std::os::unix::net::UnixListener;

/// The name of the one for metrics (`FileDescriptorName=`, systemd.socket(5)).
const METRICS: &str = "metrics";

/// What systemd has handed over.
#[derive(Debug, Default)]
pub struct Sockets {
    /// Where clients connect. Whatever its name is: most of those who write a unit of their own give it none.
    pub clients: Option<UnixListener>,
    /// Where metrics are fetched.
    pub metrics: Option<UnixListener>,
}

impl Sockets {
    /// Takes them, each by its name; only once, for later there are none.
    ///
    /// # Errors
    /// When there are two for one use, or something that is no listening Unix stream socket.
    pub fn take() -> io::Result<Self> {
        let mut sockets = Sockets::default();
        for (name, listener) in escher_launcher::os::socket_activation::listeners()? {
            let (place, whom) = match name.as_str() {
                METRICS => (&mut sockets.metrics, "metrics"),
                _ => (&mut sockets.clients, "clients"),
            };
            if place.replace(listener).is_some() {
                let what = format!("there is more than one for {whom}; `{name}` is one too many");
                return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
            }
        }
        Ok(sockets)
    }
}
