//! Only a take-over says that there is one writer: what the phases after it need cannot be put together by hand.
use dr_core::{Ref, WriterReceipt, phase::TakenOver};

fn taken(writer: Ref<WriterReceipt>) -> TakenOver {
    TakenOver { writer, fence: None }
}

fn main() {
    let _ = taken;
}
