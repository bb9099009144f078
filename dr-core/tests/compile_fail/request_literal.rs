//! A request to promote cannot be written without its proofs.
use dr_core::{IdempotencyKey, Loss, PromoteRequest, PromotionTerms, Target, Waiver};

fn promote(from: Target, target: Target, key: IdempotencyKey, waiver: Waiver) -> PromoteRequest {
    PromoteRequest { target, from, terms: PromotionTerms::Dangerous { waiver, loss: Loss::Nothing }, key }
}

fn main() {
    let _ = promote;
}
