//! Nothing is destroyed on a consent alone: the proof that it is no writer is missing.
use dr_core::{contract::{Consented, DestroyRequest}, base::IdempotencyKey};

fn destroy(key: IdempotencyKey, consented: Consented) -> DestroyRequest {
    DestroyRequest::of(key, consented)
}

fn main() {}
