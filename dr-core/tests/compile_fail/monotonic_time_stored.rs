//! A monotonic reading means nothing after a restart, so it cannot be stored.
use dr_core::base::Mono;

fn store(at: Mono) -> String {
    serde_json::to_string(&at).unwrap()
}

fn main() {
    let _ = store;
}
