//! Values in messages.

use escher_protocol::message::{CancelAnswer, EventKind, EventsStart, Property};
use escher_protocol::{
    ApiError, CancelMode, Canceller, ClientId, Command, ErrorCode, ExecutionId, Exit, GapReason,
    InstanceId, KillMode, Leftovers, OnStdinLost, OutputStart, OutputStream, Part, Parts,
    QueuePosition, RlimitResource, RunAs, SettingValue, Severity, SignalAnswer, SignalRecipients,
    StartStage, Status, StdinMode, StreamSelection, Target, Timeout, Timestamp, User, WaitReason,
};

use super::{Sample, variants};

pub(super) const ID: ExecutionId = ExecutionId::from_bytes([
    0x01, 0x92, 0x0f, 0x3e, 0x6d, 0x2c, 0x7c, 0x31, 0x8f, 0x35, 0x0d, 0x6c, 0x7e, 0x9b, 0x1a, 0x42,
]);

pub(super) const INSTANCE: InstanceId = InstanceId::from_bytes([
    0x01, 0x92, 0x0f, 0x3e, 0x00, 0x00, 0x70, 0x00, 0x80, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x01,
]);

pub(super) const CLIENT: ClientId = ClientId::from_bytes([
    0x01, 0x92, 0x0f, 0x3e, 0x00, 0x00, 0x70, 0x00, 0x80, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x02,
]);

/// 2025-10-09T08:53:20.123456Z.
pub(super) const TIME: Timestamp = Timestamp::from_micros(1_760_000_000_123_456);

pub(super) const POSITION: QueuePosition = QueuePosition {
    running: 4,
    max_running: 4,
    ahead: 300,
};

pub(super) fn alice() -> User {
    User {
        uid: 1000,
        name: Some("alice".into()),
    }
}

pub(super) fn not_found() -> ApiError {
    ApiError::new(ErrorCode::NOT_FOUND, "there is no execution \"17\"")
        .with_hint("escherctl ps -a lists yours")
}

/// Parts of a later version: the first may be ignored, the second must be understood.
pub(super) fn unknown_parts() -> Parts {
    let parts = vec![
        Part::new(1000, b"\xff optional"[..].to_vec()),
        Part::new(1001, "required"),
    ];
    parts.try_into().expect("ascending tags")
}

pub(super) fn all() -> Vec<Sample> {
    [requests(), ends(), output(), plain()]
        .into_iter()
        .flatten()
        .collect()
}

fn requests() -> Vec<Sample> {
    [
        variants!(Target {
            Id => Target::Id(ID),
            Reference => Target::Reference("nightly-build".into()),
        }),
        variants!(Command {
            Exec => Command::Exec {
                argv: vec!["printf".into(), "%s".into(), b"\xff\0\xfe"[..].into()],
            },
            Shell => Command::Shell { text: "make | tee log".into(), shell: Some("/bin/bash".into()) },
            Script => Command::Script {
                path: "./report.py".into(),
                interpreter: Some("python3".into()),
                arguments: vec!["--all".into()],
            },
        }),
        variants!(SettingValue {
            Unset => SettingValue::Unset,
            Flag => SettingValue::Flag(true),
            Number => SettingValue::Number(600_000),
            Text => SettingValue::Text("/var/log/escher".into()),
        }),
        variants!(Severity {
            Ok => Severity::Ok,
            Note => Severity::Note,
            Warning => Severity::Warning,
            Failure => Severity::Failure,
        }),
        variants!(RunAs {
            Caller => RunAs::Caller,
            Name => RunAs::Name("postgres".into()),
            Uid => RunAs::Uid(70_000),
        }),
        variants!(StdinMode { Null => StdinMode::Null, Stream => StdinMode::Stream }),
        variants!(KillMode { ControlGroup => KillMode::ControlGroup, Process => KillMode::Process }),
        variants!(RlimitResource {
            Cpu => RlimitResource::Cpu,
            FileSize => RlimitResource::FileSize,
            Data => RlimitResource::Data,
            Stack => RlimitResource::Stack,
            Core => RlimitResource::Core,
            ResidentSet => RlimitResource::ResidentSet,
            OpenFiles => RlimitResource::OpenFiles,
            AddressSpace => RlimitResource::AddressSpace,
            Processes => RlimitResource::Processes,
            LockedMemory => RlimitResource::LockedMemory,
            FileLocks => RlimitResource::FileLocks,
            PendingSignals => RlimitResource::PendingSignals,
            MessageQueues => RlimitResource::MessageQueues,
            Nice => RlimitResource::Nice,
            RealtimePriority => RlimitResource::RealtimePriority,
            RealtimeTime => RlimitResource::RealtimeTime,
        }),
        variants!(OnStdinLost { Cancel => OnStdinLost::Cancel, End => OnStdinLost::End }),
        variants!(Timeout {
            Default => Timeout::Default,
            After => Timeout::After { ms: 300_000 },
            Unlimited => Timeout::Unlimited,
        }),
        variants!(Property {
            Status => Property::Status(Status::Lost),
            Exit => Property::Exit(143),
            User => Property::User("alice".into()),
            Name => Property::Name("night*".into()),
            Command => Property::Command("*make*".into()),
            Label => Property::Label("team".into(), "infra".into()),
        }),
        variants!(CancelMode { Graceful => CancelMode::Graceful, Kill => CancelMode::Kill, Signal => CancelMode::Signal(2) }),
        variants!(SignalRecipients {
            MainProcess => SignalRecipients::MainProcess,
            ProcessGroup => SignalRecipients::ProcessGroup,
            Tree => SignalRecipients::Tree,
        }),
        variants!(SignalAnswer {
            Sent => SignalAnswer::Sent,
            Cancelled => SignalAnswer::Cancelled,
        }),
        variants!(CancelAnswer {
            Withdrawn => CancelAnswer::Withdrawn,
            Ending => CancelAnswer::Ending,
            AlreadyEnding => CancelAnswer::AlreadyEnding,
            AlreadyFinished => CancelAnswer::AlreadyFinished(Status::Completed),
        }),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn ends() -> Vec<Sample> {
    [
        variants!(Status {
            Pending => Status::Pending,
            Running => Status::Running,
            Completed => Status::Completed,
            Failed => Status::Failed,
            Cancelled => Status::Cancelled,
            Timeout => Status::Timeout,
            Lost => Status::Lost,
        }),
        variants!(WaitReason {
            Slot => WaitReason::Slot(Some(POSITION)),
            Launcher => WaitReason::Launcher,
        }),
        variants!(Canceller {
            User => Canceller::User(alice()),
            Host => Canceller::Host,
            StdinLost => Canceller::StdinLost,
        }),
        variants!(Exit {
            Code => Exit::Code(7),
            Signal => Exit::Signal { signal: 11, core_dumped: true },
            NotStarted => Exit::NotStarted { stage: StartStage::Exec, errno: 2 },
            Withdrawn => Exit::Withdrawn,
            Unknown => Exit::Unknown,
        }),
        variants!(Leftovers {
            None => Leftovers::None,
            Killed => Leftovers::Killed,
            Unkillable => Leftovers::Unkillable,
            Unknown => Leftovers::Unknown,
            Left => Leftovers::Left,
        }),
        variants!(StartStage {
            Prepare => StartStage::Prepare,
            Session => StartStage::Session,
            Keyring => StartStage::Keyring,
            Descriptors => StartStage::Descriptors,
            Attributes => StartStage::Attributes,
            Limits => StartStage::Limits,
            Groups => StartStage::Groups,
            Gid => StartStage::Gid,
            Uid => StartStage::Uid,
            VerifyIdentity => StartStage::VerifyIdentity,
            WorkingDirectory => StartStage::WorkingDirectory,
            Signals => StartStage::Signals,
            Exec => StartStage::Exec,
        }),
        variants!(EventKind {
            Submitted => EventKind::Submitted,
            Started => EventKind::Started,
            CancelRequested => EventKind::CancelRequested(Canceller::User(alice())),
            Finished => EventKind::Finished(Status::Lost),
        }),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn output() -> Vec<Sample> {
    [
        variants!(GapReason {
            Dropped => GapReason::Dropped,
            Forgotten => GapReason::Forgotten,
            Cut => GapReason::Cut,
        }),
        variants!(OutputStream { Stdout => OutputStream::Stdout, Stderr => OutputStream::Stderr }),
        variants!(StreamSelection {
            Both => StreamSelection::Both,
            Only => StreamSelection::Only(OutputStream::Stderr),
        }),
        variants!(EventsStart {
            Oldest => EventsStart::Oldest,
            After => EventsStart::After(41),
            Last => EventsStart::Last(10),
            Since => EventsStart::Since(TIME),
        }),
        variants!(OutputStart {
            Offset => OutputStart::Offset(5_000_000_000),
            LastLines => OutputStart::LastLines(10),
        }),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn plain() -> Vec<Sample> {
    vec![
        Sample::new("ApiError", not_found()),
        Sample::new(
            "ApiError.unknown-code",
            ApiError {
                code: ErrorCode::from_number(60_000),
                message: "something new".into(),
                hint: None,
                retry: true,
            },
        ),
        Sample::new("Timestamp", TIME),
        Sample::new("Timestamp.before-1970", Timestamp::from_micros(-1)),
        Sample::new("ExecutionId", ID),
        Sample::new(
            "User.nameless",
            User {
                uid: 4_000_000_000,
                name: None,
            },
        ),
    ]
}
