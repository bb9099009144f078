//! Only `hand_over` says that there is one writer: what the phases after it need cannot be put together by hand.
use dr_core::{plan::{Ref, phase::HandedOver}, contract::WriterReceipt};

fn handed(writer: Ref<WriterReceipt>) -> HandedOver {
    HandedOver { writer, fence: None }
}

fn main() {
    let _ = handed;
}
