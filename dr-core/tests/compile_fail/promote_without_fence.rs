//! A planned promotion cannot be asked for without the proof of a fence.
use dr_core::{contract::{CaughtUp, Consented, PromoteRequest}, base::IdempotencyKey};

fn promote(key: IdempotencyKey, caught_up: CaughtUp, consented: Consented) -> PromoteRequest {
    PromoteRequest::planned(key, caught_up, consented)
}

fn main() {}
