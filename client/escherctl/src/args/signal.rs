//! Signals by name or number.

use std::str::FromStr;

use nix::sys::signal::Signal;

use super::invalid_value::{InvalidValue, invalid};

/// The number of a signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SignalNumber(pub(crate) i32);

impl FromStr for SignalNumber {
    type Err = InvalidValue;
    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let upper = text.to_ascii_uppercase();
        let short = upper.strip_prefix("SIG").unwrap_or(&upper);
        let (lowest, highest) = (nix::libc::SIGRTMIN(), nix::libc::SIGRTMAX());
        // RTMIN, RTMIN+1, RTMAX-1
        let real_time = |offset: &str, base: i32| match offset {
            "" => Some(base),
            offset => offset
                .parse::<i32>()
                .ok()
                .and_then(|offset| base.checked_add(offset)),
        };
        let number = if let Ok(number) = short.parse::<i32>() {
            Some(number).filter(|number| (1..=highest).contains(number))
        } else if let Some(offset) = short.strip_prefix("RTMIN") {
            real_time(offset, lowest).filter(|number| (lowest..=highest).contains(number))
        } else if let Some(offset) = short.strip_prefix("RTMAX") {
            real_time(offset, highest).filter(|number| (lowest..=highest).contains(number))
        } else {
            Signal::from_str(&format!("SIG{short}"))
                .ok()
                .map(|signal| signal as i32)
        };
        number.map_or_else(
            || invalid("expected the name or number of a signal, such as TERM, SIGTERM or 15"),
            |number| Ok(SignalNumber(number)),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_names_and_numbers() {
        for (text, number) in [
            ("TERM", 15),
            ("sigterm", 15),
            ("9", 9),
            ("RTMIN+1", 35),
            ("64", 64),
        ] {
            assert_eq!(text.parse(), Ok(SignalNumber(number)), "{text}");
        }
        for text in ["", "0", "65", "-1", "SIGNAL", "RTMIN+99", "RTMAX+1"] {
            assert!(text.parse::<SignalNumber>().is_err(), "{text}");
        }
    }
}
