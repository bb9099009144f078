//! Simulated cloud, virtual time, fault injection and invariants.
//!
//! ```text
//!   your engine ──► Providers (SimCloud) ──► numbered fault point ──► World: ground truth, laws, truth log
//!        │
//!        └──► VirtualRuntime, MemoryJournal, MemoryLeases: the same driver loop, without a real clock or a disk
//! ```

mod cloud;
mod crash;
mod explore;
mod group;
mod journal;
mod lease;
#[cfg(feature = "mocks")]
pub mod mocks;
mod runtime;
mod service;
pub mod stores;
pub mod trials;
mod truth;
mod world;

pub use cloud::{
    BadFault, Broken, CallKind, CallRecord, Drift, Fault, FaultPlan, OpenError, SimBackend, SimCloud, Tweak,
};
pub use crash::CrashSwitch;
pub use explore::{Explorer, Failure, Played, RunEnd, Stage, Verdict, sim};
pub use group::policy;
pub use journal::{JournalTrouble, MemoryJournal};
pub use lease::MemoryLeases;
pub use runtime::{Halt, VirtualRuntime};
pub use service::{ServiceError, SimService};
pub use truth::{AppTruth, EndState, MemberTruth, Truth};
pub use world::{
    Access, Careless, ChangeKind, Condition, Edges, Ended, EndpointMoves, FailsHow, Flavour, FormerLife, Keeps,
    LagSource, Law, MemberSetup, Place, Preset, Service, Setup, Timing, TruthLine, Violation, Write,
};
