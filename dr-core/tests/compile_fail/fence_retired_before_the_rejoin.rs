//! A fence is retired with the rejoin of its member, not with the promotion alone.
use dr_core::{contract::{FenceReceipt, PromotionReceipt, WriterReceipt}, MemberId, PlanBuilder, plan::{Ref, steps::RetireMemberFence}};

fn retire(
    plan: &mut PlanBuilder,
    member: &MemberId,
    (fence, writer): (&Ref<FenceReceipt>, &Ref<WriterReceipt>),
    promotion: &Ref<PromotionReceipt>,
) {
    plan.add("retire", RetireMemberFence::of(member, fence, writer, promotion));
}

fn main() {
    let _ = retire;
}
