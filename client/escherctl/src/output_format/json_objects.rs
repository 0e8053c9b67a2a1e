//! Output as JSON objects.

use escher_client::{ExecutionId, OutputChunk, OutputItem};

use crate::render::json;

/// Makes an object of each chunk and gap. A character that ends in the next chunk begins the object of that.
///
/// Only where the next chunk is one of the other stream, or does not follow in the log, is a character split: an object
/// ends where the next one may begin.
#[derive(Debug)]
pub(super) struct JsonObjects {
    id: ExecutionId,
    /// The beginning of a character.
    held: Option<OutputChunk>,
}

impl JsonObjects {
    pub(super) fn new(id: ExecutionId) -> Self {
        JsonObjects { id, held: None }
    }

    /// Returns the objects of `item` and of what was held before it.
    pub(super) fn add(&mut self, item: OutputItem) -> Vec<String> {
        let mut lines = Vec::new();
        match item {
            OutputItem::Gap(gap) => {
                lines.extend(self.finish());
                lines.push(json::output_gap(self.id, &gap));
            }
            OutputItem::Chunk(mut chunk) => {
                match self.held.take() {
                    Some(held) if continues(&held, &chunk) => {
                        chunk.offset = held.offset;
                        chunk.data = [held.data.into_vec(), chunk.data.into_vec()]
                            .concat()
                            .into();
                    }
                    held => lines.extend(held.map(|held| json::output_chunk(self.id, held))),
                }
                self.held = split_character(&mut chunk);
                if !chunk.data.is_empty() {
                    lines.push(json::output_chunk(self.id, chunk));
                }
            }
        }
        lines
    }

    /// Returns the object of what is held.
    pub(super) fn finish(&mut self) -> Option<String> {
        let held = self.held.take()?;
        Some(json::output_chunk(self.id, held))
    }
}

/// Whether `chunk` follows `held` in the log and in its stream.
fn continues(held: &OutputChunk, chunk: &OutputChunk) -> bool {
    held.stream == chunk.stream && held.offset + held.data.len() as u64 == chunk.offset
}

/// Takes the beginning of a character off the end of text.
fn split_character(chunk: &mut OutputChunk) -> Option<OutputChunk> {
    let error = std::str::from_utf8(&chunk.data).err()?;
    if error.error_len().is_some() {
        return None;
    }
    let mut data = std::mem::take(&mut chunk.data).into_vec();
    let rest = data.split_off(error.valid_up_to());
    let offset = chunk.offset + data.len() as u64;
    chunk.data = data.into();
    Some(OutputChunk {
        offset,
        data: rest.into(),
        ..*chunk
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use escher_client::OutputStream::{self, Stderr, Stdout};
    use serde_json::{Value, json};

    fn objects(chunks: &[(OutputStream, u64, &[u8])]) -> Vec<Value> {
        let mut objects = JsonObjects::new(ExecutionId::from_bytes([1; 16]));
        let mut lines = Vec::new();
        for (stream, offset, data) in chunks {
            lines.extend(objects.add(OutputItem::Chunk(OutputChunk {
                stream: *stream,
                offset: *offset,
                time_us: 0,
                data: data.to_vec().into(),
            })));
        }
        lines.extend(objects.finish());
        let parse = |line: &String| serde_json::from_str::<Value>(line).unwrap();
        lines
            .iter()
            .map(parse)
            .map(|object| json!([object["offset"], object["text"], object["base64"]]))
            .collect()
    }

    #[test]
    fn a_character_over_the_border_of_chunks_is_kept_whole() {
        assert_eq!(
            objects(&[
                (Stdout, 0, b"caf\xc3"),
                (Stdout, 4, b"\xa9 \xe2"),
                (Stdout, 7, b"\x82"),
                (Stdout, 8, b"\xac"),
            ]),
            [
                json!([0, "caf", null]),
                json!([3, "é ", null]),
                json!([6, "€", null]),
            ]
        );
    }

    #[test]
    fn what_is_no_text_is_base64_and_nothing_is_held_beyond_the_end_or_other_output() {
        assert_eq!(
            objects(&[
                (Stdout, 0, b"a\xc3"),
                (Stderr, 2, b"b"),
                (Stdout, 3, b"\xa9"),
                (Stdout, 4, b"\xff\xc3"),
                (Stdout, 6, b"z\xe2\x82"),
            ]),
            [
                json!([0, "a", null]),
                json!([1, null, "ww=="]),
                json!([2, "b", null]),
                json!([3, null, "qQ=="]),
                json!([4, null, "/8M="]),
                json!([6, "z", null]),
                json!([7, null, "4oI="]),
            ]
        );
    }
}
