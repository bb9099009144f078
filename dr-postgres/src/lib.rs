//! Switchover of self-managed PostgreSQL.

mod application;
mod backend;
mod binaries;
mod candidate;
mod config;
mod control_data;
mod database;
mod drops;
mod error;
mod fence;
mod follows;
mod grants;
pub mod hba;
mod hba_rules;
mod log_end;
mod manual;
mod member;
pub mod pgbouncer;
mod place;
mod reach;
mod rehearse_fence;
mod rejoin;
mod repoint;
mod router;
mod secret;
mod server;
mod slots;
mod stop;
mod stopped;
#[cfg(feature = "testing")]
pub mod testing;

pub use backend::Postgres;
pub use binaries::{Binaries, MissingPostgres};
pub use control_data::{ClusterState, ControlData};
pub use database::PostgresDatabase;
pub use error::HostError;
pub use fence::ClosedHba;
pub use member::{Member, Peer, ReplicationLogin, resource_address};
pub use place::{Evidence, Place};
pub use router::PostgresPooler;
pub use secret::FileSecret;
pub use server::{
    Census, FileId, HostCommand, LocalControl, Phase, Postmaster, Process, Server, ServerControl, Signalled, Site,
    SshControl, SshOptions, Stop, Unit,
};
pub use stop::StopFence;
