//! What a result carries of a command's output.

/// How much of its output a command's result carries, and what becomes of one that writes more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutputRules {
    /// Whether followers get output as it comes; else once the command has ended.
    pub stream: bool,
    /// Most bytes per stream.
    pub max_bytes: u64,
    /// Of these, so many from the end where the output is cut; 0: none.
    pub keep_tail_bytes: u64,
    /// What becomes of more.
    pub oversized: OversizedOutput,
}

/// What becomes of output over the limit of a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OversizedOutput {
    /// The result's text is cut, and says so.
    Truncate,
    /// The command is ended, and has failed.
    Fail,
    /// The result has the first part and the path of the file with everything.
    ToFile,
}
