//! Messages between escherd, the launcher and the shims, in all four directions.
#![no_main]

use escher_launcher::ipc::wire::{FromShim, LauncherReply, LauncherRequest, ToShim};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _: Option<LauncherRequest> = escher_fuzz::decode(bytes);
    let _: Option<LauncherReply> = escher_fuzz::decode(bytes);
    let _: Option<FromShim> = escher_fuzz::decode(bytes);
    if let Some(ToShim::Assign(assignment)) = escher_fuzz::decode(bytes) {
        let encoded = ToShim::encode_assign(&assignment).expect("what was decoded can be encoded");
        assert_eq!(
            escher_fuzz::decode(&encoded),
            Some(ToShim::Assign(assignment))
        );
    }
});
