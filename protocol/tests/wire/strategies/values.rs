//! Small values. Numbers of every width on the wire are equally likely.
//!
//! Frequent strategies are boxed: a strategy holds its parts by value, and those of a whole record
//! would not fit on a test's stack.

use escher_protocol::message::EventsStart;
use escher_protocol::{
    ApiError, Blob, CancelMode, Canceller, ClientId, ErrorCode, ExecutionId, InstanceId,
    OnStdinLost, OutputStart, OutputStream, Part, Parts, QueuePosition, RequestId, SentSignals,
    Severity, SignalAnswer, SignalRecipients, SignalSerial, Status, StdinLost, StdinMode,
    StreamSelection, Target, Text, Timestamp, User, WaitReason,
};
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;

pub(super) fn number() -> BoxedStrategy<u64> {
    prop_oneof![
        0..=260_u64,
        any::<u16>().prop_map(u64::from),
        any::<u32>().prop_map(u64::from),
        any::<u64>(),
        Just(u64::MAX),
    ]
    .boxed()
}

pub(super) fn number32() -> BoxedStrategy<u32> {
    prop_oneof![
        0..=260_u32,
        any::<u16>().prop_map(u32::from),
        any::<u32>(),
        Just(u32::MAX),
    ]
    .boxed()
}

pub(super) fn signed() -> impl Strategy<Value = i32> {
    prop_oneof![-130..=130_i32, any::<i32>(), Just(i32::MIN), Just(i32::MAX)]
}

pub(super) fn text() -> BoxedStrategy<Text> {
    "\\PC{0,12}".prop_map(Text::from).boxed()
}

pub(super) fn blob() -> BoxedStrategy<Blob> {
    vec(any::<u8>(), 0..16).prop_map(Blob::from).boxed()
}

pub(super) fn labels() -> impl Strategy<Value = Vec<(Text, Text)>> {
    vec((text(), text()), 0..3)
}

pub(super) fn timestamp() -> impl Strategy<Value = Timestamp> {
    any::<i64>().prop_map(Timestamp::from_micros)
}

pub(super) fn execution_id() -> impl Strategy<Value = ExecutionId> {
    any::<[u8; 16]>().prop_map(ExecutionId::from_bytes)
}

pub(super) fn instance_id() -> impl Strategy<Value = InstanceId> {
    any::<[u8; 16]>().prop_map(InstanceId::from_bytes)
}

pub(super) fn request_id() -> impl Strategy<Value = RequestId> {
    number().prop_map(RequestId)
}

pub(super) fn target() -> impl Strategy<Value = Target> {
    prop_oneof![
        execution_id().prop_map(Target::Id),
        text().prop_map(Target::Reference),
    ]
}

pub(super) fn parts() -> impl Strategy<Value = Parts> {
    btree_map(number32(), blob(), 0..4).prop_map(|parts| {
        let parts = parts.into_iter().map(|(tag, bytes)| Part { tag, bytes });
        let parts: Vec<Part> = parts.collect();
        parts.try_into().expect("ascending tags and few bytes")
    })
}

pub(super) fn user() -> BoxedStrategy<User> {
    (number32(), option::of(text()))
        .prop_map(|(uid, name)| User { uid, name })
        .boxed()
}

pub(super) fn canceller() -> impl Strategy<Value = Canceller> {
    prop_oneof![
        user().prop_map(Canceller::User),
        Just(Canceller::Host),
        Just(Canceller::StdinLost),
    ]
}

pub(super) fn signal_recipients() -> impl Strategy<Value = SignalRecipients> {
    prop_oneof![
        Just(SignalRecipients::MainProcess),
        Just(SignalRecipients::ProcessGroup),
        Just(SignalRecipients::Tree),
    ]
}

pub(super) fn signal_serial() -> impl Strategy<Value = SignalSerial> {
    (any::<[u8; 16]>(), number()).prop_map(|(client, number)| SignalSerial {
        client: ClientId::from_bytes(client),
        number,
    })
}

pub(super) fn signal_answer() -> impl Strategy<Value = SignalAnswer> {
    prop_oneof![Just(SignalAnswer::Sent), Just(SignalAnswer::Cancelled)]
}

pub(super) fn sent_signals() -> impl Strategy<Value = SentSignals> {
    vec((signed(), user(), timestamp()), 0..4).prop_map(|sent| {
        let mut signals = SentSignals::default();
        for (signal, by, at) in sent {
            signals.add(signal, by, at);
        }
        signals
    })
}

pub(super) fn status() -> impl Strategy<Value = Status> {
    (0..Status::TABLE.len()).prop_map(|row| Status::TABLE[row].0)
}

pub(super) fn wait_reason() -> impl Strategy<Value = WaitReason> {
    let position =
        (number(), number(), number()).prop_map(|(running, max_running, ahead)| QueuePosition {
            running,
            max_running,
            ahead,
        });
    prop_oneof![
        option::of(position).prop_map(WaitReason::Slot),
        Just(WaitReason::Launcher),
    ]
}

pub(super) fn severity() -> impl Strategy<Value = Severity> {
    prop_oneof![
        Just(Severity::Ok),
        Just(Severity::Note),
        Just(Severity::Warning),
        Just(Severity::Failure),
    ]
}

pub(super) fn stdin_mode() -> impl Strategy<Value = StdinMode> {
    prop_oneof![Just(StdinMode::Null), Just(StdinMode::Stream)]
}

pub(super) fn stdin_lost() -> impl Strategy<Value = StdinLost> {
    let then = prop_oneof![Just(OnStdinLost::Cancel), Just(OnStdinLost::End)];
    (then, option::of(number())).prop_map(|(then, after_ms)| StdinLost { then, after_ms })
}

pub(super) fn cancel_mode() -> impl Strategy<Value = CancelMode> {
    prop_oneof![
        Just(CancelMode::Graceful),
        Just(CancelMode::Kill),
        any::<i32>().prop_map(CancelMode::Signal)
    ]
}

pub(super) fn output_stream() -> impl Strategy<Value = OutputStream> {
    prop_oneof![Just(OutputStream::Stdout), Just(OutputStream::Stderr)]
}

pub(super) fn stream_selection() -> impl Strategy<Value = StreamSelection> {
    prop_oneof![
        Just(StreamSelection::Both),
        output_stream().prop_map(StreamSelection::Only),
    ]
}

pub(super) fn events_start() -> impl Strategy<Value = EventsStart> {
    prop_oneof![
        Just(EventsStart::Oldest),
        number().prop_map(EventsStart::After),
        number().prop_map(EventsStart::Last),
        timestamp().prop_map(EventsStart::Since),
    ]
}

pub(super) fn output_start() -> impl Strategy<Value = OutputStart> {
    prop_oneof![
        number().prop_map(OutputStart::Offset),
        number().prop_map(OutputStart::LastLines),
    ]
}

prop_compose! {
    pub(super) fn api_error()(
        code in any::<u16>(),
        message in text(),
        hint in option::of(text()),
        retry in any::<bool>(),
    ) -> ApiError {
        ApiError { code: ErrorCode::from_number(code), message, hint, retry }
    }
}
