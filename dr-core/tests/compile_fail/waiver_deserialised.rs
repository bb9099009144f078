//! A waiver cannot come out of a journal: what people said there is data, and the time until which it counts is compared first.
use dr_core::contract::Waiver;

fn load(text: &str) -> Waiver {
    serde_json::from_str(text).unwrap()
}

fn main() {
    let _ = load;
}
