//! One fixed message for every variant of the protocol.
//!
//! The values show how each kind of field is encoded: integers of every width, options in both
//! states, bytes that are not UTF-8.

mod client;
pub(crate) mod daemon;
mod values;

use crate::message::Message;

/// A message and the name of its golden file: `Enum.Variant` or `Struct`, perhaps with `.remark`.
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

/// Makes samples of all variants of one enum. The match has no wildcard, so a variant without a
/// sample does not compile.
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

/// Returns all samples.
pub(crate) fn all() -> Vec<Sample> {
    [values::all(), client::all(), daemon::all()]
        .into_iter()
        .flatten()
        .collect()
}
