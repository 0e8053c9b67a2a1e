//! What is done with output that is too much for a result.

/// How output is served, and how much of it a result carries. The log on disk always has all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutputRules {
    /// Whether output is served while the command runs; else once it has ended.
    pub stream: bool,
    /// Most bytes of each stream that a result carries.
    pub max_bytes: u64,
    /// How many of them are the end of the output where it is cut; 0: none, all are its beginning.
    pub keep_tail_bytes: u64,
    /// What becomes of a command that writes more.
    pub oversized: OversizedOutput,
}

/// What becomes of a command that writes more to a stream than a result carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OversizedOutput {
    /// The result is cut, and a mark stands where something was left out.
    Truncate,
    /// The command is ended and counts as failed, and its result has no output.
    Fail,
    /// The result is cut and names the file with everything.
    ToFile,
}
