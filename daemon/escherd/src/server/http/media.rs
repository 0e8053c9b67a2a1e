//! Media types: which of those that a resource has a client accepts, and ranges of bytes.

use hyper::HeaderMap;
use hyper::StatusCode;
use hyper::header::{ACCEPT, RANGE};

use super::problem::Problem;

pub(super) const JSON: &str = "application/json";
pub(super) const OCTETS: &str = "application/octet-stream";
pub(super) const LINES: &str = "application/x-ndjson";
pub(super) const EVENTS: &str = "text/event-stream";

/// Returns the best of the `offered` media types for `Accept`; without that header the first.
pub(super) fn negotiate(
    headers: &HeaderMap,
    offered: &[&'static str],
) -> Result<&'static str, Box<Problem>> {
    let accepted: Vec<&str> = headers
        .get_all(ACCEPT)
        .iter()
        .flat_map(|value| value.to_str().unwrap_or("").split(','))
        .map(str::trim)
        .filter(|range| !range.is_empty())
        .collect();
    let quality = |offer: &str| {
        let of_range = |range: &&str| quality(range, offer);
        // The most specific range counts.
        let best = accepted.iter().filter_map(of_range).max();
        best.map_or(0, |(_, quality)| quality)
    };
    let best = match &accepted[..] {
        [] => offered.first(),
        // The first of several equals.
        _ => offered.iter().rev().max_by_key(|offer| quality(offer)),
    };
    best.filter(|offer| accepted.is_empty() || quality(offer) > 0)
        .copied()
        .ok_or_else(|| {
            let message = format!("the media types here are {}", offered.join(", "));
            Problem::refused(StatusCode::NOT_ACCEPTABLE, message).with_field("Accept")
        })
}

/// Returns how specific a range of media types is that includes `offer`, and its quality in
/// thousandths.
fn quality(range: &str, offer: &str) -> Option<(u8, u32)> {
    let mut parameters = range.split(';').map(str::trim);
    let name = parameters.next()?.to_ascii_lowercase();
    let specificity = match name.split_once('/')? {
        ("*", "*") => 0,
        (kind, "*") if offer.split_once('/')?.0 == kind => 1,
        _ if name == offer => 2,
        _ => return None,
    };
    let weight = parameters.find_map(|parameter| parameter.strip_prefix("q="));
    let weight = match weight {
        None => 1000,
        Some(text) => thousandths(text)?,
    };
    Some((specificity, weight))
}

/// Parses a weight such as `0.25`.
fn thousandths(text: &str) -> Option<u32> {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let is_valid = matches!(whole, "0" | "1")
        && part.len() <= 3
        && part.bytes().all(|byte| byte.is_ascii_digit());
    let part: u32 = format!("{part:0<3}").parse().ok().filter(|_| is_valid)?;
    Some((whole.parse::<u32>().ok()? * 1000 + part).min(1000))
}

/// The range of bytes that a client asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ByteRange {
    pub(super) first: u64,
    /// `None`: to the end.
    pub(super) last: Option<u64>,
}

/// Returns the range of the header `Range`. One that this cannot serve, such as several ranges, is
/// ignored, as HTTP allows.
pub(super) fn byte_range(headers: &HeaderMap) -> Option<ByteRange> {
    let text = headers.get(RANGE)?.to_str().ok()?;
    let (first, last) = text.strip_prefix("bytes=")?.split_once('-')?;
    let number = |text: &str| {
        let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse::<u64>().ok().filter(|_| is_number)
    };
    let first = number(first)?;
    let last = match last {
        "" => None,
        last => Some(number(last).filter(|last| *last >= first)?),
    };
    Some(ByteRange { first, last })
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::header::HeaderValue;

    fn headers(name: hyper::header::HeaderName, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name, HeaderValue::from_str(value).unwrap())])
    }

    #[test]
    fn the_best_media_type_is_chosen() {
        let offered = [OCTETS, EVENTS, LINES];
        for (accept, expected) in [
            ("*/*", Some(OCTETS)),
            ("text/*", Some(EVENTS)),
            ("TEXT/EVENT-STREAM", Some(EVENTS)),
            ("application/*", Some(OCTETS)),
            (
                "application/x-ndjson;q=0.5, text/event-stream;q=0.4",
                Some(LINES),
            ),
            ("*/*;q=0.1, application/x-ndjson", Some(LINES)),
            ("application/octet-stream;q=0, */*", Some(EVENTS)),
            ("text/html", None),
            ("*/*;q=0", None),
            ("nonsense", None),
        ] {
            let chosen = negotiate(&headers(ACCEPT, accept), &offered).ok();
            assert_eq!(chosen, expected, "{accept}");
        }
        assert_eq!(negotiate(&HeaderMap::new(), &offered).ok(), Some(OCTETS));
    }

    #[test]
    fn a_single_range_of_bytes_is_taken() {
        for (text, expected) in [
            ("bytes=0-", Some((0, None))),
            ("bytes=5-9", Some((5, Some(9)))),
            ("bytes=5-5", Some((5, Some(5)))),
            ("bytes=9-5", None),
            ("bytes=-5", None),
            ("bytes=0-1,3-4", None),
            ("bytes=+1-", None),
            ("bytes=18446744073709551616-", None),
            ("lines=0-", None),
        ] {
            let range = byte_range(&headers(RANGE, text));
            let range = range.map(|range| (range.first, range.last));
            assert_eq!(range, expected, "{text}");
        }
    }
}
