//! A standby plan points no secret anywhere (C10).
use dr_core::{PlanBuilder, plan::{Ref, steps::PointSecret}, StepExt, contract::WriterReceipt, seconds};

fn point(plan: &mut PlanBuilder, writer: &Ref<WriterReceipt>) {
    plan.standby().add("point-secret", PointSecret::at(writer).within(seconds(5)));
}

fn main() {
    let _ = point;
}
