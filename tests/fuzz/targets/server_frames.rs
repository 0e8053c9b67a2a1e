//! What escherd sends to a client, which trusts it no more than it must.
#![no_main]

use escher_protocol::ServerFrame;
use escher_protocol::handshake::HelloReply;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _: Option<HelloReply> = escher_fuzz::decode(bytes);
    let _: Option<ServerFrame> = escher_fuzz::decode(bytes);
});
