//! What the fuzz targets share.
//!
//! A target gives hostile bytes to one decoder of escher. It fails if the decoder panics, takes too long or too
//! much memory, or accepts bytes whose value is not encoded and decoded to the same again.

use std::fmt::Debug;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use escher_protocol::codec;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Decodes a message. What is accepted must survive being encoded and decoded again.
pub fn decode<T: Serialize + DeserializeOwned + PartialEq + Debug>(bytes: &[u8]) -> Option<T> {
    let message: T = codec::decode(bytes).ok()?;
    let encoded = codec::encode(&message).expect("what was decoded can be encoded");
    let again: T = codec::decode(&encoded).expect("what was encoded can be decoded");
    assert_eq!(message, again);
    Some(message)
}

/// A directory in memory for files whose readers take paths.
#[derive(Debug)]
pub struct MemoryDir(PathBuf);

impl MemoryDir {
    /// Creates it, for this process.
    #[must_use]
    pub fn create() -> Self {
        let path = PathBuf::from(format!("/dev/shm/escher-fuzz-{}", std::process::id()));
        std::fs::create_dir_all(&path).expect("/dev/shm can be written");
        MemoryDir(path)
    }

    /// Returns the path of a file in it.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for MemoryDir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Replaces the content of the file at `path`, which is created if needed.
pub fn rewrite(path: &Path, parts: &[&[u8]]) {
    let mut file = File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .open(path)
        .expect("the file can be written");
    for part in parts {
        file.write_all(part).expect("there is space");
    }
}
