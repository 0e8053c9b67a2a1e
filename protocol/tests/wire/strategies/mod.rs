//! Any message at all: strategies for proptest.

mod execution;
mod reply;
mod request;
mod values;

#[cfg(feature = "frames")]
pub(crate) use request::client_frame;

use std::rc::Rc;

use proptest::prelude::*;

use crate::message::Message;

/// Any message that is sent as a frame of its own.
pub(crate) fn message() -> impl Strategy<Value = Rc<dyn Message>> {
    prop_oneof![
        1 => request::hello().prop_map(forget).boxed(),
        1 => reply::hello_reply().prop_map(forget).boxed(),
        4 => request::client_frame().prop_map(forget).boxed(),
        4 => reply::server_frame().prop_map(forget).boxed(),
    ]
}

fn forget(message: impl Message + 'static) -> Rc<dyn Message> {
    Rc::new(message)
}
