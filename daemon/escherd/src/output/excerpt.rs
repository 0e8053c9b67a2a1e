//! Excerpts: the part of one stream that a result carries, which is all of it, or its beginning and
//! possibly its end.

use std::collections::VecDeque;
use std::io;

use escher_protocol::{ApiError, OutputChunk, OutputItem};

use super::OutputReader;
use super::log::{LogFiles, ReadRange};
use super::selection::OutputSelection;
use super::truncation::{MAX_SPLIT_BYTES, OutputRules, omission_marker, split_character};

/// A part of an [`Excerpt`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExcerptPart {
    /// Output.
    Output(OutputChunk),
    /// Omitted output.
    Omitted {
        /// The omitted bytes of the stream.
        bytes: u64,
        /// The text to put in their place; may be empty.
        marker: String,
    },
}

/// Reads the part of one stream that the result of a finished execution carries. However long the
/// log is, no more than one [`OutputBatch`](super::OutputBatch) is in memory.
///
/// A cut never splits a UTF-8 character: the first part ends before it, and the last begins after
/// it, so that each can be up to three bytes shorter. Bytes that are not such a character are cut
/// exactly.
#[derive(Debug)]
pub struct Excerpt {
    reader: OutputReader,
    log_bytes: u64,
    stream_bytes: Option<u64>,
    rules: OutputRules,
    progress: ExcerptProgress,
    /// Chunks that were read and not returned yet.
    chunks: VecDeque<OutputChunk>,
}

#[derive(Debug)]
enum ExcerptProgress {
    /// It is not known yet whether a cut is needed.
    NotStarted,
    /// In the part before this cut.
    BeforeCut(Cut),
    /// In the part that ends with the log.
    ToEnd,
}

/// A range of the log that is omitted.
#[derive(Debug)]
struct Cut {
    begin: u64,
    end: u64,
    /// The omitted bytes of the stream.
    bytes: u64,
}

impl Excerpt {
    /// Creates an excerpt of the first `log_bytes` bytes of a log. `reader` is at the beginning of
    /// the log and reads one stream. `stream_bytes` counts the bytes of the stream, including those
    /// that are not in the log; `None` if they were not counted: the
    /// log has all that is known.
    #[must_use]
    pub fn new(
        reader: OutputReader,
        log_bytes: u64,
        stream_bytes: Option<u64>,
        rules: OutputRules,
    ) -> Self {
        Excerpt {
            reader,
            log_bytes,
            stream_bytes,
            rules,
            progress: ExcerptProgress::NotStarted,
            chunks: VecDeque::new(),
        }
    }

    /// Returns whether the next part has to be read into memory first.
    #[must_use]
    pub fn must_read(&self) -> bool {
        self.chunks.is_empty()
    }

    /// Reads the next part; returns `None` after the last. Cancel-safe.
    ///
    /// # Errors
    /// `output-unavailable` when the log is missing, too short, or damaged.
    pub async fn next(&mut self) -> Result<Option<ExcerptPart>, ApiError> {
        loop {
            if let Some(chunk) = self.chunks.pop_front() {
                return Ok(Some(ExcerptPart::Output(chunk)));
            }
            let end = match &self.progress {
                ExcerptProgress::NotStarted => {
                    self.progress = match self.find_cut().await? {
                        Some(cut) => ExcerptProgress::BeforeCut(cut),
                        None => ExcerptProgress::ToEnd,
                    };
                    continue;
                }
                ExcerptProgress::BeforeCut(cut) => cut.begin,
                ExcerptProgress::ToEnd => self.log_bytes,
            };
            if self.reader.offset < end {
                let items = self.reader.read(end, end).await?.items;
                // What is missing is reported for the whole result, not for each stream.
                self.chunks = chunks(items).collect();
                continue;
            }
            let progress = std::mem::replace(&mut self.progress, ExcerptProgress::ToEnd);
            let ExcerptProgress::BeforeCut(cut) = progress else {
                return Ok(None);
            };
            self.reader.offset = cut.end;
            return Ok(Some(ExcerptPart::Omitted {
                bytes: cut.bytes,
                marker: omission_marker(self.rules, cut.bytes),
            }));
        }
    }

    async fn find_cut(&mut self) -> Result<Option<Cut>, ApiError> {
        let (log_bytes, stream_bytes, rules) = (self.log_bytes, self.stream_bytes, self.rules);
        let max_in_log = stream_bytes.map_or(log_bytes, |bytes| bytes.min(log_bytes));
        if max_in_log <= rules.max_bytes {
            return Ok(None);
        }
        let selection = self.reader.selection;
        let found = self
            .reader
            .run_blocking(move |files| find_cut(files, selection, log_bytes, stream_bytes, rules))
            .await?;
        found.ok_or_else(|| self.reader.unavailable(&io::ErrorKind::NotFound.into()))
    }
}

/// Returns where the first `log_bytes` bytes of a log are to be cut, if they have more selected bytes than
/// a result carries.
fn find_cut(
    files: &mut LogFiles,
    selection: OutputSelection,
    log_bytes: u64,
    stream_bytes: Option<u64>,
    rules: OutputRules,
) -> io::Result<Option<Cut>> {
    let log_bytes = log_bytes.min(files.length()?);
    let tail = rules.keep_tail_bytes.min(rules.max_bytes);
    let head = rules.max_bytes - tail;
    let first = files.skip_forward(selection, files.start(), head, log_bytes)?;
    let last = files.skip_backward(selection, log_bytes, tail)?;
    let between = files.skip_forward(selection, first.end, 1, last)?;
    if first.bytes < head || between.bytes == 0 {
        return Ok(None);
    }
    let (head_excess, _) = split_at(files, selection, first.end, log_bytes)?;
    let (_, tail_excess) = split_at(files, selection, last, log_bytes)?;
    let begin = files.skip_backward(selection, first.end, head_excess)?;
    let end = files
        .skip_forward(selection, last, tail_excess, log_bytes)?
        .end;
    // A damaged index may contradict itself.
    let carried = head.saturating_sub(head_excess) + tail.saturating_sub(tail_excess);
    let bytes = match stream_bytes {
        Some(stream_bytes) => stream_bytes.saturating_sub(carried),
        None => files.skip_forward(selection, begin, u64::MAX, end)?.bytes,
    };
    Ok(Some(Cut { begin, end, bytes }))
}

/// Returns how many bytes before and after a cut at `offset` of the log belong to a character
/// that it would split.
fn split_at(
    files: &mut LogFiles,
    selection: OutputSelection,
    offset: u64,
    log_bytes: u64,
) -> io::Result<(u64, u64)> {
    let begin = files.skip_backward(selection, offset, MAX_SPLIT_BYTES)?;
    let end = files
        .skip_forward(selection, offset, MAX_SPLIT_BYTES, log_bytes)?
        .end;
    let mut read = |offset, end| -> io::Result<Vec<u8>> {
        let range = ReadRange {
            offset,
            end,
            stop: end,
        };
        let items = files.read(selection, range)?.items;
        Ok(chunks(items)
            .flat_map(|chunk| chunk.data.into_vec())
            .collect())
    };
    Ok(split_character(&read(begin, offset)?, &read(offset, end)?))
}

fn chunks(items: Vec<OutputItem>) -> impl Iterator<Item = OutputChunk> {
    items.into_iter().filter_map(OutputItem::into_chunk)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::OversizedOutput::{self, Fail, ToFile, Truncate};
    use crate::output::sample::{self, SampleLog};
    use OutputStream::{Stderr, Stdout};
    use escher_protocol::output::MAX_CHUNK_BYTES;
    use escher_protocol::{ErrorCode, OutputStream, StreamSelection};
    use proptest::prelude::*;
    use std::fs::File;
    use std::io::{Seek, SeekFrom, Write};

    fn rules(max_bytes: u64, keep_tail_bytes: u64, oversized: OversizedOutput) -> OutputRules {
        OutputRules {
            stream: true,
            max_bytes,
            keep_tail_bytes,
            oversized,
        }
    }

    fn excerpt(
        sample: &SampleLog,
        stream: OutputStream,
        stream_bytes: Option<u64>,
        rules: OutputRules,
    ) -> Excerpt {
        let reader = sample::reader(sample.log(), StreamSelection::Only(stream));
        let log_bytes = std::fs::metadata(sample.log()).unwrap().len();
        Excerpt::new(reader, log_bytes, stream_bytes, rules)
    }

    /// The bytes before the cut, the omitted bytes with their marker, and the bytes after the cut.
    type WholeExcerpt = (Vec<u8>, Option<(u64, String)>, Vec<u8>);

    async fn read_all(mut excerpt: Excerpt) -> Result<WholeExcerpt, ApiError> {
        let (mut first, mut omitted, mut last) = (Vec::new(), None, Vec::new());
        while let Some(part) = excerpt.next().await? {
            match (part, &omitted) {
                (ExcerptPart::Output(chunk), None) => first.extend_from_slice(&chunk.data),
                (ExcerptPart::Output(chunk), Some(_)) => last.extend_from_slice(&chunk.data),
                (ExcerptPart::Omitted { bytes, marker }, None) => omitted = Some((bytes, marker)),
                (ExcerptPart::Omitted { .. }, Some(_)) => panic!("cut twice"),
            }
        }
        Ok((first, omitted, last))
    }

    /// Returns ASCII bytes that differ from their neighbours.
    fn bytes(count: u64) -> Vec<u8> {
        (0..count).map(|index| b'!' + (index % 89) as u8).collect()
    }

    /// Returns a log with pieces of both streams in turn, each of `length` bytes.
    fn interleaved(stdout: &[u8], stderr: &[u8], length: usize) -> SampleLog {
        let (mut out, mut err) = (stdout.chunks(length), stderr.chunks(length));
        let mut next = |turn| match turn {
            Stdout => out.next(),
            Stderr => err.next(),
        };
        let turns = [Stdout, Stderr].into_iter().cycle();
        let count = 2 * stdout.len().max(stderr.len()).div_ceil(length);
        SampleLog::new(
            turns
                .take(count)
                .filter_map(|turn| Some((turn, next(turn)?))),
        )
    }

    #[tokio::test]
    async fn output_within_the_limit_is_complete_and_more_is_cut() {
        const LIMIT: u64 = 1000;
        for size in [0, 1, LIMIT - 1, LIMIT, LIMIT + 1, 100 * LIMIT] {
            for (length, tail) in [(7, 0), (7, 1), (4096, 0), (4096, 400), (1, LIMIT - 1)] {
                // The other stream has a limit of its own.
                let other = bytes(LIMIT);
                let whole = bytes(size);
                let sample = interleaved(&whole, &other, length);
                for oversized in [Truncate, Fail, ToFile] {
                    let rules = rules(LIMIT, tail, oversized);
                    let read = |stream, stream_bytes| {
                        read_all(excerpt(&sample, stream, Some(stream_bytes), rules))
                    };
                    assert_eq!(
                        read(Stderr, LIMIT).await.unwrap(),
                        (other.clone(), None, vec![])
                    );
                    let expected = match size.checked_sub(LIMIT) {
                        None | Some(0) => (whole.clone(), None, vec![]),
                        Some(more) => {
                            let head = usize::try_from(LIMIT - tail).unwrap();
                            let end = usize::try_from(size - tail).unwrap();
                            (
                                whole[..head].to_vec(),
                                Some((more, omission_marker(rules, more))),
                                whole[end..].to_vec(),
                            )
                        }
                    };
                    assert_eq!(
                        read(Stdout, size).await.unwrap(),
                        expected,
                        "{size} {rules:?}"
                    );
                    let uncounted = read_all(excerpt(&sample, Stdout, None, rules)).await;
                    assert_eq!(uncounted.unwrap(), expected, "without a byte count");
                }
            }
        }
    }

    #[tokio::test]
    async fn a_cut_never_splits_a_character() {
        // Each character has two bytes; each byte is a piece, with the other stream in between.
        let sample = interleaved("ééééé".as_bytes(), b"..........", 1);
        for (max_bytes, tail, head, omitted_bytes, end) in [
            (4, 0, "éé", 6, ""),
            (5, 0, "éé", 6, ""),
            (1, 0, "", 10, ""),
            (0, 0, "", 10, ""),
            (5, 3, "é", 6, "é"),
            (6, 3, "é", 6, "é"),
            (9, 4, "éé", 2, "éé"),
            (9, 1, "éééé", 2, ""),
        ] {
            let rules = rules(max_bytes, tail, Truncate);
            let whole = read_all(excerpt(&sample, Stdout, Some(10), rules))
                .await
                .unwrap();
            let omitted = Some((omitted_bytes, omission_marker(rules, omitted_bytes)));
            assert_eq!(
                whole,
                (head.into(), omitted, end.into()),
                "{max_bytes} {tail}"
            );
        }
    }

    #[tokio::test]
    async fn bytes_dropped_by_the_log_count_as_omitted() {
        let sample = SampleLog::new([(Stdout, bytes(100))]);
        for (max_bytes, tail, omitted_bytes) in [(10, 0, 1990), (10, 4, 1990), (99, 4, 1901)] {
            let rules = rules(max_bytes, tail, Truncate);
            let (first, omitted, last) = read_all(excerpt(&sample, Stdout, Some(2000), rules))
                .await
                .unwrap();
            assert_eq!((first.len() + last.len()) as u64, max_bytes);
            assert_eq!(
                omitted,
                Some((omitted_bytes, omission_marker(rules, omitted_bytes)))
            );
        }
        // Only what the log has counts towards the limit.
        let whole = excerpt(&sample, Stdout, Some(2000), rules(100, 4, Truncate));
        assert_eq!(read_all(whole).await.unwrap(), (bytes(100), None, vec![]));
    }

    #[tokio::test]
    async fn bytes_after_the_given_length_of_the_log_are_ignored() {
        let sample = SampleLog::new([(Stdout, b"abcdef"), (Stderr, b"ABCDEF")]);
        let reader = sample::reader(sample.log(), StreamSelection::Only(Stdout));
        let whole = Excerpt::new(reader, 4, None, rules(3, 1, Truncate));
        let (first, omitted, last) = read_all(whole).await.unwrap();
        assert_eq!(
            (&*first, omitted.unwrap().0, &*last),
            (&b"ab"[..], 1, &b"d"[..])
        );
    }

    #[tokio::test]
    async fn reads_only_the_carried_bytes_of_a_huge_log() {
        const LENGTH: u64 = 10 << 30;
        let sample = SampleLog::new([(Stdout, b"begin")]);
        // The rest of the file is a hole.
        let mut log = File::options().write(true).open(sample.log()).unwrap();
        log.seek(SeekFrom::Start(LENGTH - 3)).unwrap();
        log.write_all(b"end").unwrap();
        let rules = rules(1 << 20, 5, ToFile);
        let mut excerpt = excerpt(&sample, Stdout, Some(LENGTH), rules);
        let (mut carried, mut chunks) = (0, Vec::new());
        while let Some(part) = excerpt.next().await.unwrap() {
            assert!(
                excerpt
                    .chunks
                    .iter()
                    .map(|chunk| chunk.data.len())
                    .sum::<usize>()
                    <= MAX_CHUNK_BYTES
            );
            match part {
                ExcerptPart::Output(chunk) => {
                    carried += chunk.data.len() as u64;
                    chunks.push(chunk);
                }
                ExcerptPart::Omitted { bytes, .. } => assert_eq!(bytes, LENGTH - rules.max_bytes),
            }
        }
        assert_eq!(carried, rules.max_bytes);
        assert!(chunks[0].data.starts_with(b"begin\0"));
        let last = chunks.last().unwrap();
        assert_eq!((last.offset, &*last.data), (LENGTH - 5, &b"\0\0end"[..]));
    }

    #[tokio::test]
    async fn a_missing_log_is_an_error_unless_nothing_was_written() {
        let sample = SampleLog::new([(Stdout, bytes(100))]);
        let read = |path, log_bytes| {
            let reader = sample::reader(path, StreamSelection::Only(Stdout));
            read_all(Excerpt::new(
                reader,
                log_bytes,
                Some(200),
                rules(10, 4, Truncate),
            ))
        };
        let error = read("/none".into(), 1).await.unwrap_err();
        assert_eq!(error.code, ErrorCode::OUTPUT_UNAVAILABLE);
        assert_eq!(
            read("/none".into(), 0).await.unwrap(),
            (vec![], None, vec![])
        );
        // A log that was cut from outside: the result has what is left of it.
        let (first, omitted, last) = read(sample.log(), 150).await.unwrap();
        assert_eq!(
            (&first[..], omitted.unwrap().0, &last[..]),
            (&bytes(100)[..6], 190, &bytes(100)[96..])
        );
    }

    #[tokio::test]
    async fn a_changed_index_never_leads_to_invented_output() {
        let sample = interleaved("aé€😀".repeat(2).as_bytes(), b"ABCDEFGHIJKLMNOPQRST", 3);
        let (log, index) = (
            std::fs::read(sample.log()).unwrap(),
            std::fs::read(sample.index()).unwrap(),
        );
        for bit in 0..index.len() * 8 {
            let mut changed = index.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            std::fs::write(sample.index(), &changed).unwrap();
            for stream_bytes in [None, Some(20)] {
                let mut excerpt = excerpt(&sample, Stdout, stream_bytes, rules(12, 6, Truncate));
                while let Ok(Some(part)) = excerpt.next().await {
                    if let ExcerptPart::Output(chunk) = part {
                        let begin = usize::try_from(chunk.offset).unwrap();
                        assert!(log[begin..].starts_with(&chunk.data), "bit {bit} changed");
                    }
                }
            }
        }
    }

    #[tokio::test]
    async fn a_cancelled_read_loses_nothing() {
        let sample = interleaved(&bytes(1000), &bytes(1000), 10);
        let excerpt = || excerpt(&sample, Stdout, Some(1000), rules(500, 200, Truncate));
        let (mut uncancelled, mut cancelled) = (excerpt(), excerpt());
        while let Some(expected) = uncancelled.next().await.unwrap() {
            let part = tokio::select! {
                biased;
                part = cancelled.next() => part,
                () = std::future::ready(()) => cancelled.next().await,
            };
            assert_eq!(part.unwrap(), Some(expected));
        }
        assert_eq!(cancelled.next().await.unwrap(), None);
    }

    fn block_on<T>(task: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        runtime.unwrap().block_on(task)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn a_truncated_text_is_valid_text(
            text in "[aé€😀]{0,30}", max_bytes in 0u64..60, tail in 0u64..60, length in 1usize..5
        ) {
            let sample = interleaved(text.as_bytes(), &bytes(40), length);
            let rules = rules(max_bytes, tail, Truncate);
            let total = Some(text.len() as u64);
            let (first, omitted, last) = block_on(read_all(excerpt(&sample, Stdout, total, rules))).unwrap();
            let first = String::from_utf8(first).unwrap();
            let last = String::from_utf8(last).unwrap();
            prop_assert!(text.starts_with(&first) && text.ends_with(&last));
            let omitted_bytes = omitted.map_or(0, |(bytes, _)| bytes);
            prop_assert_eq!((first.len() + last.len()) as u64 + omitted_bytes, text.len() as u64);
            prop_assert_eq!(omitted_bytes > 0, text.len() as u64 > max_bytes);
        }

        #[test]
        fn carried_and_omitted_bytes_add_up(
            output: Vec<u8>, max_bytes in 0u64..150, tail in 0u64..150, length in 1usize..20
        ) {
            let sample = interleaved(&output, &bytes(40), length);
            let rules = rules(max_bytes, tail, ToFile);
            let total = output.len() as u64;
            let (first, omitted, last) = block_on(read_all(excerpt(&sample, Stdout, Some(total), rules))).unwrap();
            prop_assert!(output.starts_with(&first) && output.ends_with(&last));
            let omitted_bytes = omitted.map_or(0, |(bytes, _)| bytes);
            let carried = (first.len() + last.len()) as u64;
            prop_assert_eq!(carried + omitted_bytes, total);
            prop_assert!(carried <= max_bytes && (omitted_bytes == 0 || carried + 6 >= max_bytes));
        }
    }
}
