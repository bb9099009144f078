//! A proof has no copy that could outlive it.
use dr_core::contract::Fenced;

fn keep(fenced: &Fenced) -> Fenced {
    fenced.clone()
}

fn main() {
    let _ = keep;
}
