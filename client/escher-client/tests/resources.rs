//! Limits, pauses and figures over the wire.
#![allow(clippy::unwrap_used)]

use escher_client::protocol::handshake::FEATURE_RESOURCES;
use escher_client::protocol::message::Submitted;
use escher_client::protocol::{Request, Response};
use escher_client::{
    Error, ExecutionId, ExecutionRequest, Measurements, ResourceLimits, Resources,
};
use escher_tests::fake_daemon::FakeDaemon;

const ID: ExecutionId = ExecutionId::from_bytes([1; 16]);

const LIMITS: ResourceLimits = ResourceLimits {
    memory_max: Some(1 << 20),
    cpu_quota: None,
    tasks_max: Some(9),
};

fn able() -> FakeDaemon {
    let mut daemon = FakeDaemon::start();
    daemon.features.push(FEATURE_RESOURCES.into());
    daemon
}

fn submitted() -> Response {
    Response::Submitted(Submitted {
        id: ID,
        number: 1,
        existing: false,
    })
}

#[tokio::test]
async fn limits_go_with_the_request() {
    let daemon = able();
    let (client, mut server) = daemon.connect().await;
    let request = ExecutionRequest::default();
    let (answer, ()) = tokio::join!(client.execute_within(request.clone(), LIMITS), async {
        let (id, asked) = server.request().await;
        assert_eq!(
            asked,
            Request::SubmitWithin(Box::new(request.clone()), LIMITS)
        );
        server.reply(id, Ok(submitted())).await;
    });
    assert_eq!(answer.unwrap().id, ID);
}

#[tokio::test]
async fn without_limits_an_older_escherd_is_asked_in_words_that_it_knows() {
    let daemon = FakeDaemon::start();
    let (client, mut server) = daemon.connect().await;
    let request = ExecutionRequest::default();
    let unlimited = ResourceLimits::default();
    let (answer, ()) = tokio::join!(client.execute_within(request.clone(), unlimited), async {
        let (id, asked) = server.request().await;
        assert_eq!(asked, Request::Submit(Box::new(request.clone())));
        server.reply(id, Ok(submitted())).await;
    });
    assert_eq!(answer.unwrap().id, ID);
}

#[tokio::test]
async fn an_older_escherd_is_sent_nothing_of_this() {
    let daemon = FakeDaemon::start();
    let (client, _peer) = daemon.connect().await;
    let request = ExecutionRequest::default();
    for refused in [
        client.execute_within(request, LIMITS).await.map(drop),
        client.pause(ID).await,
        client.resume(ID).await,
        client.resources(ID).await.map(drop),
    ] {
        let unsupported = |error: &Error| matches!(error, Error::Unsupported { feature, .. } if *feature == FEATURE_RESOURCES);
        assert!(refused.as_ref().is_err_and(unsupported), "{refused:?}");
    }
}

#[tokio::test]
async fn a_pause_a_resumption_and_figures_are_answered() {
    let daemon = able();
    let (client, mut server) = daemon.connect().await;
    let resources = Resources {
        limits: LIMITS,
        paused: false,
        measured: Some(Measurements {
            peak_tasks: Some(3),
            ..Measurements::default()
        }),
    };
    let play = async {
        for (expected, answer) in [
            (Request::Pause(ID.into()), Response::Done),
            (Request::Resume(ID.into()), Response::Done),
            (
                Request::Resources(ID.into()),
                Response::Resources(Box::new(resources)),
            ),
        ] {
            let (id, request) = server.request().await;
            assert_eq!(request, expected);
            server.reply(id, Ok(answer)).await;
        }
    };
    let ask = async {
        client.pause(ID).await.unwrap();
        client.resume(ID).await.unwrap();
        client.resources(ID).await.unwrap()
    };
    assert_eq!(tokio::join!(ask, play).0, resources);
}
