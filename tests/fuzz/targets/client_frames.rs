//! What a client sends: a greeting, then frames; and whatever arrives piece by piece.
#![no_main]

use bytes::BytesMut;
use escher_protocol::ClientFrame;
use escher_protocol::frame::{FrameCodec, HEADER_BYTES};
use escher_protocol::handshake::Hello;
use libfuzzer_sys::fuzz_target;
use serde::de::DeserializeOwned;

/// Decodes all frames of `bytes`, at once and with the last piece later, which must not make a difference.
fn decode_all<T: DeserializeOwned + PartialEq + std::fmt::Debug>(
    codec: &FrameCodec<T>,
    bytes: &[u8],
    cut: usize,
) {
    let mut whole = BytesMut::from(bytes);
    let mut pieces = BytesMut::from(&bytes[..cut]);
    let mut rest = &bytes[cut..];
    loop {
        let expected = codec.decode_frame(&mut whole);
        let mut found = codec.decode_frame(&mut pieces);
        if matches!(found, Ok(None)) {
            pieces.extend_from_slice(std::mem::take(&mut rest));
            found = codec.decode_frame(&mut pieces);
        }
        match (expected, found) {
            (Ok(Some(expected)), Ok(Some(found))) => assert_eq!(expected, found),
            (Ok(None), Ok(None)) | (Err(_), Err(_)) => return,
            (expected, found) => panic!("{expected:?} is not {found:?}"),
        }
    }
}

fuzz_target!(|input: &[u8]| {
    let Some((cut, bytes)) = input.split_first() else {
        return;
    };
    let cut = usize::from(*cut).min(bytes.len());
    decode_all(&FrameCodec::<Hello>::handshake(), bytes, cut);
    decode_all(&FrameCodec::<ClientFrame>::of_clients(), bytes, cut);
    // The payload by itself, so that the length in the header needs no guess.
    if bytes.len() > HEADER_BYTES {
        let _: Option<Hello> = escher_fuzz::decode(bytes);
        let _: Option<ClientFrame> = escher_fuzz::decode(bytes);
    }
});
