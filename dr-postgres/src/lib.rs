//! Switchover of self-managed PostgreSQL.

mod act;
mod application;
mod backend;
mod candidate;
mod client;
mod config;
mod conninfo;
mod control_data;
mod database;
mod drops;
mod error;
mod fence;
mod follows;
mod grants;
pub mod hba;
mod hba_rules;
mod lag;
mod log_end;
mod login;
mod look;
mod lsn;
mod manual;
mod member;
mod names;
pub mod pgbouncer;
mod place;
mod probe;
mod reach;
mod rehearse_fence;
mod rejoin;
mod router;
mod secret;
mod server;
mod slots;
mod stop;
mod stopped;
mod target;
pub mod testing;
mod tls;

pub use act::{Probed, Written};
pub use application::ApplicationLogin;
pub use backend::Postgres;
pub use client::{Link, Session, TextRow};
pub use conninfo::{BadConnInfo, ConnInfo};
pub use control_data::{ClusterState, ControlData};
pub use database::PostgresDatabase;
pub use error::{Effect, PgError};
pub use fence::ClosedHba;
pub use login::LoginFence;
pub use look::{ClientSession, FRESH, Identity, LongTransaction, Reader, Receiver, Sender, Slot};
pub use lsn::{BadLsn, Fork, Lsn, Timeline, forks};
pub use member::{Member, Peer, ReplicationLogin, resource_address};
pub use place::{Evidence, Place};
pub use probe::PostgresProbe;
pub use router::PostgresPooler;
pub use secret::FileSecret;
pub use server::{
    Census, FileId, HostCommand, LocalControl, Phase, Postmaster, Process, Server, ServerControl, Signalled, Site,
    SshControl, SshOptions, Stop, Unit,
};
pub use stop::StopFence;
pub use target::{Password, SslMode, Target};
