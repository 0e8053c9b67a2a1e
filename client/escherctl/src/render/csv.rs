//! Comma-separated values (RFC 4180).

/// Returns a row.
pub(crate) fn row<T: AsRef<str>>(cells: impl IntoIterator<Item = T>) -> String {
    let cells = cells.into_iter().map(|cell| quoted(cell.as_ref()));
    cells.collect::<Vec<_>>().join(",") + "\n"
}

fn quoted(cell: &str) -> String {
    if cell.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", cell.replace('"', "\"\""))
    } else {
        cell.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_reader_would_take_for_a_separator_is_quoted() {
        assert_eq!(
            row(["a", "", "b c", "d,e", "f\"g"]),
            "a,,b c,\"d,e\",\"f\"\"g\"\n"
        );
    }
}
