//! Sample values for tests.

use escher_protocol::message::DaemonInfo;
use escher_protocol::{
    ApiError, Canceller, Command, ExecutionId, ExecutionRecord, Exit, InstanceId, KillMode,
    Leftovers, Measurements, Outcome, OutputTotals, Parts, ProcessLimits, ResourceLimits,
    Resources, SentSignals, Status, StdinMode, Timestamp, Usage, User,
};

/// A completed execution with this number and an id made from it. Everything else is empty.
#[must_use]
pub fn record(number: u64) -> ExecutionRecord {
    let user = User {
        uid: 1000,
        name: None,
    };
    ExecutionRecord {
        id: ExecutionId::from_bytes(u128::from(number).to_be_bytes()),
        number,
        name: None,
        key: None,
        status: Status::Completed,
        waits_for: None,
        user: user.clone(),
        submitted_by: user,
        command: Command::default(),
        command_cut: false,
        working_dir: "/".into(),
        stdin: StdinMode::Null,
        labels: Vec::new(),
        timeout_ms: None,
        kill_grace_ms: 0,
        drain_ms: 0,
        kill_mode: KillMode::ControlGroup,
        submitted_at: Timestamp::from_micros(0),
        started_at: None,
        completed_at: None,
        pid: None,
        cancelled_by: None,
        signals: SentSignals::default(),
        log_path: "/log".into(),
        log_removed: false,
        outcome: None,
        resources: Resources::default(),
        parts: Parts::new(),
    }
}

/// An escherd that has run nothing yet.
#[must_use]
pub fn daemon_info() -> DaemonInfo {
    DaemonInfo {
        version: "0".into(),
        instance: InstanceId::from_bytes([2; 16]),
        pid: 1,
        uid: 0,
        started_at: Timestamp::from_micros(0),
        serves_all_users: false,
        launcher_pid: None,
        log_dir: "/l".into(),
        state_dir: "/s".into(),
        pending: 0,
        running: 0,
        finished: 0,
        max_concurrent_executions: 1,
        max_pending_executions: 1,
        default_timeout_ms: 0,
        max_timeout_ms: 0,
        max_output_size_bytes: 0,
    }
}

fn alice() -> User {
    User {
        uid: 1000,
        name: Some("alice".into()),
    }
}

/// A running execution of alice, `echo "hello world"`, with every field that one can have.
#[must_use]
pub fn running_execution() -> ExecutionRecord {
    ExecutionRecord {
        id: ExecutionId::from_bytes([
            0x01, 0x92, 0x0f, 0x3e, 0x6d, 0x2c, 0x7c, 0x31, 0x8f, 0x35, 0x0d, 0x6c, 0x7e, 0x9b,
            0x1a, 0x42,
        ]),
        number: 17,
        name: Some("greeting".into()),
        key: None,
        status: Status::Running,
        waits_for: None,
        user: alice(),
        submitted_by: alice(),
        command: Command::Exec {
            argv: vec!["echo".into(), "hello world".into()],
        },
        command_cut: false,
        working_dir: "/srv".into(),
        stdin: StdinMode::Null,
        labels: vec![("team".into(), "web".into())],
        timeout_ms: Some(5_000),
        kill_grace_ms: 10_000,
        drain_ms: 2_000,
        kill_mode: KillMode::ControlGroup,
        submitted_at: Timestamp::from_micros(1_700_000_000_000_000),
        started_at: Some(Timestamp::from_micros(1_700_000_000_001_000)),
        completed_at: None,
        pid: Some(4242),
        cancelled_by: None,
        signals: SentSignals::default(),
        log_path: "/var/log/escher/01920f3e-6d2c-7c31-8f35-0d6c7e9b1a42.log".into(),
        log_removed: false,
        outcome: None,
        resources: Resources::default(),
        parts: Parts::new(),
    }
}

/// The same execution, finished in this way.
#[must_use]
pub fn finished_execution(
    status: Status,
    exit: Exit,
    error: Option<ApiError>,
    ended_by_signal: Option<i32>,
) -> ExecutionRecord {
    ExecutionRecord {
        status,
        pid: None,
        completed_at: Some(Timestamp::from_micros(1_700_000_001_501_000)),
        cancelled_by: (status == Status::Cancelled).then(|| Canceller::User(alice())),
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
                forgotten_bytes: 0,
                reserved_bytes: 0,
            },
            leftovers: Leftovers::None,
        }),
        ..running_execution()
    }
}

/// Resources of a finished execution, from a kernel that does not count peak tasks.
#[must_use]
pub fn measured_resources() -> Resources {
    Resources {
        limits: ResourceLimits {
            memory_max: Some(64 << 20),
            cpu_quota: Some(150),
            ..ResourceLimits::default()
        },
        process: ProcessLimits::default(),
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
