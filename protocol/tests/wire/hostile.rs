//! Peers that claim wrong lengths: the memory of decoding is bounded by the bytes that arrived.

use std::fmt::Debug;

use escher_protocol::blob::MAX_LIST_ITEMS;
use escher_protocol::codec::{self, MAX_PAYLOAD_BYTES};
use escher_protocol::message::{Condition, ListFilter, Property};
use escher_protocol::{Blob, Command, ExecutionRecord, ExecutionRequest, Status, Text};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::samples;

/// Most memory per byte of a frame. The worst case is a pair of empty texts: 48 bytes of memory for
/// two on the wire, three times that while a growing list is moved.
const MEMORY_PER_BYTE: usize = 72;

/// Memory of a message's boxes and of an error's text.
const MEMORY_PER_MESSAGE: usize = 2048;

/// Returns the most memory that `work` holds at once, in bytes.
fn peak_memory(work: impl FnOnce()) -> usize {
    usize::try_from(allocation_counter::measure(work).bytes_max).expect("it fitted into memory")
}

/// Returns encoded lengths that a peer may claim, of all widths.
fn claimed_lengths() -> Vec<Vec<u8>> {
    let within = u32::try_from(MAX_PAYLOAD_BYTES - 64).expect("a frame's length fits");
    let wide = [1 << 33, 1 << 62, i64::MAX as u64, u64::MAX];
    let wide = wide.map(|length| [&[0xfd], &length.to_le_bytes()[..]].concat());
    let mut claims = vec![
        vec![0xfb, 0xff, 0xff],
        [&[0xfc], &within.to_le_bytes()[..]].concat(),
        vec![0xfc, 0xff, 0xff, 0xff, 0xff],
        [&[0xfe], &[0xff; 16][..]].concat(),
    ];
    claims.extend(wide);
    claims
}

/// Replaces every byte of every message in turn, and so every real length.
#[test]
fn a_claimed_length_allocates_nothing() {
    for sample in samples::all() {
        let encoded = sample.message.encode();
        for place in 0..encoded.len() {
            for claim in claimed_lengths() {
                let (head, tail) = (&encoded[..place], &encoded[place + 1..]);
                for bytes in [[head, &claim, tail].concat(), [head, &claim].concat()] {
                    let memory = peak_memory(|| drop(sample.message.equals_decoded(&bytes)));
                    assert!(
                        memory <= MEMORY_PER_MESSAGE + MEMORY_PER_BYTE * bytes.len(),
                        "{} with {claim:02x?} at byte {place} took {memory} bytes of memory",
                        sample.name
                    );
                }
            }
        }
    }
}

#[test]
fn decoding_allocates_in_proportion_to_the_message() {
    for sample in samples::all() {
        let encoded = sample.message.encode();
        let memory = peak_memory(|| drop(sample.message.equals_decoded(&encoded)));
        assert!(
            memory <= MEMORY_PER_MESSAGE + 2 * encoded.len(),
            "{} took {memory} bytes of memory for {}",
            sample.name,
            encoded.len()
        );
    }
    let data: Blob = vec![0; 1 << 20].into();
    let bytes = codec::encode(&data).unwrap();
    assert_eq!(
        peak_memory(|| drop(codec::decode::<Blob>(&bytes))),
        data.len()
    );
}

/// Asserts that a list holds [`MAX_LIST_ITEMS`] and no more, with memory in proportion to the
/// frame.
fn assert_bounded<T>(what: &str, list_of: impl Fn(usize) -> T)
where
    T: Serialize + DeserializeOwned + PartialEq + Debug,
{
    for (length, fits) in [(MAX_LIST_ITEMS, true), (MAX_LIST_ITEMS + 1, false)] {
        let message = list_of(length);
        let bytes = codec::encode(&message).unwrap();
        let mut decoded = None;
        let memory = peak_memory(|| decoded = Some(codec::decode::<T>(&bytes)));
        match decoded.unwrap() {
            Ok(decoded) => assert!(fits && decoded == message, "{length} {what} decode"),
            Err(error) => assert!(!fits, "{length} {what}: {error}"),
        }
        assert!(
            memory <= MEMORY_PER_MESSAGE + MEMORY_PER_BYTE * bytes.len(),
            "{length} {what} took {memory} bytes of memory for {}",
            bytes.len()
        );
    }
}

fn pairs<T: Default + Clone>(length: usize) -> Vec<(T, T)> {
    vec![(T::default(), T::default()); length]
}

#[test]
fn lists_of_a_request_are_bounded() {
    assert_bounded("arguments", |length| Command::Exec {
        argv: vec![Blob::default(); length],
    });
    assert_bounded("variables", |length| ExecutionRequest {
        environment: pairs(length),
        ..ExecutionRequest::default()
    });
    assert_bounded("labels", |length| ExecutionRequest {
        labels: pairs(length),
        ..ExecutionRequest::default()
    });
}

#[test]
fn lists_of_a_filter_are_bounded() {
    assert_bounded("conditions", |length| ListFilter {
        conditions: vec![Condition::is(Property::Status(Status::Lost)); length],
        ..ListFilter::default()
    });
}

#[test]
fn lists_of_replies_are_bounded() {
    assert_bounded("labels of a record", |length| ExecutionRecord {
        labels: pairs(length),
        ..samples::daemon::pending()
    });
}

/// A frame of the longest kind that consists of one list, which claims more elements than fit in
/// memory.
#[test]
fn an_endless_list_stops_at_the_limit() {
    let endless = [
        &[0xfd],
        &u64::MAX.to_le_bytes()[..],
        &vec![0; MAX_PAYLOAD_BYTES - 64],
    ]
    .concat();
    let mut labels = codec::encode(&ExecutionRequest::default()).unwrap();
    labels.truncate(labels.len() - 2); // The numbers of labels and of parts, which come last.
    labels.extend_from_slice(&endless);
    let memory = peak_memory(|| assert!(codec::decode::<ExecutionRequest>(&labels).is_err()));
    let most = MAX_LIST_ITEMS * size_of::<(Text, Text)>() * 3 / 2;
    assert!(
        memory <= MEMORY_PER_MESSAGE + most,
        "{memory} bytes of memory"
    );
}
