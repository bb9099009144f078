//! A request to promote cannot be written without its proofs.
use dr_core::{IdempotencyKey, Loss, PromoteRequest, PromotionTerms, Target, Waived};

fn promote(from: Target, target: Target, key: IdempotencyKey, waived: Waived) -> PromoteRequest {
    PromoteRequest { target, from, terms: PromotionTerms::Dangerous { waived, loss: Loss::Nothing }, key }
}

fn main() {
    let _ = promote;
}
