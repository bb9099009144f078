//! PostgreSQL over SQL alone: what every backend of a PostgreSQL service shares.
//!
//! Nothing here knows a host, a process or a directory. Backends of managed services use this crate by itself; `dr-postgres` adds what
//! a host can tell.
//!
//! ```text
//!   Target ── Rights ──► Link ──► Session ──► looks (identity, replication, sessions, catalogue, settings) and acts
//!                          │
//!                          ├──► Probe         the data plane (`DatabaseProbe`)
//!                          └──► LoginFence    NOLOGIN, sessions ended, watched (`Fence`)
//! ```
//!
//! # Two tiers of rights
//!
//! PostgreSQL checks the right to execute a function for a whole statement, whether its branch is taken or not, so an ordinary role of a
//! managed service needs statements of its own ([`Rights`]).
//!
//! | question | [`Rights::Server`] | [`Rights::Managed`] |
//! |---|---|---|
//! | timeline of a primary | `pg_walfile_name` | the same |
//! | timeline of a standby | its receiver, control file and log directory | its receiver, else the control file |
//! | where the history parted | the history file | not told, and receipts say "not compared" |
//! | probe write | a logical message | one row in the role's own schema |
//! | mark of a fenced role | a setting of the role | one row in the role's own schema |
//! | whether others wrote | the log's end, and its records where `pg_walinspect` is installed | the log's end alone |
//! | superusers | clients like others | the service's own: not counted, not ended |
//!
//! What a role is not shown reads as "there is none" in PostgreSQL's views. Every look here refuses instead, and names the right.
//!
//! # A probe for a managed service
//!
//! ```no_run
//! use std::sync::Arc;
//!
//! use dr_core::DatabaseProbe;
//! use dr_sql::{Password, PasswordSource, Probe, Target};
//!
//! /// Yields the service's token, which is valid for a quarter of an hour.
//! #[derive(Debug)]
//! struct Token;
//!
//! #[async_trait::async_trait]
//! impl PasswordSource for Token {
//!     async fn password(&self) -> Result<String, String> {
//!         Err("ask the service here".to_owned())
//!     }
//! }
//!
//! # async fn look() -> Result<(), dr_core::ProviderError> {
//! let mut target = Target::managed("neu", "neu.example.net", 5432, "dr", "dr");
//! target.password = Some(Password::asked(Arc::new(Token)));
//! let probe = Probe::new("orders", target);
//! println!("{:?}", probe.position().await?);
//! # Ok(())
//! # }
//! ```

mod act;
mod application;
mod client;
mod conninfo;
mod error;
mod lag;
mod login;
mod look;
mod lsn;
mod names;
mod probe;
mod reading;
mod sequences;
mod target;
mod tls;
mod watch;

pub use act::{Probed, Written, identifier, literal};
pub use application::{ApplicationLogin, REPLAYS};
pub use client::{Link, Param, Session, TextRow};
pub use conninfo::{BadConnInfo, ConnInfo};
pub use error::{Effect, PgError};
pub use lag::{is_row_of, primary_of, replication};
pub use login::{Access, Lifted, LoginFence, lift_login_fences, marked_roles};
pub use look::{
    ClientSession, Custom, FRESH, Follows, Identity, LongTransaction, Reader, Receiver, Sender, Sequence, Setting,
    Slot, Sum, WrittenSince,
};
pub use lsn::{BadLsn, Fork, Lsn, Timeline, forks};
pub use names::{Addresses, Place, Resolver};
pub use probe::Probe;
pub use reading::{lineage, never, now, position, undone, unread};
pub use target::{Password, PasswordSource, Rights, SslMode, Target};
pub use watch::{SessionWatch, end_sessions, still_a_standby};
