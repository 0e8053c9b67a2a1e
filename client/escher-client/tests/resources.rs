//! Resource limits, pausing, and parts of later versions.
#![allow(clippy::unwrap_used)]

use escher_client::protocol::message::Submitted;
use escher_client::protocol::{Item, Request, Response};
use escher_client::{
    Error, ErrorCode, ExecutionId, ExecutionRecord, ExecutionRequest, ListFilter, Part,
    ResourceLimits,
};
use escher_tests::fake_daemon::FakeDaemon;
use escher_tests::samples::record;

const ID: ExecutionId = ExecutionId::from_bytes([1; 16]);

#[tokio::test]
async fn limits_are_part_of_the_request() {
    let daemon = FakeDaemon::start();
    let (client, mut server) = daemon.connect().await;
    let request = ExecutionRequest {
        limits: ResourceLimits {
            memory_max: Some(1 << 20),
            tasks_max: Some(9),
            ..ResourceLimits::default()
        },
        ..ExecutionRequest::default()
    };
    let (answer, ()) = tokio::join!(client.execute(request.clone()), async {
        let (id, asked) = server.request().await;
        assert_eq!(asked, Request::Submit(Box::new(request.clone())));
        let submitted = Submitted {
            id: ID,
            number: 1,
            existing: false,
        };
        server.reply(id, Ok(Response::Submitted(submitted))).await;
    });
    assert_eq!(answer.unwrap().id, ID);
}

#[tokio::test]
async fn pauses_and_resumes() {
    let daemon = FakeDaemon::start();
    let (client, mut server) = daemon.connect().await;
    let play = async {
        for expected in [Request::Pause(ID.into()), Request::Resume(ID.into())] {
            let (id, request) = server.request().await;
            assert_eq!(request, expected);
            server.reply(id, Ok(Response::Done)).await;
        }
    };
    let ask = async {
        client.pause(ID).await.unwrap();
        client.resume(ID).await.unwrap();
    };
    tokio::join!(ask, play);
}

/// Returns a record of a later version, with a part of this tag.
fn record_with_part(tag: u32) -> ExecutionRecord {
    ExecutionRecord {
        parts: vec![Part::new(tag, "value")].try_into().unwrap(),
        ..record(1)
    }
}

/// Reads a record with a part of this tag as a response, in a result, and in a list.
async fn read_record_with_part(tag: u32) -> [Result<ExecutionRecord, Error>; 3] {
    let daemon = FakeDaemon::start();
    let (client, mut server) = daemon.connect().await;
    let record = record_with_part(tag);
    let (answers, ()) = tokio::join!(
        async {
            let status = client.get_status(ID).await;
            let result = client.get_result(ID).await.map(|result| result.record);
            let mut list = client.list_executions(ListFilter::default()).await.unwrap();
            [status, result, list.next().await.unwrap()]
        },
        async {
            let (id, _) = server.request().await;
            let answer = Response::Execution(Box::new(record.clone()));
            server.reply(id, Ok(answer)).await;
            for _ in ["result", "list"] {
                let (id, _) = server.next_request().await;
                server
                    .item(id, Item::Execution(Box::new(record.clone())))
                    .await;
                server.end(id, Ok(())).await;
            }
        }
    );
    answers
}

#[tokio::test]
async fn keeps_an_unknown_optional_part() {
    for answer in read_record_with_part(1000).await {
        assert_eq!(answer.unwrap(), record_with_part(1000));
    }
}

#[tokio::test]
async fn refuses_an_unknown_required_part_by_its_tag() {
    for answer in read_record_with_part(1001).await {
        let error = answer.unwrap_err();
        let error = error.as_api().unwrap();
        assert_eq!(error.code, ErrorCode::UNSUPPORTED);
        assert!(error.message.contains("part 1001"), "{error}");
    }
}
