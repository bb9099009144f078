//! A standby plan moves nobody (C10).
use dr_core::{PlanBuilder, plan::{Ref, steps::ShiftTraffic}, contract::WriterReceipt};

fn shift(plan: &mut PlanBuilder, writer: &Ref<WriterReceipt>) {
    plan.standby().add("shift", ShiftTraffic::to(&"public".into(), writer));
}

fn main() {
    let _ = shift;
}
