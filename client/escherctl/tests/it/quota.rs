//! `quota`.

use escher_client::protocol::message::HistoryQuota;
use escher_client::protocol::{Request, Response, User};
use escher_client::{Quota, RunAs};

use crate::support::FakeDaemon;
use crate::support::escherctl::{run_against, stdout};

fn quotas() -> Response {
    let quota = |uid, name: Option<&str>, pending| Quota {
        user: User {
            uid,
            name: name.map(Into::into),
        },
        pending,
        max_pending: 5000,
        pending_bytes: pending * 1024,
        max_pending_bytes: 128 * 1024 * 1024,
        running: 7,
        max_running: 100,
        log_disk_bytes: pending * 4096,
        max_log_disk_bytes: 25 << 30,
        history: HistoryQuota {
            finished: pending * 100,
            finished_share: 500_000,
            log_bytes: pending * 2048,
            log_bytes_share: 512 * 1024 * 1024,
        },
    };
    Response::Quotas(vec![quota(0, Some("root"), 0), quota(61_001, None, 12)])
}

#[tokio::test]
async fn shows_limits_and_use_of_each_user() {
    let shown = "\
        USER   RUNNING   PENDING     PENDING SIZE           LOG DISK              HISTORY         LOGS\n\
        root   7 of 100  0 of 5000   0 bytes of 128.0 MiB   0 bytes of 25.0 GiB   0 of 500000     0 bytes of 512.0 MiB\n\
        61001  7 of 100  12 of 5000  12.0 KiB of 128.0 MiB  48.0 KiB of 25.0 GiB  1200 of 500000  24.0 KiB of 512.0 MiB\n";
    let objects = concat!(
        r#"{"user":"root","uid":0,"pending":0,"max_pending":5000,"pending_bytes":0,"#,
        r#""max_pending_bytes":134217728,"running":7,"max_running":100,"#,
        r#""log_disk_bytes":0,"max_log_disk_bytes":26843545600,"finished":0,"#,
        r#""finished_share":500000,"log_bytes":0,"log_bytes_share":536870912}"#,
        "\n",
        r#"{"user":"61001","uid":61001,"pending":12,"max_pending":5000,"pending_bytes":12288,"#,
        r#""max_pending_bytes":134217728,"running":7,"max_running":100,"#,
        r#""log_disk_bytes":49152,"max_log_disk_bytes":26843545600,"finished":1200,"#,
        r#""finished_share":500000,"log_bytes":24576,"log_bytes_share":536870912}"#,
        "\n"
    );
    for (arguments, user, expected) in [
        (&["quota"][..], None, shown),
        (&["quota", "--json"], None, objects),
        (&["quota", "-u", "#61001"], Some(RunAs::Uid(61_001)), shown),
        (
            &["quota", "--user", "bob"],
            Some(RunAs::Name("bob".into())),
            shown,
        ),
    ] {
        let ended = run_against(&FakeDaemon::start(), arguments, async |mut peer| {
            let (id, request) = peer.request().await;
            assert_eq!(request, Request::Quota(user.clone()));
            peer.reply(id, Ok(quotas())).await;
        })
        .await;
        assert!(ended.status.success(), "{ended:?}");
        assert_eq!(stdout(&ended), expected);
    }
}
