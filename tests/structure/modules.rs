//! The modules of a crate: what each defines, which names it imports, which paths its code
//! mentions.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::tokens::{self, Token, TokenKind};

/// Reads a source file; `None` where there is none.
pub(crate) type ReadSource<'r> = &'r dyn Fn(&Path) -> Option<String>;

/// The modules of one crate by their paths, such as `["config", "document"]`. The root's is empty.
pub(crate) type Modules = BTreeMap<Vec<String>, Module>;

/// One module, without its tests.
#[derive(Debug, Default)]
pub(crate) struct Module {
    pub(crate) file: PathBuf,
    /// Items that are defined here.
    pub(crate) items: BTreeSet<String>,
    /// Names that `use` declares, each with the path that it stands for.
    pub(crate) imports: BTreeMap<String, Vec<String>>,
    /// The paths of `use …::*`.
    pub(crate) globs: Vec<Vec<String>>,
    pub(crate) mentions: Vec<Mention>,
}

/// A path as the code has it. Those of `pub use` are not mentions: they pass a name on.
#[derive(Debug)]
pub(crate) struct Mention {
    pub(crate) path: Vec<String>,
    pub(crate) line: usize,
}

/// Reads the crate whose root module is the file `root`.
pub(crate) fn read_crate(root: &Path, read: ReadSource<'_>) -> Modules {
    let mut modules = Modules::new();
    let folder = root.parent().unwrap_or(Path::new(""));
    read_module(root, folder, Vec::new(), read, &mut modules);
    modules
}

/// Reads the module `path` from `file`, and the modules inside it from `folder`.
fn read_module(
    file: &Path,
    folder: &Path,
    path: Vec<String>,
    read: ReadSource<'_>,
    modules: &mut Modules,
) {
    let Some(source) = read(file) else { return };
    let tokens = tokens::split(&source);
    let mut scanner = Scanner {
        tokens: &tokens,
        next: 0,
        file,
        path: path.clone(),
        modules,
        in_files: Vec::new(),
    };
    scanner.module();
    for child in scanner.in_files {
        let inside: PathBuf = folder.join(child[path.len()..].join("/"));
        let beside = inside.with_extension("rs");
        let file = if read(&beside).is_some() {
            beside
        } else {
            inside.join("mod.rs")
        };
        read_module(&file, &inside, child, read, modules);
    }
}

struct Scanner<'s> {
    tokens: &'s [Token],
    next: usize,
    file: &'s Path,
    /// The module that is being read.
    path: Vec<String>,
    modules: &'s mut Modules,
    /// Modules that are declared here and have files of their own.
    in_files: Vec<Vec<String>>,
}

impl<'s> Scanner<'s> {
    /// Reads the rest of the current module, with its closing brace.
    fn module(&mut self) {
        let file = self.file.to_owned();
        self.current().file = file;
        let mut depth = 0_usize;
        while let Some(token) = self.peek(0) {
            match &token.kind {
                TokenKind::Mark('{') => {
                    depth += 1;
                    self.next += 1;
                }
                TokenKind::Mark('}') => {
                    self.next += 1;
                    match depth.checked_sub(1) {
                        Some(less) => depth = less,
                        None => return,
                    }
                }
                TokenKind::Mark('#') => self.attribute(),
                // A field or method, or what belongs to a type in brackets: not names of this
                // module.
                TokenKind::Mark('.') | TokenKind::PathSeparator if self.peek_word(1).is_some() => {
                    self.next += 2;
                }
                TokenKind::Mark(_) | TokenKind::PathSeparator => self.next += 1,
                TokenKind::Word(word) => self.word(word, depth == 0),
            }
        }
    }

    fn word(&mut self, word: &str, is_outermost: bool) {
        match word {
            "pub" => {
                self.next += 1;
                if self.peek(0).is_some_and(|token| token.is_mark('(')) {
                    self.skip_group();
                }
                if self.peek_word(0) == Some("use") {
                    self.declare_use(true);
                }
            }
            "use" => self.declare_use(false),
            "mod" => self.declare_module(),
            "struct" | "enum" | "union" | "trait" | "type" | "fn" | "const" | "static"
            | "macro_rules"
                if is_outermost =>
            {
                self.next += 1;
                while self.peek(0).is_some_and(|token| token.is_mark('!'))
                    || matches!(self.peek_word(0), Some("mut" | "unsafe"))
                {
                    self.next += 1;
                }
                // In `const fn` the name comes later.
                if let Some(name) = self.peek_word(0).filter(|name| *name != "fn") {
                    let name = name.to_owned();
                    self.current().items.insert(name);
                    self.next += 1;
                }
            }
            _ => {
                let line = self.tokens[self.next].line;
                let path = self.path();
                self.current().mentions.push(Mention { path, line });
            }
        }
    }

    /// `mod name;` or `mod name { … }`
    fn declare_module(&mut self) {
        self.next += 1;
        let Some(name) = self.peek_word(0).map(str::to_owned) else {
            return;
        };
        self.next += 2;
        self.path.push(name);
        if self.tokens[self.next - 1].is_mark('{') {
            self.module();
        } else {
            self.in_files.push(self.path.clone());
        }
        self.path.pop();
    }

    fn declare_use(&mut self, is_reexport: bool) {
        self.next += 1;
        self.use_tree(&mut Vec::new(), is_reexport);
    }

    /// One tree of a `use`, below `prefix`.
    fn use_tree(&mut self, prefix: &mut Vec<String>, is_reexport: bool) {
        let length = prefix.len();
        let line = self.peek(0).map_or(0, |token| token.line);
        prefix.extend(self.path());
        let separated = self.peek(0).map(|token| &token.kind) == Some(&TokenKind::PathSeparator);
        if separated {
            self.next += 1;
        }
        if self.peek(0).is_some_and(|token| token.is_mark('{')) {
            self.next += 1;
            while self.peek(0).is_some_and(|token| !token.is_mark('}')) {
                self.use_tree(prefix, is_reexport);
                if self.peek(0).is_some_and(|token| token.is_mark(',')) {
                    self.next += 1;
                }
            }
            self.next += 1;
        } else if self.peek(0).is_some_and(|token| token.is_mark('*')) {
            self.next += 1;
            let path = prefix.clone();
            self.current().globs.push(path);
        } else {
            if prefix.last().is_some_and(|last| last == "self") && prefix.len() > 1 {
                prefix.pop();
            }
            let mut name = prefix.last().cloned();
            if self.peek_word(0) == Some("as") {
                name = self.peek_word(1).map(str::to_owned);
                self.next += 2;
            }
            let path = prefix.clone();
            let module = self.current();
            if let Some(name) = name {
                module.imports.insert(name, path.clone());
            }
            if !is_reexport {
                module.mentions.push(Mention { path, line });
            }
        }
        prefix.truncate(length);
    }

    /// `a::b::c`; a separator that leads to no name is left.
    fn path(&mut self) -> Vec<String> {
        let mut path = Vec::new();
        while let Some(word) = self.peek_word(0) {
            path.push(word.to_owned());
            self.next += 1;
            let goes_on = self.peek(0).map(|token| &token.kind) == Some(&TokenKind::PathSeparator)
                && self.peek_word(1).is_some();
            if !goes_on {
                break;
            }
            self.next += 1;
        }
        path
    }

    /// Skips an attribute; with `#[cfg(test)]` also the item that it stands before, and with
    /// `#![cfg(test)]` the rest of the file.
    fn attribute(&mut self) {
        let is_inner = self.peek(1).is_some_and(|token| token.is_mark('!'));
        self.next += if is_inner { 2 } else { 1 };
        let start = self.next;
        self.skip_group();
        let words: Vec<&str> = self.tokens[start..self.next]
            .iter()
            .filter_map(Token::word)
            .collect();
        if words != ["cfg", "test"] {
            return;
        }
        if is_inner {
            self.next = self.tokens.len();
            return;
        }
        while let Some(token) = self.peek(0) {
            match token.kind {
                TokenKind::Mark('{') => return self.skip_group(),
                TokenKind::Mark('(' | '[') => self.skip_group(),
                TokenKind::Mark(';') => {
                    self.next += 1;
                    return;
                }
                _ => self.next += 1,
            }
        }
    }

    /// Skips the bracket here and all up to the one that closes it.
    fn skip_group(&mut self) {
        let mut depth = 0_usize;
        while let Some(token) = self.peek(0) {
            match token.kind {
                TokenKind::Mark('(' | '[' | '{') => depth += 1,
                TokenKind::Mark(')' | ']' | '}') => depth = depth.saturating_sub(1),
                _ => {}
            }
            self.next += 1;
            if depth == 0 {
                return;
            }
        }
    }

    fn peek(&self, ahead: usize) -> Option<&'s Token> {
        self.tokens.get(self.next + ahead)
    }

    fn peek_word(&self, ahead: usize) -> Option<&'s str> {
        self.peek(ahead).and_then(Token::word)
    }

    fn current(&mut self) -> &mut Module {
        self.modules.entry(self.path.clone()).or_default()
    }
}
