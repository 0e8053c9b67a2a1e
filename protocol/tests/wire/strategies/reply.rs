//! Messages of escherd.

use escher_protocol::handshake::{HelloReply, Refusal, SessionLimits, Welcome};
use escher_protocol::message::{
    CancelAnswer, DaemonInfo, Event, EventKind, HistoryQuota, Item, Quota, Removed, Response,
    ServerFrame, Submitted,
};
use escher_protocol::{
    ApiError, CurrentUsage, Diagnostic, ExecutionUsage, GapReason, Omission, OutputChunk,
    OutputGap, Reloaded, Setting, SettingValue,
};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::execution::execution_record;
use super::values::{
    api_error, blob, canceller, execution_id, instance_id, number, number32, output_stream,
    request_id, severity, signal_answer, status, text, timestamp, user,
};

pub(super) fn hello_reply() -> impl Strategy<Value = HelloReply> {
    let refusal = (api_error(), any::<u16>(), any::<u16>());
    prop_oneof![
        welcome().prop_map(HelloReply::Welcome),
        refusal.prop_map(|(error, lowest, highest)| {
            HelloReply::Refused(Refusal {
                error,
                lowest,
                highest,
            })
        }),
    ]
}

prop_compose! {
    fn welcome()(
        version in any::<u16>(),
        daemon in text(),
        instance in instance_id(),
        (max_frame_bytes, max_requests_in_flight, stream_window_bytes) in
            (number32(), number32(), number32()),
    ) -> Welcome {
        let limits = SessionLimits {
            max_frame_bytes, max_requests_in_flight, stream_window_bytes,
        };
        Welcome { version, daemon, instance, limits }
    }
}

pub(super) fn server_frame() -> impl Strategy<Value = ServerFrame> {
    prop_oneof![
        4 => (request_id(), result(response()))
            .prop_map(|(id, result)| ServerFrame::Reply { id, result }).boxed(),
        4 => (request_id(), item()).prop_map(|(id, item)| ServerFrame::Item { id, item }).boxed(),
        1 => (request_id(), result(Just(())))
            .prop_map(|(id, result)| ServerFrame::End { id, result }),
    ]
}

fn result<T: std::fmt::Debug + Clone + 'static>(
    value: impl Strategy<Value = T> + 'static,
) -> impl Strategy<Value = Result<T, ApiError>> {
    prop_oneof![value.prop_map(Ok), api_error().prop_map(Err)]
}

fn response() -> impl Strategy<Value = Response> {
    let submitted = (execution_id(), number(), any::<bool>());
    prop_oneof![
        submitted.prop_map(|(id, number, existing)| {
            Response::Submitted(Submitted {
                id,
                number,
                existing,
            })
        }),
        execution_record()
            .prop_map(|record| Response::Execution(Box::new(record)))
            .boxed(),
        cancel_outcome().prop_map(Response::Cancel),
        number().prop_map(|offset| Response::StdinAccepted { offset }),
        daemon_info()
            .prop_map(|info| Response::Info(Box::new(info)))
            .boxed(),
        Just(Response::Done),
        (number(), number()).prop_map(|(executions, log_bytes)| {
            Response::Removed(Removed {
                executions,
                log_bytes,
            })
        }),
        vec(setting(), 0..3).prop_map(Response::Settings),
        (vec(text(), 0..3), vec(text(), 0..3)).prop_map(|(applied, need_restart)| {
            Response::Reloaded(Reloaded {
                applied,
                need_restart,
            })
        }),
        text().prop_map(Response::Metrics),
        vec(diagnostic(), 0..3).prop_map(Response::Diagnostics),
        vec(quota(), 0..3).prop_map(Response::Quotas),
        signal_answer().prop_map(Response::Signal),
        current_usage().prop_map(Response::CurrentUsage),
    ]
}

prop_compose! {
    fn execution_usage()(
        id in execution_id(),
        number in number(),
        usage in current_usage(),
    ) -> ExecutionUsage {
        ExecutionUsage { id, number, usage }
    }
}

prop_compose! {
    fn current_usage()(
        (memory_bytes, tasks) in (option::of(number()), option::of(number())),
        (user_us, system_us) in (option::of(number()), option::of(number())),
        (io_read_bytes, io_written_bytes) in (option::of(number()), option::of(number())),
    ) -> CurrentUsage {
        CurrentUsage { memory_bytes, tasks, user_us, system_us, io_read_bytes, io_written_bytes }
    }
}

fn quota() -> impl Strategy<Value = Quota> {
    let limited = || (number(), number());
    let history = (limited(), limited());
    let parts = (user(), limited(), limited(), limited(), limited(), history);
    parts.prop_map(
        |(user, pending, pending_bytes, running, logs, history)| Quota {
            user,
            pending: pending.0,
            max_pending: pending.1,
            pending_bytes: pending_bytes.0,
            max_pending_bytes: pending_bytes.1,
            running: running.0,
            max_running: running.1,
            log_disk_bytes: logs.0,
            max_log_disk_bytes: logs.1,
            history: HistoryQuota {
                finished: history.0.0,
                finished_share: history.0.1,
                log_bytes: history.1.0,
                log_bytes_share: history.1.1,
            },
        },
    )
}

fn diagnostic() -> impl Strategy<Value = Diagnostic> {
    let parts = (text(), severity(), text(), option::of(text()));
    parts.prop_map(|(check, severity, message, advice)| Diagnostic {
        check,
        severity,
        message,
        advice,
    })
}

fn setting() -> impl Strategy<Value = Setting> {
    let value = prop_oneof![
        Just(SettingValue::Unset),
        any::<bool>().prop_map(SettingValue::Flag),
        number().prop_map(SettingValue::Number),
        text().prop_map(SettingValue::Text),
    ];
    (text(), value, text(), any::<bool>()).prop_map(|(name, value, origin, is_reloadable)| {
        Setting {
            name,
            value,
            origin,
            is_reloadable,
        }
    })
}

fn item() -> impl Strategy<Value = Item> {
    prop_oneof![
        execution_record()
            .prop_map(|record| Item::Execution(Box::new(record)))
            .boxed(),
        output_chunk().prop_map(Item::Output),
        number().prop_map(|offset| Item::StdinHeld { offset }),
        number().prop_map(|sequence| Item::EventsAfter { sequence }),
        execution_usage().prop_map(Item::Usage),
        event().prop_map(Item::Event).boxed(),
        (output_stream(), number(), text()).prop_map(|(stream, bytes, mark)| {
            Item::Omitted(Omission {
                stream,
                bytes,
                mark,
            })
        }),
        (number(), option::of(number()), gap_reason()).prop_map(|(offset, bytes, reason)| {
            Item::Gap(OutputGap {
                offset,
                bytes,
                reason,
            })
        }),
    ]
}

fn gap_reason() -> impl Strategy<Value = GapReason> {
    prop_oneof![
        Just(GapReason::Dropped),
        Just(GapReason::Forgotten),
        Just(GapReason::Cut),
    ]
}

fn cancel_outcome() -> impl Strategy<Value = CancelAnswer> {
    prop_oneof![
        Just(CancelAnswer::Withdrawn),
        Just(CancelAnswer::Ending),
        Just(CancelAnswer::AlreadyEnding),
        status().prop_map(CancelAnswer::AlreadyFinished),
    ]
}

fn event_kind() -> impl Strategy<Value = EventKind> {
    prop_oneof![
        Just(EventKind::Submitted),
        Just(EventKind::Started),
        canceller().prop_map(EventKind::CancelRequested),
        status().prop_map(EventKind::Finished),
    ]
}

prop_compose! {
    fn output_chunk()(
        stream in output_stream(),
        offset in number(),
        time_us in number(),
        data in blob(),
    ) -> OutputChunk {
        OutputChunk { stream, offset, time_us, data }
    }
}

prop_compose! {
    fn event()(
        sequence in number(),
        time in timestamp(),
        id in execution_id(),
        number in number(),
        name in option::of(text()),
        user in user(),
        kind in event_kind(),
    ) -> Event {
        Event { sequence, time, id, number, name, user, kind }
    }
}

prop_compose! {
    fn daemon_info()(
        (version, instance, started_at) in (text(), instance_id(), timestamp()),
        (pid, uid, launcher_pid) in (number32(), number32(), option::of(number32())),
        serves_all_users in any::<bool>(),
        (log_dir, state_dir) in (blob(), blob()),
        (pending, running, finished) in (number(), number(), number()),
        (max_concurrent_executions, max_pending_executions) in (number(), number()),
        (default_timeout_ms, max_timeout_ms, max_output_size_bytes) in
            (number(), number(), number()),
    ) -> DaemonInfo {
        DaemonInfo {
            version, instance, pid, uid, started_at, serves_all_users, launcher_pid, log_dir,
            state_dir, pending, running, finished, max_concurrent_executions,
            max_pending_executions, default_timeout_ms, max_timeout_ms, max_output_size_bytes,
        }
    }
}
