//! The stories of the documentation, written by somebody who only sees public items.

pub mod acme;
pub mod embed;
pub mod reef;
