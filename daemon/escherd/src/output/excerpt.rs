//! What a result carries of one stream: all of it, or its beginning and perhaps its end.

use std::collections::VecDeque;
use std::io;

use escher_protocol::{ApiError, OutputChunk, StreamSelection};

use super::OutputReader;
use super::cut::{MAX_SPLIT_BYTES, mark, split_character};
use super::log::LogFiles;
use super::rules::OutputRules;

/// A piece of an [`Excerpt`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// Output.
    Output(OutputChunk),
    /// Here, output is left out.
    Omitted {
        /// So many bytes of the stream.
        bytes: u64,
        /// What is to stand here in a text; may be empty.
        mark: String,
    },
}

/// Reads of one stream of a finished execution what its result carries, piece by piece: however long the log
/// is, it has no more than one [`Batch`](super::Batch) in memory.
///
/// A cut never splits a character of UTF-8: the first part ends before it, and the last begins after it, so
/// that each may be up to three bytes shorter. Bytes that are no such character are cut exactly.
#[derive(Debug)]
pub struct Excerpt {
    reader: OutputReader,
    log_bytes: u64,
    total: Option<u64>,
    rules: OutputRules,
    progress: Progress,
    /// Chunks that were read and not handed out.
    chunks: VecDeque<OutputChunk>,
}

#[derive(Debug)]
enum Progress {
    /// Nobody has looked whether there is too much.
    New,
    /// There is, and this is the first part.
    First(Cut),
    /// To the end of the log without a cut.
    Last,
}

/// What is left out, as places in the log.
#[derive(Debug)]
struct Cut {
    begin: u64,
    end: u64,
    /// Bytes of the stream that are left out.
    bytes: u64,
}

impl Excerpt {
    /// An excerpt of what `reader`, which is at the beginning of the log and reads one stream, finds in the
    /// first `log_bytes` bytes of it. `total` is how many bytes the stream has had, be they in the log or
    /// not; `None` if nobody has counted: then what the log has is what there was.
    #[must_use]
    pub fn new(
        reader: OutputReader,
        log_bytes: u64,
        total: Option<u64>,
        rules: OutputRules,
    ) -> Self {
        Excerpt {
            reader,
            log_bytes,
            total,
            rules,
            progress: Progress::New,
            chunks: VecDeque::new(),
        }
    }

    /// The next piece, `None` after the last. Cancel-safe.
    ///
    /// # Errors
    /// `output-unavailable` when the log is gone, shorter than it should be, or damaged.
    pub async fn next(&mut self) -> Result<Option<Piece>, ApiError> {
        loop {
            if let Some(chunk) = self.chunks.pop_front() {
                return Ok(Some(Piece::Output(chunk)));
            }
            let end = match &self.progress {
                Progress::New => {
                    self.progress = match self.find_cut().await? {
                        Some(cut) => Progress::First(cut),
                        None => Progress::Last,
                    };
                    continue;
                }
                Progress::First(cut) => cut.begin,
                Progress::Last => self.log_bytes,
            };
            if self.reader.offset < end {
                self.chunks = self.reader.read(end).await?.chunks.into();
                continue;
            }
            let Progress::First(cut) = std::mem::replace(&mut self.progress, Progress::Last) else {
                return Ok(None);
            };
            self.reader.offset = cut.end;
            return Ok(Some(Piece::Omitted {
                bytes: cut.bytes,
                mark: mark(self.rules, cut.bytes),
            }));
        }
    }

    async fn find_cut(&mut self) -> Result<Option<Cut>, ApiError> {
        let (log_bytes, total, rules) = (self.log_bytes, self.total, self.rules);
        let log_has_at_most = total.map_or(log_bytes, |total| total.min(log_bytes));
        if log_has_at_most <= rules.max_bytes {
            return Ok(None);
        }
        let stream = self.reader.streams;
        let found = self
            .reader
            .blocking(move |files| find_cut(files, stream, log_bytes, total, rules))
            .await?;
        found.ok_or_else(|| self.reader.unavailable(&io::ErrorKind::NotFound.into()))
    }
}

/// Where the first `log_bytes` bytes of a log are to be cut, if `stream` has more of them than a result carries.
fn find_cut(
    files: &mut LogFiles,
    stream: StreamSelection,
    log_bytes: u64,
    total: Option<u64>,
    rules: OutputRules,
) -> io::Result<Option<Cut>> {
    let tail = rules.keep_tail_bytes.min(rules.max_bytes);
    let head = rules.max_bytes - tail;
    let first = files.forward(stream, 0, head, log_bytes)?;
    let last = files.backward(stream, log_bytes, tail)?;
    let between = files.forward(stream, first.end, 1, last)?;
    if first.bytes < head || between.bytes == 0 {
        return Ok(None);
    }
    let (shorter, _) = split_at(files, stream, first.end, log_bytes)?;
    let (_, later) = split_at(files, stream, last, log_bytes)?;
    let begin = files.backward(stream, first.end, shorter)?;
    let end = files.forward(stream, last, later, log_bytes)?.end;
    // A damaged index may contradict itself.
    let carried = head.saturating_sub(shorter) + tail.saturating_sub(later);
    let bytes = match total {
        Some(total) => total.saturating_sub(carried),
        None => files.forward(stream, begin, u64::MAX, end)?.bytes,
    };
    Ok(Some(Cut { begin, end, bytes }))
}

/// How many bytes before and after a cut at `offset` of the log belong to a character of `stream` that it would
/// split.
fn split_at(
    files: &mut LogFiles,
    stream: StreamSelection,
    offset: u64,
    log_bytes: u64,
) -> io::Result<(u64, u64)> {
    let begin = files.backward(stream, offset, MAX_SPLIT_BYTES)?;
    let end = files
        .forward(stream, offset, MAX_SPLIT_BYTES, log_bytes)?
        .end;
    let mut bytes = |from, end| -> io::Result<Vec<u8>> {
        let chunks = files.read(stream, from, end)?.chunks;
        Ok(chunks
            .into_iter()
            .flat_map(|chunk| chunk.data.into_vec())
            .collect())
    };
    Ok(split_character(
        &bytes(begin, offset)?,
        &bytes(offset, end)?,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::OversizedOutput::{self, Fail, ToFile, Truncate};
    use crate::output::sample::Sample;
    use OutputStream::{Stderr, Stdout};
    use escher_protocol::output::MAX_CHUNK_BYTES;
    use escher_protocol::{ErrorCode, OutputStream};
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
        sample: &Sample,
        stream: OutputStream,
        total: Option<u64>,
        rules: OutputRules,
    ) -> Excerpt {
        let reader = OutputReader::new(sample.log(), StreamSelection::Only(stream));
        let log_bytes = std::fs::metadata(sample.log()).unwrap().len();
        Excerpt::new(reader, log_bytes, total, rules)
    }

    /// A whole excerpt: what comes before the cut, what stands there, what comes after.
    type Whole = (Vec<u8>, Option<(u64, String)>, Vec<u8>);

    async fn all(mut excerpt: Excerpt) -> Result<Whole, ApiError> {
        let (mut first, mut omitted, mut last) = (Vec::new(), None, Vec::new());
        while let Some(piece) = excerpt.next().await? {
            match (piece, &omitted) {
                (Piece::Output(chunk), None) => first.extend_from_slice(&chunk.data),
                (Piece::Output(chunk), Some(_)) => last.extend_from_slice(&chunk.data),
                (Piece::Omitted { bytes, mark }, None) => omitted = Some((bytes, mark)),
                (Piece::Omitted { .. }, Some(_)) => panic!("cut twice"),
            }
        }
        Ok((first, omitted, last))
    }

    /// Bytes that all differ from their neighbours, none of them part of a longer character.
    fn bytes(count: u64) -> Vec<u8> {
        (0..count).map(|index| b'!' + (index % 89) as u8).collect()
    }

    /// Both streams in turn, in pieces of `length`.
    fn interleaved(stdout: &[u8], stderr: &[u8], length: usize) -> Sample {
        let (mut out, mut err) = (stdout.chunks(length), stderr.chunks(length));
        let mut next = |turn| match turn {
            Stdout => out.next(),
            Stderr => err.next(),
        };
        let turns = [Stdout, Stderr].into_iter().cycle();
        let count = 2 * stdout.len().max(stderr.len()).div_ceil(length);
        Sample::new(
            turns
                .take(count)
                .filter_map(|turn| Some((turn, next(turn)?))),
        )
    }

    #[tokio::test]
    async fn output_up_to_the_limit_is_whole_and_more_is_cut() {
        const LIMIT: u64 = 1000;
        for size in [0, 1, LIMIT - 1, LIMIT, LIMIT + 1, 100 * LIMIT] {
            for (length, tail) in [(7, 0), (7, 1), (4096, 0), (4096, 400), (1, LIMIT - 1)] {
                // The other stream is counted apart.
                let other = bytes(LIMIT);
                let whole = bytes(size);
                let sample = interleaved(&whole, &other, length);
                for oversized in [Truncate, Fail, ToFile] {
                    let rules = rules(LIMIT, tail, oversized);
                    let of = |stream, total| all(excerpt(&sample, stream, Some(total), rules));
                    assert_eq!(
                        of(Stderr, LIMIT).await.unwrap(),
                        (other.clone(), None, vec![])
                    );
                    let expected = match size.checked_sub(LIMIT) {
                        None | Some(0) => (whole.clone(), None, vec![]),
                        Some(more) => {
                            let head = usize::try_from(LIMIT - tail).unwrap();
                            let end = usize::try_from(size - tail).unwrap();
                            (
                                whole[..head].to_vec(),
                                Some((more, mark(rules, more))),
                                whole[end..].to_vec(),
                            )
                        }
                    };
                    assert_eq!(
                        of(Stdout, size).await.unwrap(),
                        expected,
                        "{size} {rules:?}"
                    );
                    let uncounted = all(excerpt(&sample, Stdout, None, rules)).await;
                    assert_eq!(uncounted.unwrap(), expected, "nobody has counted");
                }
            }
        }
    }

    #[tokio::test]
    async fn a_cut_through_a_character_moves_out_of_it() {
        // Two bytes each; every byte in a piece of its own, with the other stream between.
        let sample = interleaved("ééééé".as_bytes(), b"..........", 1);
        for (max_bytes, tail, head, left_out, end) in [
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
            let whole = all(excerpt(&sample, Stdout, Some(10), rules))
                .await
                .unwrap();
            let omitted = Some((left_out, mark(rules, left_out)));
            assert_eq!(
                whole,
                (head.into(), omitted, end.into()),
                "{max_bytes} {tail}"
            );
        }
    }

    #[tokio::test]
    async fn bytes_that_the_log_has_dropped_are_left_out_too() {
        let sample = Sample::new([(Stdout, bytes(100))]);
        for (max_bytes, tail, left_out) in [(10, 0, 1990), (10, 4, 1990), (99, 4, 1901)] {
            let rules = rules(max_bytes, tail, Truncate);
            let (first, omitted, last) = all(excerpt(&sample, Stdout, Some(2000), rules))
                .await
                .unwrap();
            assert_eq!((first.len() + last.len()) as u64, max_bytes);
            assert_eq!(omitted, Some((left_out, mark(rules, left_out))));
        }
        // What counts is what the log has.
        let whole = excerpt(&sample, Stdout, Some(2000), rules(100, 4, Truncate));
        assert_eq!(all(whole).await.unwrap(), (bytes(100), None, vec![]));
    }

    #[tokio::test]
    async fn what_comes_after_the_bytes_that_count_is_not_seen() {
        let sample = Sample::new([(Stdout, b"abcdef"), (Stderr, b"ABCDEF")]);
        let reader = OutputReader::new(sample.log(), StreamSelection::Only(Stdout));
        let whole = Excerpt::new(reader, 4, None, rules(3, 1, Truncate));
        let (first, omitted, last) = all(whole).await.unwrap();
        assert_eq!(
            (&*first, omitted.unwrap().0, &*last),
            (&b"ab"[..], 1, &b"d"[..])
        );
    }

    #[tokio::test]
    async fn a_log_of_gigabytes_is_not_read_but_for_what_is_carried() {
        const LENGTH: u64 = 10 << 30;
        let sample = Sample::new([(Stdout, b"begin")]);
        // All the rest of it are holes in the file.
        let mut log = File::options().write(true).open(sample.log()).unwrap();
        log.seek(SeekFrom::Start(LENGTH - 3)).unwrap();
        log.write_all(b"end").unwrap();
        let rules = rules(1 << 20, 5, ToFile);
        let mut excerpt = excerpt(&sample, Stdout, Some(LENGTH), rules);
        let (mut carried, mut chunks) = (0, Vec::new());
        while let Some(piece) = excerpt.next().await.unwrap() {
            assert!(
                excerpt
                    .chunks
                    .iter()
                    .map(|chunk| chunk.data.len())
                    .sum::<usize>()
                    <= MAX_CHUNK_BYTES
            );
            match piece {
                Piece::Output(chunk) => {
                    carried += chunk.data.len() as u64;
                    chunks.push(chunk);
                }
                Piece::Omitted { bytes, .. } => assert_eq!(bytes, LENGTH - rules.max_bytes),
            }
        }
        assert_eq!(carried, rules.max_bytes);
        assert!(chunks[0].data.starts_with(b"begin\0"));
        let last = chunks.last().unwrap();
        assert_eq!((last.offset, &*last.data), (LENGTH - 5, &b"\0\0end"[..]));
    }

    #[tokio::test]
    async fn a_log_that_is_gone_or_too_short_is_an_error_and_one_that_never_was_is_empty() {
        let sample = Sample::new([(Stdout, bytes(100))]);
        let of = |path, log_bytes| {
            let reader = OutputReader::new(path, StreamSelection::Only(Stdout));
            all(Excerpt::new(
                reader,
                log_bytes,
                Some(200),
                rules(10, 4, Truncate),
            ))
        };
        for (path, log_bytes) in [
            (sample.log(), 101),
            (sample.index(), 100),
            ("/none".into(), 1),
        ] {
            let error = of(path, log_bytes).await.unwrap_err();
            assert_eq!(error.code, ErrorCode::OUTPUT_UNAVAILABLE);
        }
        assert_eq!(of("/none".into(), 0).await.unwrap(), (vec![], None, vec![]));
    }

    #[tokio::test]
    async fn an_index_that_is_changed_anywhere_never_makes_up_output() {
        let sample = interleaved("aé€😀".repeat(2).as_bytes(), b"ABCDEFGHIJKLMNOPQRST", 3);
        let (log, index) = (
            std::fs::read(sample.log()).unwrap(),
            std::fs::read(sample.index()).unwrap(),
        );
        for bit in 0..index.len() * 8 {
            let mut changed = index.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            std::fs::write(sample.index(), &changed).unwrap();
            for total in [None, Some(20)] {
                let mut excerpt = excerpt(&sample, Stdout, total, rules(12, 6, Truncate));
                while let Ok(Some(piece)) = excerpt.next().await {
                    if let Piece::Output(chunk) = piece {
                        let begin = usize::try_from(chunk.offset).unwrap();
                        assert!(log[begin..].starts_with(&chunk.data), "bit {bit} changed");
                    }
                }
            }
        }
    }

    #[tokio::test]
    async fn one_who_gives_up_waiting_for_a_piece_misses_none() {
        let sample = interleaved(&bytes(1000), &bytes(1000), 10);
        let excerpt = || excerpt(&sample, Stdout, Some(1000), rules(500, 200, Truncate));
        let (mut patient, mut impatient) = (excerpt(), excerpt());
        while let Some(expected) = patient.next().await.unwrap() {
            let piece = tokio::select! {
                biased;
                piece = impatient.next() => piece,
                () = std::future::ready(()) => impatient.next().await,
            };
            assert_eq!(piece.unwrap(), Some(expected));
        }
        assert_eq!(impatient.next().await.unwrap(), None);
    }

    fn block_on<T>(task: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        runtime.unwrap().block_on(task)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn text_stays_text_wherever_it_is_cut(
            text in "[aé€😀]{0,30}", max_bytes in 0u64..60, tail in 0u64..60, length in 1usize..5
        ) {
            let sample = interleaved(text.as_bytes(), &bytes(40), length);
            let rules = rules(max_bytes, tail, Truncate);
            let total = Some(text.len() as u64);
            let (first, omitted, last) = block_on(all(excerpt(&sample, Stdout, total, rules))).unwrap();
            let first = String::from_utf8(first).unwrap();
            let last = String::from_utf8(last).unwrap();
            prop_assert!(text.starts_with(&first) && text.ends_with(&last));
            let left_out = omitted.map_or(0, |(bytes, _)| bytes);
            prop_assert_eq!((first.len() + last.len()) as u64 + left_out, text.len() as u64);
            prop_assert_eq!(left_out > 0, text.len() as u64 > max_bytes);
        }

        #[test]
        fn what_is_carried_and_what_is_left_out_add_up(
            output: Vec<u8>, max_bytes in 0u64..150, tail in 0u64..150, length in 1usize..20
        ) {
            let sample = interleaved(&output, &bytes(40), length);
            let rules = rules(max_bytes, tail, ToFile);
            let total = output.len() as u64;
            let (first, omitted, last) = block_on(all(excerpt(&sample, Stdout, Some(total), rules))).unwrap();
            prop_assert!(output.starts_with(&first) && output.ends_with(&last));
            let left_out = omitted.map_or(0, |(bytes, _)| bytes);
            let carried = (first.len() + last.len()) as u64;
            prop_assert_eq!(carried + left_out, total);
            prop_assert!(carried <= max_bytes && (left_out == 0 || carried + 6 >= max_bytes));
        }
    }
}
