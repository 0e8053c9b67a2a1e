//! escherctl as a child process, and the daemon that the test plays.

pub(crate) mod answers;
pub(crate) mod escherctl;

pub(crate) use escher_tests::fake_daemon::{
    FakeDaemon, ServerConnection, output_item as output, record_response as execution,
};
pub(crate) use escher_tests::samples::record;
