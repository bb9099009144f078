//! What is taken and forgotten is told.
#![deny(unused_must_use)]

use dr_core::{plan::IntoSpec, PlanBuilder, Step};

fn hold<I: IntoSpec, G: Step>(plan: &mut PlanBuilder, take: I, give: G) {
    plan.hold("drain", take, give);
}

fn main() {}
