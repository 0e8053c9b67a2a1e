//! What every verb needs: the connection to escherd, and how to report.

use std::io::IsTerminal;
use std::sync::Once;
use std::time::Duration;

use escher_client::{
    Client, ConnectError, Connector, DEFAULT_RECONNECT_TIMEOUT, ReconnectEvent, SocketChoice,
    Timestamp,
};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::args::color::ColorChoice;
use crate::args::duration::ReconnectTimeout;
use crate::args::escherd_choice::EscherdArgs;
use crate::failure::Failure;
use crate::render::style::Style;
use crate::render::view::View;
use crate::render::{escape, json, text, wrap};
use crate::stdio::unbuffered::write_all;
use crate::time::{self, Zone};

const RECONNECT_VARIABLE: &str = "ESCHER_RECONNECT";

/// How long escherd may take to answer before nobody wants to wait for it: the least time for a
/// connection, and the time after which a signal to `run` leaves the command.
pub(crate) const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// The global options that apply.
pub(crate) struct Context {
    pub(crate) sockets: SocketChoice,
    /// Whether an option chooses the user's own escherd.
    pub(crate) is_own_escherd: bool,
    /// Whether answers and failures are printed as JSON.
    pub(crate) json: bool,
    /// Whether notices about outages and the end of a command are suppressed.
    pub(crate) quiet: bool,
    color: ColorChoice,
    /// Whether times are shown in UTC.
    is_utc: bool,
    /// How long to wait for escherd, if that is set.
    reconnect_timeout: Option<Duration>,
    /// Since when escherd is unavailable, while it is.
    outage: watch::Sender<Option<Instant>>,
    /// Says that the user's own escherd is used in place of the system's.
    own_escherd_notice: Once,
}

impl Context {
    pub(crate) fn new(escherd: EscherdArgs, json: bool, quiet: bool) -> Self {
        Context {
            is_own_escherd: escherd.is_own(),
            sockets: escherd.choice(),
            json,
            quiet,
            color: ColorChoice::default(),
            is_utc: false,
            reconnect_timeout: None,
            outage: watch::Sender::new(None),
            own_escherd_notice: Once::new(),
        }
    }

    /// Chooses colours, and the time zone in which times are shown.
    pub(crate) fn set_appearance(&mut self, color: ColorChoice, is_utc: bool) {
        self.color = color;
        self.is_utc = is_utc;
    }

    /// Returns how answers on standard output are shown.
    pub(crate) fn view(&self) -> View {
        View {
            now: Timestamp::now(),
            zone: if self.is_utc {
                Zone::utc()
            } else {
                Zone::local()
            },
            style: Style::from_environment(self.color, std::io::stdout().is_terminal()),
        }
    }

    /// Takes the timeout from `option`, else from `ESCHER_RECONNECT`, else leaves the default.
    pub(crate) fn set_reconnect_timeout(
        &mut self,
        option: Option<ReconnectTimeout>,
    ) -> Result<(), Failure> {
        let variable = std::env::var_os(RECONNECT_VARIABLE).filter(|value| !value.is_empty());
        if let Some(ReconnectTimeout(timeout)) = option {
            self.reconnect_timeout = Some(timeout);
        } else if let Some(value) = variable {
            let ReconnectTimeout(timeout) = value
                .to_string_lossy()
                .parse()
                .map_err(|error| Failure::usage(format!("{RECONNECT_VARIABLE}: {error}"), None))?;
            self.reconnect_timeout = Some(timeout);
        }
        Ok(())
    }

    pub(crate) async fn connect(&self) -> Result<Client, Failure> {
        self.connect_telling_outages(self.shows_notices()).await
    }

    /// Connects for a verb that shows outages in its own way.
    pub(crate) async fn connect_silently(&self) -> Result<Client, Failure> {
        self.connect_telling_outages(false).await
    }

    async fn connect_telling_outages(&self, tells_outages: bool) -> Result<Client, Failure> {
        let client = Connector::to(self.sockets.clone())
            .client_name(concat!("escherctl ", env!("CARGO_PKG_VERSION")))
            // systemd's socket accepts a connection before escherd has started.
            .connect_timeout(self.reconnect_timeout().max(ANSWER_TIMEOUT))
            .reconnect_timeout(self.reconnect_timeout())
            .wait_for_daemon(self.reconnect_timeout.is_some())
            .on_reconnect(self.outage_notifier(!tells_outages))
            .connect()
            .await
            .map_err(Failure::connect)?;
        // Who has only an escherd of its own expects no other.
        if let Some(reason @ ConnectError::PermissionDenied { .. }) = client.passed_over()
            && self.shows_notices()
        {
            let socket = client.socket().path().display();
            self.own_escherd_notice.call_once(|| {
                print_notice(&format!("using your own escherd at {socket}: {reason}"));
            });
        }
        Ok(client)
    }

    /// How long to wait for an escherd that is unavailable.
    pub(crate) fn reconnect_timeout(&self) -> Duration {
        self.reconnect_timeout.unwrap_or(DEFAULT_RECONNECT_TIMEOUT)
    }

    /// Returns a callback that notes when escherd becomes unavailable and available again, and prints it unless it
    /// `is_silent`.
    fn outage_notifier(&self, is_silent: bool) -> impl Fn(ReconnectEvent) + Send + Sync + 'static {
        let timeout = time::duration(self.reconnect_timeout());
        let since = self.outage.clone();
        move |outage| {
            since.send_replace((outage == ReconnectEvent::Waiting).then(Instant::now));
            match outage {
                _ if is_silent => {}
                ReconnectEvent::Waiting => print_notice(&format!(
                    "escherd is unavailable; waiting up to {timeout} for it"
                )),
                ReconnectEvent::Reconnected => print_notice("reconnected to escherd"),
                // Followed by a failure that says more.
                _ => {}
            }
        }
    }

    /// Tells since when escherd is unavailable, if it is.
    pub(crate) fn watch_outage(&self) -> watch::Receiver<Option<Instant>> {
        self.outage.subscribe()
    }

    /// Whether notices about what happens are shown.
    pub(crate) fn shows_notices(&self) -> bool {
        !self.quiet && !self.json
    }

    /// Whether somebody at a terminal reads notices about what escherctl does.
    pub(crate) fn is_interactive(&self) -> bool {
        self.shows_notices() && std::io::stderr().is_terminal()
    }

    /// Prints a failure to standard error, unless it is one to be silent about.
    pub(crate) fn report(&self, failure: &Failure) {
        if failure.is_silent() {
            return;
        }
        if self.json {
            report_as_json(failure);
        } else {
            write_stderr(&wrap::fitted_to_stderr(&text::failure(failure)));
        }
    }
}

/// Prints a failure to standard error as a JSON object.
pub(crate) fn report_as_json(failure: &Failure) {
    write_stderr(&json::failure(failure));
}

/// Prints one line to standard error, with escherctl's name before it.
pub(crate) fn print_notice(message: &str) {
    write_stderr(&wrap::fitted_to_stderr(&notice_line(message)));
}

/// Prints one line to standard error, with the number of the execution that it is about before it.
pub(crate) fn print_numbered(number: u64, message: &str) {
    write_stderr(&format!("[{number}] {}\n", escape::text(message)));
}

/// Returns the line that [`print_notice`] prints.
pub(crate) fn notice_line(message: &str) -> String {
    format!("escherctl: {}\n", escape::text(message))
}

/// Prints text to standard error as it is.
pub(crate) fn write_stderr(text: &str) {
    // Nothing can be reported once standard error is closed.
    let _ = write_all(std::io::stderr(), text.as_bytes());
}
