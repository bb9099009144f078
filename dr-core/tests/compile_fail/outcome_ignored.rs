//! An outcome that nobody looks at is told.
#![deny(unused_must_use)]

use dr_core::{ManagedDatabase, contract::PromoteRequest};

async fn promote(database: &dyn ManagedDatabase, request: PromoteRequest) {
    database.promote(request).await;
}

fn main() {
    let _ = promote;
}
