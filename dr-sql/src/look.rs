//! Looks at a server: identity, positions, replication, what would hurt a switchover.

mod catalogue;
mod data;
mod follows;
mod identity;
mod replication;
mod sessions;
mod settings;

pub use data::{Sequence, Sum, WrittenSince};
pub use follows::Follows;
pub use identity::Identity;
pub(crate) use identity::STILL_REPLAYS;
pub use replication::{FRESH, Reader, Receiver, Sender, Slot};
pub use sessions::{ClientSession, LongTransaction};
pub use settings::{Custom, Setting};
