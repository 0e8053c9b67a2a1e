//! Strategies for proptest that generate any message.

mod execution;
mod reply;
mod request;
mod values;

#[cfg(feature = "frames")]
pub(crate) use request::client_frame;

use std::rc::Rc;

use proptest::prelude::*;

use crate::message::Message;

/// Generates any message that is sent in a frame of its own.
pub(crate) fn message() -> impl Strategy<Value = Rc<dyn Message>> {
    prop_oneof![
        1 => request::hello().prop_map(erase_type).boxed(),
        1 => reply::hello_reply().prop_map(erase_type).boxed(),
        4 => request::client_frame().prop_map(erase_type).boxed(),
        4 => reply::server_frame().prop_map(erase_type).boxed(),
    ]
}

fn erase_type(message: impl Message + 'static) -> Rc<dyn Message> {
    Rc::new(message)
}
