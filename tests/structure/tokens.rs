//! Splits Rust source into the few kinds of tokens that paths and items are made of.

/// A token with its line, from 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Token {
    pub(crate) kind: TokenKind,
    pub(crate) line: usize,
}

/// Comments, literals, lifetimes and white space are left out: no path is in them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum TokenKind {
    /// A name or keyword, without the `r#` of raw ones.
    Word(String),
    /// `::`
    PathSeparator,
    /// Any other character.
    Mark(char),
}

impl Token {
    /// The name or keyword that this token is.
    pub(crate) fn word(&self) -> Option<&str> {
        match &self.kind {
            TokenKind::Word(word) => Some(word),
            _ => None,
        }
    }

    pub(crate) fn is_mark(&self, mark: char) -> bool {
        self.kind == TokenKind::Mark(mark)
    }
}

/// Splits `source`. Text that is not Rust gives some tokens or other, and never a panic.
pub(crate) fn split(source: &str) -> Vec<Token> {
    let mut splitter = Splitter {
        rest: source,
        line: 1,
    };
    let mut tokens = Vec::new();
    while let Some(first) = splitter.rest.chars().next() {
        let line = splitter.line;
        if let Some(kind) = splitter.next(first) {
            tokens.push(Token { kind, line });
        }
    }
    tokens
}

struct Splitter<'s> {
    rest: &'s str,
    line: usize,
}

impl Splitter<'_> {
    /// Takes one token, or something that is none, from the text, which begins with `first`.
    fn next(&mut self, first: char) -> Option<TokenKind> {
        let rest = self.rest;
        if rest.starts_with("//") {
            self.skip(rest.find('\n').unwrap_or(rest.len()));
        } else if rest.starts_with("/*") {
            self.skip(block_comment(rest));
        } else if let Some(length) = raw_string(rest) {
            self.skip(length);
        } else if let Some(start) = ["\"", "b\"", "c\""].iter().find(|s| rest.starts_with(**s)) {
            self.skip(start.len() + quoted(&rest[start.len()..], '"'));
        } else if let Some(start) = ["'", "b'"].iter().find(|s| rest.starts_with(**s)) {
            self.skip(character_or_lifetime(rest, start.len()));
        } else if rest.starts_with("::") {
            self.skip(2);
            return Some(TokenKind::PathSeparator);
        } else if is_word(first) {
            if rest.starts_with("r#") {
                self.skip(2);
            }
            let length = self.rest.find(|c| !is_word(c)).unwrap_or(self.rest.len());
            let word = self.rest[..length].to_owned();
            self.skip(length);
            return (!first.is_ascii_digit()).then_some(TokenKind::Word(word));
        } else {
            self.skip(first.len_utf8());
            return (!first.is_whitespace()).then_some(TokenKind::Mark(first));
        }
        None
    }

    fn skip(&mut self, length: usize) {
        let (skipped, rest) = self.rest.split_at(length.min(self.rest.len()));
        self.line += skipped.matches('\n').count();
        self.rest = rest;
    }
}

fn is_word(c: char) -> bool {
    c == '_' || c.is_alphanumeric()
}

/// Length of the comment at the beginning of `text`, with those inside of it.
fn block_comment(text: &str) -> usize {
    let mut depth = 0_usize;
    let mut place = 0;
    while place < text.len() {
        let rest = &text.as_bytes()[place..];
        if rest.starts_with(b"/*") {
            depth += 1;
            place += 2;
        } else if rest.starts_with(b"*/") {
            depth -= 1;
            place += 2;
        } else {
            place += 1;
        }
        if depth == 0 {
            return place;
        }
    }
    text.len()
}

/// Length of the raw string (`r"…"`, `br#"…"#`) at the beginning of `text`, if there is one.
fn raw_string(text: &str) -> Option<usize> {
    let head = ["r", "br", "cr"].into_iter().find(|head| {
        let rest = text.strip_prefix(head);
        rest.is_some_and(|rest| rest.starts_with(['"', '#']))
    })?;
    let marks = text[head.len()..]
        .bytes()
        .take_while(|b| *b == b'#')
        .count();
    let start = head.len() + marks + 1;
    if text.as_bytes().get(start - 1) != Some(&b'"') {
        return None;
    }
    let end = format!("\"{}", "#".repeat(marks));
    let length = text[start..]
        .find(&end)
        .map(|place| start + place + end.len());
    Some(length.unwrap_or(text.len()))
}

/// Length of what stands before and with the closing `quote`.
fn quoted(text: &str, quote: char) -> usize {
    let mut is_escaped = false;
    for (place, c) in text.char_indices() {
        if !is_escaped && c == quote {
            return place + 1;
        }
        is_escaped = !is_escaped && c == '\\';
    }
    text.len()
}

/// Length of `'a'`, `b'\n'` or `'lifetime`, whose quote ends at `start`.
fn character_or_lifetime(text: &str, start: usize) -> usize {
    let rest = &text[start..];
    let mut characters = rest.chars();
    match (characters.next(), characters.next()) {
        (Some('\\'), _) => start + quoted(rest, '\''),
        (Some(first), Some('\'')) => start + first.len_utf8() + 1,
        _ => start,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(source: &str) -> Vec<String> {
        let tokens = split(source);
        let words = tokens.iter().filter_map(Token::word);
        words.map(str::to_owned).collect()
    }

    #[test]
    fn leaves_out_comments_and_literals() {
        let source = r####"
            one // two
            /* three /* four */ five */ six "sev\"en" r#"eight " nine"# b"ten" 'x' '\'' b'\n'
            r#type 12u8 'life fn c"eleven"
        "####;
        assert_eq!(words(source), ["one", "six", "type", "life", "fn"]);
    }

    #[test]
    fn counts_the_lines() {
        let tokens = split("a\n\"two\nlines\" b /*\n*/ c::d");
        let lines: Vec<usize> = tokens.iter().map(|token| token.line).collect();
        assert_eq!(lines, [1, 3, 4, 4, 4]);
    }
}
