//! A fence that was retired cannot be released as well.
use dr_core::{FenceReceipt, Held, PlanBuilder, Ref};

fn end(plan: &mut PlanBuilder, fence: Held<FenceReceipt>, rejoined: &Ref<()>) {
    plan.retired(fence, rejoined);
    plan.release(fence, rejoined);
}

fn main() {}
