//! A secret names a confirmed writer, not a promoted member.
use dr_core::{PlanBuilder, contract::PromotionReceipt, plan::{Ref, steps::PointSecret}};

fn point(plan: &mut PlanBuilder, promotion: &Ref<PromotionReceipt>) {
    plan.add("point-secret", PointSecret::at(promotion));
}

fn main() {
    let _ = point;
}
