//! A receipt authorises nothing: it has to be admitted first.
use dr_core::{contract::{CaughtUp, Consented, FenceReceipt, PromoteRequest}, base::IdempotencyKey};

fn promote(key: IdempotencyKey, fence: FenceReceipt, caught_up: CaughtUp, consented: Consented) -> PromoteRequest {
    PromoteRequest::planned(key, fence, caught_up, consented)
}

fn main() {}
