//! An order to lift a fence cannot be written down.
use dr_core::{contract::{FenceToken, ReleaseGround, ReleaseOrder}, base::IdempotencyKey, Target};

fn release(key: IdempotencyKey, target: Target, token: FenceToken) -> ReleaseOrder {
    ReleaseOrder { target, token, ground: ReleaseGround::AbortBeforePromotion, key }
}

fn main() {
    let _ = release;
}
