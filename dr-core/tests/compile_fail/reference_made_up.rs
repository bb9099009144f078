//! Only a plan builder hands out references.
use dr_core::{contract::FenceReceipt, NodeId, plan::Ref};

fn reference() -> Ref<FenceReceipt> {
    Ref::new(NodeId::new("fence"))
}

fn main() {
    let _ = reference;
}
