//! A log and its index, as a power cut, a full disk or somebody with an editor may have left them.
#![no_main]

use std::sync::LazyLock;

use escher_fuzz::{MemoryDir, rewrite};
use escher_launcher::ipc::log_index::{HEADER_BYTES, encode_header};
use escher_protocol::{OutputItem, Timestamp};
use escherd::output::fuzzing::read_whole_log;
use libfuzzer_sys::fuzz_target;

static DIR: LazyLock<MemoryDir> = LazyLock::new(MemoryDir::create);

/// Where the log ends and the index begins, and what the execution's record says of them.
const PREFIX_BYTES: usize = 3;

fuzz_target!(|input: &[u8]| {
    let Some((&[log_bytes, dropped, whole], rest)) = input.split_first_chunk::<PREFIX_BYTES>()
    else {
        return;
    };
    let (log, index) = rest.split_at(usize::from(log_bytes).min(rest.len()));
    let header = encode_header(Timestamp::from_micros(0));
    // A damaged header is refused at once, so most have a whole one, with any mark.
    let header = match whole % 4 {
        0 => &[][..],
        1 => &header[..HEADER_BYTES / 2],
        _ => &header,
    };
    rewrite(&DIR.path("x.log"), &[log]);
    rewrite(&DIR.path("x.idx"), &[header, index]);
    let dropped = (dropped != 0).then(|| u64::from(dropped));
    let Ok(items) = read_whole_log(&DIR.path("x.log"), dropped) else {
        return;
    };
    let mut shown = 0;
    for item in items {
        if let OutputItem::Chunk(chunk) = item {
            let offset = usize::try_from(chunk.offset).expect("it is within the log");
            assert!(offset >= shown, "nothing is shown twice");
            shown = offset + chunk.data.len();
            assert_eq!(&*chunk.data, &log[offset..shown]);
        }
    }
});
