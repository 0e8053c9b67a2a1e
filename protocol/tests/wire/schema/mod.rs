//! The message types as `docs/protocol.md` gives them, read from the page.

mod decode;

use std::collections::BTreeMap;
use std::iter::Peekable;

pub(crate) use decode::Decoder;

/// A type where it is used: its name, and what it is made of.
#[derive(Debug)]
pub(crate) struct Type {
    name: String,
    of: Vec<Type>,
}

/// A field; those of `Variant(T)` have no names.
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
    /// Reads definitions as in a fence of the kind `schema`; panics with what is wrong.
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

    /// The names of all enums, each with its variants.
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

/// Words and marks, one by one.
struct Tokens(Peekable<std::vec::IntoIter<String>>);

impl Tokens {
    fn new(text: &str) -> Self {
        let mut tokens: Vec<String> = Vec::new();
        for line in text.lines() {
            let code = line.split("//").next().unwrap_or_default();
            let mut in_word = false;
            for character in code.chars() {
                let of_word = character.is_alphanumeric() || character == '_';
                match tokens.last_mut() {
                    Some(word) if of_word && in_word => word.push(character),
                    _ if character.is_whitespace() => {}
                    _ => tokens.push(character.to_string()),
                }
                in_word = of_word;
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

    /// Takes `mark` if it is next.
    fn found(&mut self, mark: &str) -> bool {
        self.0.next_if(|token| token == mark).is_some()
    }

    fn a_type(&mut self) -> Type {
        let name = self.word();
        let of = if self.found("<") {
            self.separated(">", Self::a_type)
        } else {
            Vec::new()
        };
        Type { name, of }
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
            } else if tokens.found("(") {
                tokens.separated(")", |tokens| (None, tokens.a_type()))
            } else {
                Vec::new()
            };
            (name, fields)
        })
    }

    /// Parts with commas between them, up to `end`.
    fn separated<T>(&mut self, end: &str, mut part: impl FnMut(&mut Self) -> T) -> Vec<T> {
        let mut parts = vec![part(self)];
        while !self.found(end) {
            self.expect(",");
            parts.push(part(self));
        }
        parts
    }
}
