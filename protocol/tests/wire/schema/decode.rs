//! A decoder made from the page alone; it shares no code with the crate's own.

use std::fmt::Debug;

use super::{Definition, Field, Schema, Type};

/// Decodes values from the front of bytes, each to the text that `{:?}` makes of it. Panics on
/// bytes that do not agree with the page.
pub(crate) struct Decoder<'a> {
    schema: &'a Schema,
    bytes: &'a [u8],
}

impl<'a> Decoder<'a> {
    pub(crate) fn new(schema: &'a Schema, bytes: &'a [u8]) -> Self {
        Decoder { schema, bytes }
    }

    /// Decodes all of the bytes as one value of the type `name`.
    pub(crate) fn decode_all(mut self, name: &str) -> String {
        let value = self.value(&Type {
            name: name.to_owned(),
            arguments: Vec::new(),
        });
        assert!(self.bytes.is_empty(), "bytes follow {value}");
        value
    }

    fn value(&mut self, expected: &Type) -> String {
        match (expected.name.as_str(), expected.arguments.as_slice()) {
            ("u16" | "u32" | "u64", []) => debug_text(self.number()),
            ("i32" | "i64", []) => debug_text(self.signed()),
            ("bool", []) => debug_text(self.flag()),
            ("bytes", []) => format!("b\"{}\"", self.length_prefixed().escape_ascii()),
            ("text", []) => debug_text(std::str::from_utf8(self.length_prefixed()).expect("UTF-8")),
            ("byte8", []) => debug_text(self.take(8)),
            ("byte16", []) => uuid(self.take(16)),
            ("unit", []) => debug_text(()),
            ("option", [some]) => {
                if self.flag() {
                    format!("Some({})", self.value(some))
                } else {
                    "None".to_owned()
                }
            }
            ("list", [element]) => {
                let count = self.number();
                let elements: Vec<String> = (0..count).map(|_| self.value(element)).collect();
                format!("[{}]", elements.join(", "))
            }
            ("pair", [first, second]) => format!("({}, {})", self.value(first), self.value(second)),
            ("result", [value]) => match self.number() {
                0 => format!("Ok({})", self.value(value)),
                1 => format!("Err({})", self.defined("ApiError")),
                other => panic!("a result has no variant {other}"),
            },
            (name, []) => self.defined(name),
            (name, _) => panic!("{name} takes no type arguments"),
        }
    }

    fn defined(&mut self, name: &str) -> String {
        let schema = self.schema;
        match schema
            .0
            .get(name)
            .unwrap_or_else(|| panic!("{name} is not defined"))
        {
            Definition::Alias(_) if name == "ErrorCode" => {
                let number = u16::try_from(self.number()).expect("a u16");
                debug_text(escher_protocol::ErrorCode::from_number(number))
            }
            Definition::Alias(target) => format!("{name}({})", self.value(target)),
            Definition::Struct(fields) => self.fields(name, fields),
            Definition::Enum(variants) => {
                let index = usize::try_from(self.number()).expect("an index");
                let (name, fields) = &variants[index];
                self.fields(name, fields)
            }
        }
    }

    fn fields(&mut self, name: &str, fields: &[Field]) -> String {
        let mut values = Vec::new();
        for (field, expected) in fields {
            let value = self.value(expected);
            values.push(match field {
                Some(field) => format!("{field}: {value}"),
                None => value,
            });
        }
        let values = values.join(", ");
        match fields {
            [] => name.to_owned(),
            [(None, _), ..] => format!("{name}({values})"),
            [(Some(_), _), ..] => format!("{name} {{ {values} }}"),
        }
    }

    fn take(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.bytes.split_at(count);
        self.bytes = rest;
        taken
    }

    fn number(&mut self) -> u64 {
        let width = match self.take(1)[0] {
            small @ 0..=250 => return u64::from(small),
            251 => 2,
            252 => 4,
            253 => 8,
            other => panic!("{other} does not begin a number"),
        };
        let bytes = self.take(width).iter().rev();
        bytes.fold(0, |number, byte| number << 8 | u64::from(*byte))
    }

    fn signed(&mut self) -> i64 {
        let zigzag = self.number();
        let half = i64::try_from(zigzag / 2).expect("half a u64 is an i64");
        match zigzag % 2 {
            0 => half,
            _ => -half - 1,
        }
    }

    fn flag(&mut self) -> bool {
        match self.take(1)[0] {
            0 => false,
            1 => true,
            other => panic!("{other} is neither 0 nor 1"),
        }
    }

    fn length_prefixed(&mut self) -> &'a [u8] {
        let count = usize::try_from(self.number()).expect("a length");
        self.take(count)
    }
}

fn debug_text(value: impl Debug) -> String {
    format!("{value:?}")
}

fn uuid(bytes: &[u8]) -> String {
    let hex: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let parts = [&hex[..4], &hex[4..6], &hex[6..8], &hex[8..10], &hex[10..]];
    parts.map(|part| part.concat()).join("-")
}
