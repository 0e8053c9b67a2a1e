//! Messages of clients.

use escher_protocol::handshake::{Hello, MAGIC};
use escher_protocol::message::{
    ClientFrame, Condition, EventFilter, EventsRequest, EventsStart, ListFilter, OutputRequest,
    Property, Request, Selection,
};
use escher_protocol::{
    CancelMode, Command, ExecutionRequest, KillMode, OnStdinLost, OutputStart, OutputStream, Parts,
    ProcessLimits, RequestId, ResourceLimits, Rlimit, RlimitResource, RunAs, SignalRecipients,
    SignalSerial, Status, StdinLost, StdinMode, StreamSelection, Timeout,
};

use super::values::{CLIENT, ID, TIME, unknown_parts};
use super::{Sample, variants};

pub(super) fn all() -> Vec<Sample> {
    let mut samples = vec![
        Sample::new(
            "Hello",
            Hello {
                magic: MAGIC,
                lowest: 1,
                highest: 1,
                client: "escherctl 0.1.0".into(),
            },
        ),
        Sample::new("ExecutionRequest.least", least()),
        Sample::new(
            "ExecutionRequest.future",
            ExecutionRequest {
                parts: unknown_parts(),
                ..least()
            },
        ),
        Sample::new("ListFilter.default", ListFilter::default()),
    ];
    samples.extend(frames());
    samples.extend(requests());
    samples
}

fn frames() -> Vec<Sample> {
    variants!(ClientFrame {
        Request => ClientFrame::Request {
            id: RequestId(1),
            body: Request::Submit(Box::new(least())),
        },
        Grant => ClientFrame::Grant { id: RequestId(300), bytes: 262_144 },
        Abandon => ClientFrame::Abandon { id: RequestId(70_000) },
    })
}

fn requests() -> Vec<Sample> {
    variants!(Request {
        Submit => Request::Submit(Box::new(full())),
        Status => Request::Status(ID.into()),
        Wait => Request::Wait("7".into()),
        Result => Request::Result("nightly-build".into()),
        Cancel => Request::Cancel { target: ID.into(), mode: CancelMode::Graceful },
        Signal => Request::Signal {
            target: ID.into(),
            signal: 10,
            recipients: SignalRecipients::Tree,
            serial: SignalSerial { client: CLIENT, number: 3 },
        },
        List => Request::List(Selection {
            filter: ListFilter {
                all: true,
                conditions: vec![
                    Condition::is(Property::Status(Status::Failed)),
                    Condition::is_not(Property::Exit(143)),
                    Condition::is(Property::User("alice".into())),
                    Condition::is(Property::Name("nightly*".into())),
                    Condition::is(Property::Command("*make*".into())),
                    Condition::is_not(Property::Label("team".into(), "infra".into())),
                ],
                limit: 50,
            },
            since: Some(TIME),
            until: None,
        }),
        ReadOutput => Request::ReadOutput(OutputRequest {
            target: ID.into(),
            streams: StreamSelection::Only(OutputStream::Stdout),
            start: OutputStart::Offset(65_536),
            length: Some(4096),
            since: Some(TIME),
            until: None,
            follow: true,
        }),
        Events => Request::Events(EventsRequest {
            start: EventsStart::After(41),
            filter: EventFilter { statuses: vec![Status::Failed], name: Some("nightly".into()) },
            follow: true,
        }),
        WriteStdin => Request::WriteStdin {
            target: ID.into(),
            offset: 251,
            data: b"bytes, not text: \x00\xff"[..].into(),
            end: true,
        },
        Info => Request::Info,
        Remove => Request::Remove("7".into()),
        Prune => Request::Prune {
            selection: Selection { until: Some(TIME), ..Selection::default() },
            dry_run: true,
        },
        Settings => Request::Settings,
        Reload => Request::Reload,
        Cleanup => Request::Cleanup,
        Metrics => Request::Metrics,
        Pause => Request::Pause(ID.into()),
        Resume => Request::Resume("7".into()),
        Diagnose => Request::Diagnose,
        Quota => Request::Quota(Some(RunAs::Uid(1000))),
        HoldStdin => Request::HoldStdin(ID.into()),
        LoseStdin => Request::LoseStdin("7".into()),
        MeasureUsage => Request::MeasureUsage(ID.into()),
        MeasureRunning => Request::MeasureRunning,
    })
}

fn least() -> ExecutionRequest {
    ExecutionRequest {
        command: Command::Exec {
            argv: vec!["/bin/true".into()],
        },
        ..ExecutionRequest::default()
    }
}

fn full() -> ExecutionRequest {
    ExecutionRequest {
        key: Some("job-4711".into()),
        name: Some("nightly-build".into()),
        command: Command::Exec {
            argv: vec!["make".into(), "-j8".into(), b"\xff"[..].into()],
        },
        inherited: vec![("HOME".into(), "/home/builder".into())],
        environment: vec![
            ("LANG".into(), "C.UTF-8".into()),
            ("RAW".into(), b"\x80"[..].into()),
        ],
        umask: Some(0o077),
        working_dir: Some("/srv/build".into()),
        run_as: RunAs::Name("builder".into()),
        stdin: StdinMode::Stream,
        merges_output: true,
        stdin_lost: StdinLost {
            then: OnStdinLost::End,
            after_ms: Some(60_000),
        },
        timeout: Timeout::After { ms: 300_000 },
        kill_grace_ms: Some(10_000),
        drain_ms: Some(0),
        kill_mode: KillMode::Process,
        limits: ResourceLimits {
            memory_max: Some(67_108_864),
            memory_high: Some(33_554_432),
            cpu_quota: Some(150),
            cpu_weight: Some(20),
            io_weight: None,
            tasks_max: None,
        },
        process: ProcessLimits {
            nice: Some(5),
            oom_score_adjust: Some(-300),
            rlimits: vec![Rlimit {
                resource: RlimitResource::OpenFiles,
                soft: 4096,
                hard: Rlimit::INFINITY,
            }],
        },
        labels: vec![("team".into(), "infra".into())],
        parts: Parts::new(),
    }
}
