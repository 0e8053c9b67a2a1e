//! One fixed message for every variant that travels.
//!
//! The values are chosen to show how each kind of field is written: integers of every width, options in
//! both states, bytes that are not UTF-8.

mod client;
pub(crate) mod daemon;
mod values;

use crate::message::Message;

/// A message and what its golden file is called: `Enum.Variant`, `Struct`, or either and a remark.
pub(crate) struct Sample {
    pub(crate) name: &'static str,
    pub(crate) message: Box<dyn Message>,
}

impl Sample {
    fn new(name: &'static str, message: impl Message + 'static) -> Self {
        let message = Box::new(message);
        Sample { name, message }
    }
}

/// Samples of all variants of one enum. The match has no wildcard: a variant without a sample does not
/// compile.
macro_rules! variants {
    ($enum:ident { $($variant:ident => $sample:expr),+ $(,)? }) => {{
        fn variant(value: &$enum) -> &'static str {
            match value {
                $($enum::$variant { .. } => stringify!($variant)),+
            }
        }
        vec![$({
            let sample: $enum = $sample;
            assert_eq!(variant(&sample), stringify!($variant));
            Sample::new(concat!(stringify!($enum), ".", stringify!($variant)), sample)
        }),+]
    }};
}
use variants;

/// All of them.
pub(crate) fn all() -> Vec<Sample> {
    [values::all(), client::all(), daemon::all()]
        .into_iter()
        .flatten()
        .collect()
}
