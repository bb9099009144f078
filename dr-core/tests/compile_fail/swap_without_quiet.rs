//! A planned swap needs the proof of a quiet primary; a consent alone is not enough.
use dr_core::{contract::{Consented, SwapRequest}, base::IdempotencyKey};

fn swap(key: IdempotencyKey, consented: Consented) -> SwapRequest {
    SwapRequest::planned(key, consented)
}

fn main() {}
