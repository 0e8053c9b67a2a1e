//! Configuration files, TOML and JSON.
#![no_main]

use std::sync::LazyLock;

use escher_fuzz::{MemoryDir, rewrite};
use escherd::config::{LoadOptions, load};
use libfuzzer_sys::fuzz_target;

static DIR: LazyLock<MemoryDir> = LazyLock::new(MemoryDir::create);

fuzz_target!(|input: &[u8]| {
    let Some((format, text)) = input.split_first() else {
        return;
    };
    let path = DIR.path(if format % 2 == 0 {
        "escher.toml"
    } else {
        "escher.json"
    });
    rewrite(&path, &[text]);
    let options = LoadOptions {
        file: Some(path.clone()),
        ..LoadOptions::default()
    };
    match load(&options) {
        Ok(_) => {}
        Err(error) => {
            let message = error.to_string();
            assert!(message.contains("escher."), "{message:?} names no file");
            assert!(!message.contains('\u{1b}'), "{message:?} has an escape");
        }
    }
});
