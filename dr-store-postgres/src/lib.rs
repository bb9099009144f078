//! A store that several hosts share: journal, leases and registry in one schema of a PostgreSQL database.
//!
//! ```text
//!   engine on host a ──┐                        runs    epoch, end of each run          one row lock per append
//!                      ├──► PostgreSQL, schema  lines   the records, chained by hash
//!   engine on host b ──┘                        inbox   requests of people
//!                                               leases  one row per resource: epoch, run, holder, until when
//!                                               …       groups, writers, samples, notices, closed debts
//! ```
//!
//! *Guarantees.* Those of [`Journal`](dr_core::run::Journal), [`LeaseStore`](dr_core::run::LeaseStore) and
//! [`Registry`](dr_core::run::Registry); the trials of `dr_testkit::stores` hold it to them on a real server.
//!
//! - **One statement appends**, under the row lock of its run: it stores the lines where the epoch is the caller's, the end is where the
//!   caller says, and the last line is the one that the new lines name. A statement that was given up and arrives late finds another epoch
//!   or another end, and stores nothing.
//! - **A lost answer is looked up.** A connection that ends in the middle of a call is replaced and the call is made once more; each of them
//!   has the same effect twice as once, and what the first one did counts. A server that does not answer is an error after
//!   [`Target::answer_within`](dr_sql::Target::answer_within).
//! - **A lease lasts by two clocks.** The holder counts from before it asked, by its own monotonic clock. The server keeps the lease half as
//!   long again by its own, so that its clock may be set forward by that much, and a standby that takes its place may be ahead by that much.
//!
//! *Assumptions.* The address leads to one server that writes, never to two. If that server has a standby which may take its place, the
//! standby is synchronous (`synchronous_standby_names`): one that lacks the last lines would let a run go on that has forgotten what it did.
//! An engine that knows of lines which the server has not is refused by the chain, and stops.
//! The database is none of those that are moved: the engine refuses such plans (DR608), unless the role may not read the system's identifier
//! (`pg_control_system()`).
//!
//! Five connections per engine; the role owns the schema. Whoever may write to it can do what an engine can: give the role to engines alone.
//!
//! ```no_run
//! use dr_engine::Engine;
//! use dr_sql::{Password, SslMode, Target};
//! use dr_store_postgres::PostgresStore;
//!
//! # async fn open() -> Result<(), Box<dyn std::error::Error>> {
//! let mut target = Target::new("dr store", "store.example.net", 5432, "dr_engine").with_database("dr");
//! target.password = Some(Password::file("/etc/dr/store.password"));
//! target.ssl = SslMode::VerifyFull;
//! target.root_cert = Some("/etc/dr/store-ca.pem".into());
//! let store = PostgresStore::at(target).open().await?;
//! let engine = Engine::over(store).start().await?; // with backends, steps, notifiers as ever
//! # drop(engine);
//! # Ok(())
//! # }
//! ```

mod door;
mod error;
mod journal;
mod leases;
mod registry;
mod schema;
mod store;

pub use error::OpenError;
pub use store::{Opening, PostgresStore};
