//! The parameters of a request, and percent-encoding.

use std::str::FromStr;

use escher_protocol::Timestamp;

use super::problem::Problem;

/// The decoded parameters of a request, in their order.
#[derive(Debug, Default)]
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    /// Parses a query, of which `known` are the parameters.
    pub(super) fn parse(query: Option<&str>, known: &[&str]) -> Result<Self, Box<Problem>> {
        let pairs = query
            .unwrap_or("")
            .split('&')
            .filter(|pair| !pair.is_empty());
        let pairs = pairs.map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let name = decode_parameter(name, name)?;
            if !known.contains(&&*name) {
                let message = format!("there is no parameter {name:?}");
                return Err(unknown_name(&name, known.iter().copied(), message));
            }
            let value = decode_parameter(value, &name)?;
            Ok((name, value))
        });
        pairs.collect::<Result<_, _>>().map(Query)
    }

    /// Returns the values of a parameter that may be repeated.
    pub(super) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        let pairs = self.0.iter().filter(move |pair| pair.0 == name);
        pairs.map(|pair| pair.1.as_str())
    }

    /// Returns the value of a parameter.
    pub(super) fn get(&self, name: &str) -> Result<Option<&str>, Box<Problem>> {
        let mut values = self.0.iter().filter(|pair| pair.0 == name);
        let value = values.next();
        match values.next() {
            None => Ok(value.map(|pair| pair.1.as_str())),
            Some(_) => Err(Problem::invalid(name, format!("{name} is given twice"))),
        }
    }

    /// Returns a number.
    pub(super) fn number<N: FromStr>(&self, name: &str) -> Result<Option<N>, Box<Problem>> {
        let is_number = |text: &&str| text.bytes().all(|byte| byte.is_ascii_digit());
        let parse = |text: &str| Some(text).filter(is_number)?.parse().ok();
        let invalid =
            |text| Problem::invalid(name, format!("{name}={text} is no number, or too large"));
        self.get(name)?
            .map(|text| parse(text).ok_or_else(|| invalid(text)))
            .transpose()
    }

    /// Returns whether a flag is set: `follow`, `follow=true` or `follow=1`.
    pub(super) fn flag(&self, name: &str) -> Result<bool, Box<Problem>> {
        match self.get(name)? {
            None | Some("false" | "0") => Ok(false),
            Some("" | "true" | "1") => Ok(true),
            Some(_) => Err(Problem::invalid(name, format!("{name} is true or false"))),
        }
    }

    /// Returns a time in RFC 3339.
    pub(super) fn time(&self, name: &str) -> Result<Option<Timestamp>, Box<Problem>> {
        let invalid = |_| Problem::invalid(name, format!("{name} is a time in RFC 3339"));
        let parse = |text: &str| text.parse::<jiff::Timestamp>().map_err(invalid);
        let time = self.get(name)?.map(parse).transpose()?;
        Ok(time.map(|time| Timestamp::from_micros(time.as_microsecond())))
    }
}

/// Returns the problem of an unknown name, with the nearest one as a hint.
pub(super) fn unknown_name<'a>(
    name: &str,
    known: impl Iterator<Item = &'a str>,
    message: String,
) -> Box<Problem> {
    let likeness = |known: &&str| strsim::jaro_winkler(known, name);
    let nearest = known.max_by(|a, b| likeness(a).total_cmp(&likeness(b)));
    let problem = Problem::invalid(name, message);
    match nearest {
        Some(nearest) => problem.with_hint(format!("did you mean {nearest}?")),
        None => problem.with_hint("there are none here"),
    }
}

fn decode_parameter(text: &str, name: &str) -> Result<String, Box<Problem>> {
    percent_decode(&text.replace('+', " "))
        .ok_or_else(|| Problem::invalid(name, format!("{name} is not percent-encoded UTF-8")))
}

/// Decodes percent-encoded UTF-8; `None` if it is not that.
pub(super) fn percent_decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, others)) = rest.split_first() {
        rest = others;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let digit = |byte: u8| char::from(byte).to_digit(16);
        let &[high, low, ..] = others else {
            return None;
        };
        bytes.push(u8::try_from(digit(high)? * 16 + digit(low)?).ok()?);
        rest = &others[2..];
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_decoded_and_unknown_ones_are_refused() {
        let known = ["label", "limit", "follow", "since"];
        let parse = |text| Query::parse(Some(text), &known);
        let query = parse("label=a%3Db+c&&label=%C3%A9&limit=7&follow").unwrap();
        assert_eq!(query.all("label").collect::<Vec<_>>(), ["a=b c", "é"]);
        assert_eq!(query.number::<u32>("limit").unwrap(), Some(7));
        assert!(query.flag("follow").unwrap());
        assert!(query.get("label").is_err(), "twice");
        for text in ["lable=1", "%", "label=%f", "label=%ff", "label=%zz"] {
            assert!(parse(text).is_err(), "{text}");
        }
        for text in ["limit=-1", "limit=+1", "limit=1e3", "limit=4294967296"] {
            let query = parse(text).unwrap();
            let number = query.number::<u32>("limit");
            assert!(number.is_err(), "{text}");
        }
        let time = |text| {
            parse(text)
                .unwrap()
                .time("since")
                .map(|time| time.is_some())
        };
        assert!(time("since=2026-03-01T12:30:00Z").unwrap());
        assert!(time("since=2026-03-01T12:30:00%2B01:00").unwrap());
        assert!(time("since=yesterday").is_err());
    }
}
