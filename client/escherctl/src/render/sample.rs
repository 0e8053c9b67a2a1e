//! Records for tests.

use escher_client::protocol::{Canceller, Exit, Leftovers, Outcome, OutputTotals, Usage, User};
use escher_client::{
    ApiError, Command, ExecutionId, ExecutionRecord, Measurements, Parts, ResourceLimits,
    Resources, Status, StdinMode, Timestamp,
};

fn user() -> User {
    User {
        uid: 1000,
        name: Some("alice".into()),
    }
}

/// A running execution.
pub(crate) fn running() -> ExecutionRecord {
    ExecutionRecord {
        id: ExecutionId::from_bytes([
            0x01, 0x92, 0x0f, 0x3e, 0x6d, 0x2c, 0x7c, 0x31, 0x8f, 0x35, 0x0d, 0x6c, 0x7e, 0x9b,
            0x1a, 0x42,
        ]),
        number: 17,
        name: Some("greeting".into()),
        key: None,
        status: Status::Running,
        user: user(),
        submitted_by: user(),
        command: Command::Exec {
            argv: vec!["echo".into(), "hello world".into()],
        },
        command_cut: false,
        working_dir: "/srv".into(),
        stdin: StdinMode::Null,
        labels: vec![("team".into(), "web".into())],
        timeout_ms: Some(5_000),
        kill_grace_ms: 10_000,
        submitted_at: Timestamp::from_micros(1_700_000_000_000_000),
        started_at: Some(Timestamp::from_micros(1_700_000_000_001_000)),
        completed_at: None,
        pid: Some(4242),
        cancelled_by: None,
        log_path: "/var/log/escher/01920f3e-6d2c-7c31-8f35-0d6c7e9b1a42.log".into(),
        outcome: None,
        resources: Resources::default(),
        parts: Parts::new(),
    }
}

/// A finished execution.
pub(crate) fn finished(
    status: Status,
    exit: Exit,
    error: Option<ApiError>,
    ended_by_signal: Option<i32>,
) -> ExecutionRecord {
    ExecutionRecord {
        status,
        pid: None,
        completed_at: Some(Timestamp::from_micros(1_700_000_001_501_000)),
        cancelled_by: (status == Status::Cancelled).then(|| Canceller::User(user())),
        outcome: Some(Outcome {
            exit,
            error,
            ended_by_signal,
            duration_us: 1_500_900,
            usage: Usage {
                user_us: 1_000,
                system_us: 2_000,
                peak_memory_bytes: 1_048_576,
            },
            output: OutputTotals {
                stdout_bytes: 12,
                stderr_bytes: 0,
                log_bytes: 12,
                dropped_bytes: 0,
            },
            leftovers: Leftovers::None,
        }),
        ..running()
    }
}

/// Resources of a finished execution, from a kernel that does not count peak tasks.
pub(crate) fn resources() -> Resources {
    Resources {
        limits: ResourceLimits {
            memory_max: Some(64 << 20),
            cpu_quota: Some(150),
            tasks_max: None,
        },
        paused: false,
        measured: Some(Measurements {
            user_us: Some(1_000),
            system_us: Some(2_000),
            peak_memory_bytes: Some(1_048_576),
            io_read_bytes: Some(4_096),
            io_written_bytes: Some(0),
            peak_tasks: None,
            oom_kills: Some(0),
        }),
    }
}
