//! What stands in a result where output was left out.

/// The mark at the end of output that was cut at `limit` bytes: `\n[... output truncated at 10MB ...]`.
/// Whole mebibytes and kibibytes are said as such.
#[must_use]
pub fn truncation_marker(limit: u64) -> String {
    const KIB: u64 = 1024;
    const MIB: u64 = 1024 * KIB;
    let figure = match limit {
        limit if limit >= MIB && limit.is_multiple_of(MIB) => format!("{}MB", limit / MIB),
        limit if limit >= KIB && limit.is_multiple_of(KIB) => format!("{}KB", limit / KIB),
        limit => format!("{limit}B"),
    };
    format!("\n[... output truncated at {figure} ...]")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_marker_names_the_limit() {
        assert_eq!(
            truncation_marker(10 << 20),
            "\n[... output truncated at 10MB ...]"
        );
        assert_eq!(
            truncation_marker(2048),
            "\n[... output truncated at 2KB ...]"
        );
        assert_eq!(
            truncation_marker(1025),
            "\n[... output truncated at 1025B ...]"
        );
    }
}
