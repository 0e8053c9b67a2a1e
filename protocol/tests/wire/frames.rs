//! Frames on a byte stream: splitting, limits and memory.

use bytes::{BufMut, BytesMut};
use escher_protocol::codec::{CodecError, MAX_PAYLOAD_BYTES, MAX_REQUEST_BYTES};
use escher_protocol::frame::{FrameCodec, FrameError, HEADER_BYTES};
use escher_protocol::handshake::{Hello, MAX_HANDSHAKE_BYTES};
use escher_protocol::{ClientFrame, Request, RequestId};
use proptest::collection::vec;
use proptest::prelude::*;
use tokio_util::codec::{Decoder, Encoder};

use crate::strategies;

/// Decodes all messages of a stream that arrives in `pieces`.
fn receive<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Result<Vec<ClientFrame>, FrameError> {
    let codec = FrameCodec::<ClientFrame>::established();
    let (mut buffer, mut messages) = (BytesMut::new(), Vec::new());
    for piece in pieces {
        buffer.extend_from_slice(piece);
        while let Some((message, _)) = codec.decode_frame(&mut buffer)? {
            messages.push(message);
        }
    }
    assert!(buffer.is_empty(), "{} bytes were left over", buffer.len());
    Ok(messages)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn frames_decode_however_the_stream_is_split(
        messages in vec(strategies::client_frame(), 1..4),
    ) {
        let mut stream = BytesMut::new();
        let codec = FrameCodec::<ClientFrame>::established();
        for message in &messages {
            let before = stream.len();
            let length = codec.encode_frame(message, &mut stream).unwrap();
            prop_assert_eq!(stream.len() - before, HEADER_BYTES + length);
        }
        for cut in 0..=stream.len() {
            let (head, tail) = stream.split_at(cut);
            prop_assert_eq!(&receive([head, tail]).unwrap(), &messages);
        }
        prop_assert_eq!(&receive(stream.chunks(1)).unwrap(), &messages);
    }
}

/// Every request, cut after each of its bytes: the head decides, and nothing behind it.
#[test]
fn the_first_bytes_of_a_frame_decide_how_long_it_may_be() {
    let codec = FrameCodec::<ClientFrame>::of_clients();
    let submit = Request::Submit(Box::default());
    let grant = ClientFrame::Grant {
        id: RequestId(1),
        bytes: 1,
    };
    let request = |id, body| ClientFrame::Request {
        id: RequestId(id),
        body,
    };
    for (message, limit) in [
        (request(0, submit.clone()), MAX_PAYLOAD_BYTES),
        (request(u64::MAX, submit), MAX_PAYLOAD_BYTES),
        (request(0, Request::Info), MAX_REQUEST_BYTES),
        (request(u64::MAX, Request::Reload), MAX_REQUEST_BYTES),
        (grant, MAX_REQUEST_BYTES),
    ] {
        assert_eq!(message.max_payload_bytes(), limit);
        let mut frame = BytesMut::new();
        codec.encode_frame(&message, &mut frame).unwrap();
        let payload = &frame[HEADER_BYTES..];
        let decided = (0..=payload.len()).find_map(|length| {
            let limit = ClientFrame::max_payload_bytes_by(&payload[..length])?;
            Some((length, limit))
        });
        let (decided_by, decided) = decided.expect("a limit");
        assert!(decided_by <= 19 && decided == limit, "{message:?}");

        let claims = |length: usize| {
            let mut buffer = header(length);
            buffer.extend_from_slice(&payload[..decided_by]);
            codec.frame_length(&buffer)
        };
        assert_eq!(claims(limit).unwrap(), Some(HEADER_BYTES + limit));
        match claims(limit + 1) {
            Err(FrameError::TooLarge {
                length,
                limit: over,
            }) => {
                assert_eq!((length, over), (limit + 1, limit));
            }
            other => panic!("{other:?}"),
        }
    }
    // Bytes that are no request at all.
    let mut garbage = header(MAX_PAYLOAD_BYTES);
    garbage.extend_from_slice(&[0xff; 19]);
    let refused = codec.frame_length(&garbage);
    assert!(
        matches!(refused, Err(FrameError::TooLarge { .. })),
        "{refused:?}"
    );
}

fn header(length: usize) -> BytesMut {
    let mut bytes = BytesMut::new();
    bytes.put_u32(u32::try_from(length).expect("a length of four bytes"));
    bytes
}

#[test]
fn a_header_over_the_limit_is_refused_before_any_payload() {
    for claimed in [MAX_PAYLOAD_BYTES + 1, u32::MAX as usize] {
        let refused = FrameCodec::<ClientFrame>::established().decode_frame(&mut header(claimed));
        assert!(
            matches!(refused, Err(FrameError::TooLarge { length, limit })
                if length == claimed && limit == MAX_PAYLOAD_BYTES),
            "{refused:?}"
        );
    }
    let refused =
        FrameCodec::<Hello>::handshake().decode_frame(&mut header(MAX_HANDSHAKE_BYTES + 1));
    assert!(
        matches!(
            refused,
            Err(FrameError::TooLarge {
                limit: MAX_HANDSHAKE_BYTES,
                ..
            })
        ),
        "{refused:?}"
    );
}

#[test]
fn a_header_reserves_no_memory() {
    let mut buffer = header(MAX_PAYLOAD_BYTES);
    let before = buffer.capacity();
    let mut codec = FrameCodec::<ClientFrame>::established();
    assert!(codec.decode_frame(&mut buffer).unwrap().is_none());
    assert!(codec.decode(&mut buffer).unwrap().is_none());
    assert_eq!(buffer.capacity(), before);
}

#[test]
fn a_payload_that_is_not_a_message_is_an_error() {
    let codec = FrameCodec::<ClientFrame>::established();
    let mut empty = header(0);
    let error = codec.decode_frame(&mut empty).unwrap_err();
    assert!(
        matches!(error, FrameError::Codec(CodecError::Malformed(_))),
        "{error:?}"
    );
    let mut followed = BytesMut::new();
    codec.encode_frame(&write_of(0), &mut followed).unwrap();
    let length = followed.len() - HEADER_BYTES + 1;
    followed[..HEADER_BYTES].copy_from_slice(&header(length));
    followed.put_u8(0);
    let error = codec.decode_frame(&mut followed).unwrap_err();
    assert!(
        matches!(error, FrameError::Codec(CodecError::Trailing(1))),
        "{error:?}"
    );
}

#[test]
fn a_stream_that_ends_inside_a_frame_is_an_error() {
    let mut codec = FrameCodec::<ClientFrame>::established();
    let mut stream = BytesMut::new();
    codec.encode(&write_of(8), &mut stream).unwrap();
    let mut half = stream.split_to(stream.len() - 1);
    assert!(matches!(
        codec.decode_eof(&mut half),
        Err(FrameError::Io(_))
    ));
    assert!(codec.decode_eof(&mut BytesMut::new()).unwrap().is_none());
}

fn write_of(length: usize) -> ClientFrame {
    ClientFrame::Request {
        id: RequestId(1),
        body: Request::WriteStdin {
            target: "1".into(),
            offset: 0,
            data: vec![0x5a; length].into(),
            end: false,
        },
    }
}

fn hello_of(length: usize) -> Hello {
    Hello::new("x".repeat(length))
}

/// Calls `make` with the length for which the payload is `payload` bytes long.
fn message_of_length<T: serde::Serialize>(make: impl Fn(usize) -> T, payload: usize) -> T {
    let around = escher_protocol::codec::encode(&make(payload))
        .unwrap()
        .len()
        - payload;
    make(payload - around)
}

#[test]
fn a_payload_at_the_limit_passes_and_one_more_byte_does_not() {
    let codec = FrameCodec::<ClientFrame>::established();
    let most = message_of_length(write_of, MAX_PAYLOAD_BYTES);
    let mut stream = BytesMut::new();
    assert_eq!(
        codec.encode_frame(&most, &mut stream).unwrap(),
        MAX_PAYLOAD_BYTES
    );
    let (decoded, length) = codec.decode_frame(&mut stream).unwrap().unwrap();
    assert_eq!(length, MAX_PAYLOAD_BYTES);
    assert!(decoded == most && stream.is_empty());

    let over = message_of_length(write_of, MAX_PAYLOAD_BYTES + 1);
    assert_refused_and_buffer_unchanged(&codec, &over, MAX_PAYLOAD_BYTES);
}

#[test]
fn the_limit_is_smaller_until_the_handshake_is_done() {
    let codec = FrameCodec::<Hello>::handshake();
    let most = message_of_length(hello_of, MAX_HANDSHAKE_BYTES);
    let mut stream = BytesMut::new();
    assert_eq!(
        codec.encode_frame(&most, &mut stream).unwrap(),
        MAX_HANDSHAKE_BYTES
    );
    assert_eq!(
        codec.decode_frame(&mut stream).unwrap(),
        Some((most, MAX_HANDSHAKE_BYTES))
    );

    let over = message_of_length(hello_of, MAX_HANDSHAKE_BYTES + 1);
    assert_refused_and_buffer_unchanged(&codec, &over, MAX_HANDSHAKE_BYTES);
    let later = FrameCodec::<Hello>::established();
    later.encode_frame(&over, &mut stream).unwrap();
    assert!(matches!(
        codec.decode_frame(&mut stream.clone()),
        Err(FrameError::TooLarge {
            limit: MAX_HANDSHAKE_BYTES,
            ..
        })
    ));
    assert_eq!(
        later.decode_frame(&mut stream).unwrap(),
        Some((over, MAX_HANDSHAKE_BYTES + 1))
    );
}

fn assert_refused_and_buffer_unchanged<In>(
    codec: &FrameCodec<In>,
    message: &impl serde::Serialize,
    most: usize,
) {
    let mut buffer = BytesMut::from(&b"sent before"[..]);
    let refused = codec.encode_frame(message, &mut buffer);
    assert!(
        matches!(refused, Err(FrameError::TooLarge { length, limit })
            if length == most + 1 && limit == most),
        "{refused:?}"
    );
    assert_eq!(&buffer[..], b"sent before");
}

#[test]
fn a_message_that_cannot_be_encoded_leaves_the_buffer_unchanged() {
    /// Writes one element, then fails.
    struct Refuses;
    impl serde::Serialize for Refuses {
        fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            use serde::ser::SerializeTuple;
            let mut tuple = serializer.serialize_tuple(2)?;
            tuple.serialize_element(&"begun")?;
            Err(serde::ser::Error::custom("no"))
        }
    }
    let mut buffer = BytesMut::from(&b"sent before"[..]);
    let codec = FrameCodec::<ClientFrame>::established();
    let refused = codec.encode_frame(&Refuses, &mut buffer);
    assert!(
        matches!(refused, Err(FrameError::Codec(CodecError::Unencodable(_)))),
        "{refused:?}"
    );
    assert_eq!(&buffer[..], b"sent before");
}
