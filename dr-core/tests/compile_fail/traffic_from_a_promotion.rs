//! Traffic follows a confirmed writer, not a promotion.
use dr_core::{PlanBuilder, contract::PromotionReceipt, plan::{Ref, steps::ShiftTraffic}};

fn shift(plan: &mut PlanBuilder, promotion: &Ref<PromotionReceipt>) {
    plan.add("shift", ShiftTraffic::to(&"public".into(), promotion));
}

fn main() {
    let _ = shift;
}
