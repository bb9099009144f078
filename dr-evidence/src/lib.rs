//! Evidence of runs: a record that anybody verifies offline, without us.
//!
//! ```text
//!   journal lines ──seal──► bundle (a directory) ──Verifier──► findings, each with its place
//! ```
//!
//! The formats are public ones, and the code that reads them is held to vectors that others published:
//!
//! | module | standard |
//! |---|---|
//! | [`strict`] | canonical JSON, RFC 8785, without a second reading |
//! | [`tree`] | Merkle tree, RFC 6962 and RFC 9162 |
//! | [`key`], [`note`] | Ed25519, RFC 8032, verified strictly; signed notes and checkpoints, C2SP |
//! | [`dsse`] | DSSE envelopes over in-toto Statement v1 |
//! | [`bundle`] | what lies where, and how a run is sealed |
//! | [`recorder`] | sealing while a run goes on, and at its end |
//! | [`verify`] | what a reader checks, and what the answer names |

mod b64;
pub mod bundle;
#[cfg(feature = "cli")]
pub mod cli;
pub mod dsse;
pub mod input;
pub mod key;
pub mod note;
pub mod recorder;
pub mod strict;
pub mod tree;
pub mod verify;

pub use bundle::{Bundle, RunKey, Sealing, seal};
pub use key::{PublicKey, SecretKey};
pub use recorder::Recorder;
pub use verify::{Class, Code, Finding, Verdict, Verifier};
