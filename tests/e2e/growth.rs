//! Requests of later versions: what this escherd does with parts that it does not know.

use std::sync::Arc;

use escher_client::{ErrorCode, ExecutionRequest, Part, Parts};
use escher_tests::{Daemon, connect, exec, in_runtime};

fn parts(tags: &[u32]) -> Parts {
    let parts: Vec<Part> = tags.iter().map(|tag| Part::new(*tag, "new")).collect();
    parts.try_into().unwrap()
}

#[test]
fn a_part_that_must_be_understood_is_refused_and_nothing_runs() {
    let daemon = Daemon::start();
    let ran = daemon.home().work().join("ran");
    in_runtime(async {
        let client = connect(&daemon).await;
        let request = ExecutionRequest {
            parts: parts(&[1000, 1001]),
            ..exec(["touch", ran.to_str().unwrap()])
        };
        let error = client.execute(request).await.unwrap_err();
        let error = error.as_api().unwrap();
        assert_eq!(error.code, ErrorCode::UNSUPPORTED);
        assert!(error.message.contains("part 1001"), "{error}");
        let next = client.execute(exec(["true"])).await.unwrap();
        assert_eq!(next.number, 1, "no number was used");
        client.wait_for_completion(next.id).await.unwrap();
    });
    assert!(!ran.exists());
}

#[test]
fn a_part_that_may_be_ignored_is_kept_over_a_restart() {
    let daemon = Daemon::start();
    let home = Arc::clone(daemon.home());
    let id = in_runtime(async {
        let client = connect(&daemon).await;
        let request = ExecutionRequest {
            key: Some("k".into()),
            parts: parts(&[1000]),
            ..exec(["true"])
        };
        let id = client.execute(request.clone()).await.unwrap().id;
        let record = client.wait_for_completion(id).await.unwrap();
        assert_eq!(record.parts, parts(&[1000]));
        let without = ExecutionRequest {
            parts: Parts::new(),
            ..request
        };
        let error = client.execute(without).await.unwrap_err();
        assert_eq!(error.as_api().unwrap().code, ErrorCode::KEY_CONFLICT);
        id
    });
    daemon.stop();
    let daemon = Daemon::builder().home(&home).start();
    in_runtime(async {
        let client = connect(&daemon).await;
        let record = client.get_status(id).await.unwrap();
        assert_eq!(record.parts, parts(&[1000]));
    });
}
