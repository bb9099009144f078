//! What is held is given back once.
use dr_core::{contract::{DrainReceipt, WriterReceipt}, plan::{Held, Ref}, PlanBuilder};

fn release(plan: &mut PlanBuilder, drained: Held<DrainReceipt>, writer: &Ref<WriterReceipt>) {
    plan.release(drained, writer);
    plan.release(drained, writer);
}

fn main() {}
