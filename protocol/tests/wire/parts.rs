//! The growth rule: what a receiver of this version makes of messages from a later one.

use escher_protocol::codec::{self, CodecError};
use escher_protocol::parts::{MAX_PARTS, MAX_PARTS_BYTES};
use escher_protocol::{
    Blob, ExecutionRecord, ExecutionRequest, Part, Parts, Timestamp, UnsupportedPart,
};

use crate::golden;

/// Decodes the bytes of a later version and returns their parts.
fn from_the_future() -> [Parts; 2] {
    let request = golden::read("ExecutionRequest.future").unwrap();
    let record = golden::read("ExecutionRecord.future").unwrap();
    [
        codec::decode::<ExecutionRequest>(&request).unwrap().parts,
        codec::decode::<ExecutionRecord>(&record).unwrap().parts,
    ]
}

#[test]
fn unknown_parts_of_both_directions_are_kept() {
    for parts in from_the_future() {
        assert_eq!(parts.get(1000), Some(&b"\xff optional"[..]));
        assert_eq!(parts.get(1001), Some(&b"required"[..]));
    }
}

#[test]
fn an_unknown_part_is_refused_in_both_directions_exactly_if_it_is_required() {
    for parts in from_the_future() {
        let refused = Err(UnsupportedPart { tag: 1001 });
        assert_eq!(parts.ensure_understood(&[]), refused);
        assert_eq!(parts.ensure_understood(&[1001]), Ok(()));
    }
}

#[test]
fn a_part_is_a_value_encoded_by_itself() {
    let time = Timestamp::from_micros(1_760_000_000_123_456);
    let part = Part::new(4, codec::encode(&time).unwrap());
    let request = ExecutionRequest {
        parts: vec![part].try_into().unwrap(),
        ..ExecutionRequest::default()
    };
    let bytes = codec::encode(&request).unwrap();
    let decoded: ExecutionRequest = codec::decode(&bytes).unwrap();
    assert_eq!(codec::decode(decoded.parts.get(4).unwrap()), Ok(time));
}

/// Encodes a list of parts that [`Parts`] itself may refuse to hold.
fn encode_list(parts: &[Part]) -> Vec<u8> {
    codec::encode(&parts).unwrap()
}

fn assert_refused(bytes: &[u8], because: &str) {
    match codec::decode::<Parts>(bytes) {
        Err(CodecError::Malformed(message)) => assert!(message.contains(because), "{message}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn more_parts_than_allowed_are_malformed() {
    let most = u32::try_from(MAX_PARTS).unwrap();
    let parts: Vec<Part> = (0..=most).map(|tag| Part::new(tag, "")).collect();
    let allowed = encode_list(&parts[..MAX_PARTS]);
    assert_eq!(
        codec::decode(&allowed),
        Ok(Parts::try_from(parts[..MAX_PARTS].to_vec()).unwrap())
    );
    assert_refused(&encode_list(&parts), "more than 64 parts");
}

#[test]
fn longer_parts_than_allowed_are_malformed() {
    let halves = |last: usize| {
        let half = MAX_PARTS_BYTES / 2;
        let parts = [half, last].map(|length| Blob::from(vec![0; length]));
        let [first, second] = parts;
        encode_list(&[Part::new(2, first), Part::new(4, second)])
    };
    assert!(codec::decode::<Parts>(&halves(MAX_PARTS_BYTES / 2)).is_ok());
    assert_refused(&halves(MAX_PARTS_BYTES / 2 + 1), "more than 65536 bytes");
}

#[test]
fn parts_out_of_order_are_malformed() {
    for tags in [[2, 2], [4, 2]] {
        let parts = tags.map(|tag| Part::new(tag, ""));
        assert_refused(&encode_list(&parts), "part 2 is out of order");
    }
}

#[test]
fn a_part_that_claims_more_bytes_than_there_are_is_malformed() {
    let mut bytes = encode_list(&[Part::new(2, "xyz")]);
    bytes.pop();
    assert_refused(&bytes, "");
    // 2^40 bytes, then 2^40 parts.
    let huge = [&[0xfd][..], &(1u64 << 40).to_le_bytes()].concat();
    assert_refused(&[&[1, 2][..], &huge].concat(), "");
    assert_refused(&huge, "");
}
