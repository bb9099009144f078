//! A forced promotion needs the bound of its loss.
use dr_core::{Consented, Fenced, Grade, IdempotencyKey, PromoteRequest, Target};

fn promote(key: IdempotencyKey, target: Target, fenced: Fenced, consented: Consented) -> Result<PromoteRequest, Grade> {
    PromoteRequest::forced(key, target, fenced, consented)
}

fn main() {}
