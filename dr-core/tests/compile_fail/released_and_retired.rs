//! A fence that was retired cannot be released as well.
use dr_core::{contract::FenceReceipt, plan::{Held, Ref}, PlanBuilder};

fn end(plan: &mut PlanBuilder, fence: Held<FenceReceipt>, rejoined: &Ref<()>) {
    plan.retired(fence, rejoined);
    plan.release(fence, rejoined);
}

fn main() {}
