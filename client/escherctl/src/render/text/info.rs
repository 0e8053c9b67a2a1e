//! escherd's state and limits.

use std::time::Duration;

use escher_client::{DaemonInfo, EscherdSocket, Welcome};

use super::fields::Fields;
use crate::escherds::describe;
use crate::render::escape;
use crate::render::quantity::size;
use crate::render::view::View;
use crate::time;

/// Returns one line per fact.
pub(crate) fn info(
    info: &DaemonInfo,
    welcome: &Welcome,
    socket: &EscherdSocket,
    view: &View,
) -> String {
    let timeout = |ms| match ms {
        0 => "none".to_owned(),
        ms => time::duration(Duration::from_millis(ms)),
    };
    let of_limit = |number: u64, limit: u64| format!("{number} (at most {limit})");
    let mut fields = Fields::default();
    fields.add("socket", describe(socket));
    fields.add("version", &info.version);
    fields.add("protocol", welcome.version);
    fields.add("instance", info.instance);
    fields.add("pid", info.pid);
    fields.add_some("launcher pid", info.launcher_pid);
    let started = time::shown_with_age(info.started_at, &view.zone, view.now);
    fields.add("started", started);
    fields.add(
        "serves",
        if info.serves_all_users {
            "all users".to_owned()
        } else {
            format!("only its own user (uid {})", info.uid)
        },
    );
    fields.add(
        "pending",
        of_limit(info.pending, info.max_pending_executions),
    );
    fields.add(
        "running",
        of_limit(info.running, info.max_concurrent_executions),
    );
    fields.add("finished", info.finished);
    fields.add("default timeout", timeout(info.default_timeout_ms));
    fields.add("maximum timeout", timeout(info.max_timeout_ms));
    fields.add(
        "output limit",
        format!(
            "{} per stream of a result",
            size(info.max_output_size_bytes)
        ),
    );
    fields.add_escaped("log dir", &escape::bytes(&info.log_dir));
    fields.add_escaped("state dir", &escape::bytes(&info.state_dir));
    fields.finish()
}
