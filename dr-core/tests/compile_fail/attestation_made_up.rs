//! Only people attest that a server is down, and only for a time that is compared: an attestation cannot be written down.
use dr_core::contract::Attested;

fn down() -> Attested {
    Attested {}
}

fn main() {
    let _ = down;
}
