//! What a group file says: which databases follow each other, where they live, what may be touched and who may say yes.
//!
//! ```text
//!  group file ──parse──► JSON ──read──► GroupSpec ──check──► findings
//!  (dr-engine)                            │  └ at tables: the backend's own, read by it with AtTable::read
//!                                         └ digest: what a plan pins
//! ```
//!
//! Who writes is in no file: it is looked up, because it changes. A member's `role` only says what it may become. Durations have units, secrets are named and never
//! written, unknown keys are refused.

mod at;
mod check;
mod config;
mod pattern;
mod reader;
mod secret;
mod short;
mod spec;
mod window;

pub use at::AtTable;
pub use check::GroupFinding;
pub use config::{ConfigError, ConfigFault, Key, KeyPath};
pub use pattern::{FoundPattern, SecretPattern};
pub use reader::read;
pub use secret::{BadSecretRef, SecretRef, written_secret};
pub use spec::{
    AllowSpec, AppSpec, ApplicationSpec, ApprovalSpec, AutomaticSpec, BackendName, DrainSpec, FenceSpec, GroupSpec,
    IntendedRole, LimitsSpec, MemberSpec, Notices, NotifySpec, ObjectivesSpec, ProbeSpec, SecretSpec, Serves,
    TrafficSpec,
};
pub use window::{BadWindow, Window};
