//! Messages of clients.

use escher_protocol::handshake::Hello;
use escher_protocol::message::{
    ClientFrame, Condition, EventFilter, EventsRequest, ListFilter, OutputRequest, Property,
    Request, Selection,
};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::execution::{execution_request, run_as};
use super::values::{
    blob, cancel_mode, events_start, number, number32, output_start, request_id, signal_recipients,
    signal_serial, signed, status, stream_selection, target, text, timestamp,
};

prop_compose! {
    pub(super) fn hello()(
        magic in any::<[u8; 8]>(),
        lowest in any::<u16>(),
        highest in any::<u16>(),
        client in text(),
    ) -> Hello {
        Hello { magic, lowest, highest, client }
    }
}

pub(crate) fn client_frame() -> impl Strategy<Value = ClientFrame> {
    prop_oneof![
        8 => (request_id(), request()).prop_map(|(id, body)| ClientFrame::Request { id, body }),
        1 => (request_id(), number32()).prop_map(|(id, bytes)| ClientFrame::Grant { id, bytes }),
        1 => request_id().prop_map(|id| ClientFrame::Abandon { id }),
    ]
}

fn request() -> impl Strategy<Value = Request> {
    let stdin = (target(), number(), blob(), any::<bool>());
    prop_oneof![
        4 => execution_request().prop_map(|request| Request::Submit(Box::new(request))).boxed(),
        1 => target().prop_map(Request::Status),
        1 => target().prop_map(Request::Wait),
        1 => target().prop_map(Request::Result),
        1 => (target(), cancel_mode())
            .prop_map(|(target, mode)| Request::Cancel { target, mode }),
        1 => (target(), signed(), signal_recipients(), signal_serial()).prop_map(
            |(target, signal, recipients, serial)| Request::Signal {
                target, signal, recipients, serial,
            },
        ),
        3 => selection().prop_map(Request::List).boxed(),
        2 => output_request().prop_map(Request::ReadOutput),
        1 => events_request().prop_map(Request::Events),
        2 => stdin.prop_map(|(target, offset, data, end)| Request::WriteStdin {
            target, offset, data, end,
        }),
        1 => Just(Request::Info),
        1 => target().prop_map(Request::Remove),
        1 => (selection(), any::<bool>())
            .prop_map(|(selection, dry_run)| Request::Prune { selection, dry_run })
            .boxed(),
        1 => Just(Request::Settings),
        1 => Just(Request::Reload),
        1 => Just(Request::Cleanup),
        1 => Just(Request::Metrics),
        1 => target().prop_map(Request::Pause),
        1 => target().prop_map(Request::Resume),
        1 => Just(Request::Diagnose),
        1 => option::of(run_as()).prop_map(Request::Quota),
        1 => target().prop_map(Request::HoldStdin),
        1 => target().prop_map(Request::LoseStdin),
        1 => target().prop_map(Request::MeasureUsage),
        1 => Just(Request::MeasureRunning),
    ]
}

fn selection() -> impl Strategy<Value = Selection> {
    let times = (option::of(timestamp()), option::of(timestamp()));
    (list_filter(), times).prop_map(|(filter, (since, until))| Selection {
        filter,
        since,
        until,
    })
}

fn condition() -> impl Strategy<Value = Condition> {
    let property = prop_oneof![
        status().prop_map(Property::Status),
        any::<u32>().prop_map(Property::Exit),
        text().prop_map(Property::User),
        text().prop_map(Property::Name),
        text().prop_map(Property::Command),
        (text(), text()).prop_map(|(key, value)| Property::Label(key, value)),
    ];
    (property, any::<bool>()).prop_map(|(property, is_negated)| Condition {
        property,
        is_negated,
    })
}

prop_compose! {
    fn list_filter()(
        all in any::<bool>(),
        conditions in vec(condition(), 0..4),
        limit in number32(),
    ) -> ListFilter {
        ListFilter { all, conditions, limit }
    }
}

prop_compose! {
    fn output_request()(
        target in target(),
        streams in stream_selection(),
        start in output_start(),
        length in option::of(number()),
        (since, until) in (option::of(timestamp()), option::of(timestamp())),
        follow in any::<bool>(),
    ) -> OutputRequest {
        OutputRequest { target, streams, start, length, since, until, follow }
    }
}

prop_compose! {
    fn events_request()(
        start in events_start(),
        statuses in vec(status(), 0..3),
        name in option::of(text()),
        follow in any::<bool>(),
    ) -> EventsRequest {
        EventsRequest { start, filter: EventFilter { statuses, name }, follow }
    }
}
