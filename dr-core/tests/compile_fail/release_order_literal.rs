//! An order to lift a fence cannot be written down.
use dr_core::{FenceToken, IdempotencyKey, ReleaseGround, ReleaseOrder, Target};

fn release(key: IdempotencyKey, target: Target, token: FenceToken) -> ReleaseOrder {
    ReleaseOrder { target, token, ground: ReleaseGround::AbortBeforePromotion, key }
}

fn main() {
    let _ = release;
}
