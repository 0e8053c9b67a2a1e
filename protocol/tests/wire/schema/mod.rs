//! The message types of `docs/protocol.md`, parsed from the page.

mod decode;

use std::collections::BTreeMap;
use std::iter::Peekable;

pub(crate) use decode::Decoder;

/// A use of a type: its name and its arguments.
#[derive(Debug)]
pub(crate) struct Type {
    name: String,
    arguments: Vec<Type>,
}

/// A field with its name; the fields of `Variant(T)` have none.
type Field = (Option<String>, Type);

#[derive(Debug)]
enum Definition {
    Alias(Type),
    Struct(Vec<Field>),
    Enum(Vec<(String, Vec<Field>)>),
}

/// All definitions of a page.
#[derive(Debug)]
pub(crate) struct Schema(BTreeMap<String, Definition>);

impl Schema {
    /// Parses the definitions of a code block `schema`; panics on an error.
    pub(crate) fn parse(text: &str) -> Self {
        let mut tokens = Tokens::new(text);
        let mut definitions = BTreeMap::new();
        while tokens.0.peek().is_some() {
            let kind = tokens.word();
            let name = tokens.word();
            let definition = match kind.as_str() {
                "type" => {
                    tokens.expect("=");
                    Definition::Alias(tokens.a_type())
                }
                "struct" => Definition::Struct(tokens.named_fields()),
                "enum" => Definition::Enum(tokens.variants()),
                other => panic!("{other} is no kind of definition"),
            };
            let earlier = definitions.insert(name.clone(), definition);
            assert!(earlier.is_none(), "{name} is defined twice");
        }
        Schema(definitions)
    }

    /// Returns the names of all enums, each with its variants.
    pub(crate) fn variants(&self) -> impl Iterator<Item = (&str, impl Iterator<Item = &str>)> {
        self.0
            .iter()
            .filter_map(|(name, definition)| match definition {
                Definition::Enum(variants) => Some((
                    name.as_str(),
                    variants.iter().map(|variant| variant.0.as_str()),
                )),
                Definition::Alias(_) | Definition::Struct(_) => None,
            })
    }
}

/// Words and punctuation marks, one by one.
struct Tokens(Peekable<std::vec::IntoIter<String>>);

impl Tokens {
    fn new(text: &str) -> Self {
        let mut tokens: Vec<String> = Vec::new();
        for line in text.lines() {
            let code = line.split("//").next().unwrap_or_default();
            let mut in_word = false;
            for character in code.chars() {
                let is_word = character.is_alphanumeric() || character == '_';
                match tokens.last_mut() {
                    Some(word) if is_word && in_word => word.push(character),
                    _ if character.is_whitespace() => {}
                    _ => tokens.push(character.to_string()),
                }
                in_word = is_word;
            }
        }
        Tokens(tokens.into_iter().peekable())
    }

    fn word(&mut self) -> String {
        self.0.next().expect("the definition goes on")
    }

    fn expect(&mut self, mark: &str) {
        assert_eq!(self.word(), mark);
    }

    /// Consumes `mark` if it is next, and returns whether it was.
    fn consume(&mut self, mark: &str) -> bool {
        self.0.next_if(|token| token == mark).is_some()
    }

    fn a_type(&mut self) -> Type {
        let name = self.word();
        let arguments = if self.consume("<") {
            self.separated(">", Self::a_type)
        } else {
            Vec::new()
        };
        Type { name, arguments }
    }

    fn named_fields(&mut self) -> Vec<Field> {
        self.expect("{");
        self.separated("}", |tokens| {
            let name = tokens.word();
            tokens.expect(":");
            (Some(name), tokens.a_type())
        })
    }

    fn variants(&mut self) -> Vec<(String, Vec<Field>)> {
        self.expect("{");
        let mut next = 0;
        self.separated("}", |tokens| {
            assert_eq!(
                tokens.word(),
                next.to_string(),
                "variants are numbered from 0 on"
            );
            next += 1;
            let name = tokens.word();
            let fields = if tokens.0.peek().is_some_and(|token| token == "{") {
                tokens.named_fields()
            } else if tokens.consume("(") {
                tokens.separated(")", |tokens| (None, tokens.a_type()))
            } else {
                Vec::new()
            };
            (name, fields)
        })
    }

    /// Parses parts separated by commas, up to `end`.
    fn separated<T>(&mut self, end: &str, mut part: impl FnMut(&mut Self) -> T) -> Vec<T> {
        let mut parts = vec![part(self)];
        while !self.consume(end) {
            self.expect(",");
            parts.push(part(self));
        }
        parts
    }
}
