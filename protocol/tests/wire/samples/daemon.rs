//! Messages of escherd.

use escher_protocol::handshake::{HelloReply, Refusal, SessionLimits, Welcome};
use escher_protocol::message::{
    CancelAnswer, DaemonInfo, Event, EventKind, HistoryQuota, Item, Quota, Removed, Response,
    ServerFrame, Submitted,
};
use escher_protocol::{
    ApiError, Canceller, Command, CurrentUsage, Diagnostic, ErrorCode, ExecutionRecord,
    ExecutionUsage, Exit, GapReason, KillMode, Leftovers, Measurements, Omission, Outcome,
    OutputChunk, OutputGap, OutputStream, OutputTotals, Parts, ProcessLimits, Reloaded, RequestId,
    ResourceLimits, Resources, SentSignals, Setting, SettingValue, SignalAnswer, Status, StdinMode,
    Timestamp, Usage, User, WaitReason,
};

use super::values::{ID, INSTANCE, POSITION, TIME, alice, not_found, unknown_parts};
use super::{Sample, variants};

pub(super) fn all() -> Vec<Sample> {
    let mut samples = vec![
        Sample::new("ServerFrame.Reply.error", refused()),
        Sample::new("ServerFrame.End.error", broken_off()),
        Sample::new("ExecutionRecord.pending", pending()),
        Sample::new(
            "ExecutionRecord.future",
            ExecutionRecord {
                parts: unknown_parts(),
                ..pending()
            },
        ),
    ];
    samples.extend(greetings());
    samples.extend(frames());
    samples.extend(responses());
    samples.extend(items());
    samples
}

fn greetings() -> Vec<Sample> {
    variants!(HelloReply {
        Welcome => HelloReply::Welcome(Welcome {
            version: 1,
            daemon: "escherd 0.1.0".into(),
            instance: INSTANCE,
            limits: SessionLimits {
                max_frame_bytes: 8_388_608,
                max_requests_in_flight: 256,
                stream_window_bytes: 1_048_576,
            },
        }),
        Refused => HelloReply::Refused(Refusal {
            error: ApiError::new(ErrorCode::UNSUPPORTED_VERSION, "no protocol version in common")
                .with_hint("update the older of the two"),
            lowest: 2,
            highest: 3,
        }),
    })
}

fn frames() -> Vec<Sample> {
    variants!(ServerFrame {
        Reply => ServerFrame::Reply { id: RequestId(1), result: Ok(Response::Done) },
        Item => ServerFrame::Item { id: RequestId(2), item: Item::Output(chunk()) },
        End => ServerFrame::End { id: RequestId(2), result: Ok(()) },
    })
}

fn refused() -> ServerFrame {
    ServerFrame::Reply {
        id: RequestId(1),
        result: Err(not_found()),
    }
}

fn broken_off() -> ServerFrame {
    let error = ApiError::new(ErrorCode::SHUTTING_DOWN, "escherd is about to stop");
    ServerFrame::End {
        id: RequestId(u64::MAX),
        result: Err(error),
    }
}

fn responses() -> Vec<Sample> {
    variants!(Response {
        Submitted => Response::Submitted(Submitted { id: ID, number: 7, existing: false }),
        Execution => Response::Execution(Box::new(finished())),
        Cancel => Response::Cancel(CancelAnswer::Ending),
        StdinAccepted => Response::StdinAccepted { offset: 65_536 },
        Info => Response::Info(Box::new(info())),
        Done => Response::Done,
        Removed => Response::Removed(Removed { executions: 12, log_bytes: 1_048_576 }),
        Settings => Response::Settings(vec![setting()]),
        Reloaded => Response::Reloaded(Reloaded {
            applied: vec!["execution.max_timeout_ms".into()],
            need_restart: vec!["store.durability".into(), "daemon.socket".into()],
        }),
        Signal => Response::Signal(SignalAnswer::Sent),
        Metrics => Response::Metrics("# EOF\n".into()),
        Diagnostics => Response::Diagnostics(vec![
            Diagnostic::ok("launcher", "escher-launcher runs"),
            Diagnostic::warning("log-space", "1 MiB is free").advise("make room"),
        ]),
        Quotas => Response::Quotas(vec![Quota {
            user: User { uid: 1000, name: Some("alice".into()) },
            pending: 12,
            max_pending: 5000,
            pending_bytes: 3400,
            max_pending_bytes: 134_217_728,
            running: 100,
            max_running: 100,
            log_disk_bytes: 70_254_592,
            max_log_disk_bytes: 26_843_545_600,
                history: HistoryQuota {
                    finished: 1200,
                    finished_share: 500_000,
                    log_bytes: 3_145_728,
                    log_bytes_share: 536_870_912,
                },
        }]),
        CurrentUsage => Response::CurrentUsage(usage()),
    })
}

fn items() -> Vec<Sample> {
    variants!(Item {
        Execution => Item::Execution(Box::new(running())),
        Output => Item::Output(chunk()),
        Event => Item::Event(Event {
            sequence: 42,
            time: TIME,
            id: ID,
            number: 7,
            name: Some("nightly-build".into()),
            user: alice(),
            kind: EventKind::Finished(Status::Completed),
        }),
        Omitted => Item::Omitted(Omission {
            stream: OutputStream::Stdout,
            bytes: 4_294_967_296,
            mark: "\n[... output truncated at 10MB ...]".into(),
        }),
        Gap => Item::Gap(OutputGap {
            offset: 1_200,
            bytes: Some(70_000),
            reason: GapReason::Dropped,
        }),
        StdinHeld => Item::StdinHeld { offset: 70_000 },
        EventsAfter => Item::EventsAfter { sequence: 70_000 },
        Usage => Item::Usage(ExecutionUsage { id: ID, number: 7, usage: usage() }),
    })
}

/// What is used where nothing counts the bytes written.
fn usage() -> CurrentUsage {
    CurrentUsage {
        memory_bytes: Some(6_442_450_944),
        tasks: Some(4),
        user_us: Some(1_200_000),
        system_us: Some(34_567),
        io_read_bytes: Some(4096),
        io_written_bytes: None,
    }
}

/// Two SIGINTs from alice.
fn signals() -> SentSignals {
    let mut signals = SentSignals::default();
    signals.add(2, alice(), TIME);
    signals.add(2, alice(), Timestamp::from_micros(TIME.as_micros() + 1));
    signals
}

/// Measurements of a kernel without `pids.peak`, without the controller io.
fn measured() -> Measurements {
    Measurements {
        user_us: Some(1_250_000),
        system_us: Some(80_000),
        peak_memory_bytes: Some(67_108_864),
        io_read_bytes: None,
        io_written_bytes: None,
        peak_tasks: None,
        oom_kills: Some(1),
    }
}

fn setting() -> Setting {
    Setting {
        name: "execution.max_timeout_ms".into(),
        value: SettingValue::Number(600_000),
        origin: "/etc/escher/escher.toml:12".into(),
        is_reloadable: true,
    }
}

fn chunk() -> OutputChunk {
    OutputChunk {
        stream: OutputStream::Stderr,
        offset: 4_294_967_296,
        time_us: 1_500_000,
        data: b"warning: \xff\n"[..].into(),
    }
}

/// A waiting execution.
pub(crate) fn pending() -> ExecutionRecord {
    ExecutionRecord {
        id: ID,
        number: 7,
        name: None,
        key: None,
        status: Status::Pending,
        waits_for: Some(WaitReason::Slot(Some(POSITION))),
        user: alice(),
        submitted_by: alice(),
        command: Command::Shell {
            text: "sleep 1".into(),
            shell: None,
        },
        command_cut: false,
        working_dir: "/".into(),
        stdin: StdinMode::Null,
        labels: Vec::new(),
        timeout_ms: None,
        kill_grace_ms: 10_000,
        drain_ms: 2_000,
        kill_mode: KillMode::ControlGroup,
        submitted_at: TIME,
        started_at: None,
        completed_at: None,
        pid: None,
        cancelled_by: None,
        signals: SentSignals::default(),
        log_path: "/var/log/escher/01920f3e-6d2c-7c31-8f35-0d6c7e9b1a42.log".into(),
        log_removed: false,
        outcome: None,
        resources: Resources::default(),
        parts: Parts::new(),
    }
}

fn running() -> ExecutionRecord {
    ExecutionRecord {
        name: Some("nightly-build".into()),
        status: Status::Running,
        waits_for: None,
        command: Command::Exec {
            argv: vec!["make".into(), "-j8".into()],
        },
        command_cut: true,
        stdin: StdinMode::Stream,
        labels: vec![("team".into(), "infra".into())],
        started_at: Some(TIME),
        pid: Some(4711),
        ..pending()
    }
}

fn finished() -> ExecutionRecord {
    ExecutionRecord {
        key: Some("job-4711".into()),
        status: Status::Cancelled,
        timeout_ms: Some(300_000),
        completed_at: Some(Timestamp::from_micros(TIME.as_micros() + 2_000_000)),
        pid: None,
        cancelled_by: Some(Canceller::User(alice())),
        signals: signals(),
        log_removed: true,
        outcome: Some(Outcome {
            exit: Exit::Signal {
                signal: 15,
                core_dumped: false,
            },
            error: Some(ApiError::new(ErrorCode::CANCELLED, "cancelled by alice")),
            ended_by_signal: Some(15),
            duration_us: 2_000_000,
            usage: Usage {
                user_us: 1_200_000,
                system_us: 34_567,
                peak_memory_bytes: 6_442_450_944,
            },
            output: OutputTotals {
                stdout_bytes: 1000,
                stderr_bytes: 200,
                log_bytes: 1200,
                dropped_bytes: 0,
                forgotten_bytes: 300,
                reserved_bytes: 0,
            },
            leftovers: Leftovers::Killed,
        }),
        resources: Resources {
            limits: ResourceLimits {
                memory_max: Some(67_108_864),
                memory_high: None,
                cpu_quota: None,
                cpu_weight: None,
                io_weight: Some(200),
                tasks_max: Some(100),
            },
            process: ProcessLimits {
                nice: Some(-5),
                ..ProcessLimits::default()
            },
            paused: false,
            measured: Some(measured()),
        },
        ..running()
    }
}

fn info() -> DaemonInfo {
    DaemonInfo {
        version: "0.1.0".into(),
        instance: INSTANCE,
        pid: 812,
        uid: 990,
        started_at: TIME,
        serves_all_users: true,
        launcher_pid: Some(811),
        log_dir: "/var/log/escher".into(),
        state_dir: "/var/lib/escher".into(),
        pending: 3,
        running: 20,
        finished: 977,
        max_concurrent_executions: 20,
        max_pending_executions: 10_000,
        default_timeout_ms: 120_000,
        max_timeout_ms: 0,
        max_output_size_bytes: 10_485_760,
    }
}
