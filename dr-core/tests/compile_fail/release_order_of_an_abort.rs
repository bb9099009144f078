//! Only the library itself orders the release of a fence because a run turns back.
use dr_core::{contract::{FenceToken, ReleaseOrder}, base::IdempotencyKey, Target};

fn release(key: IdempotencyKey, target: Target, token: FenceToken) -> ReleaseOrder {
    ReleaseOrder::abort(key, target, token)
}

fn main() {
    let _ = release;
}
