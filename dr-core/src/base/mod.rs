//! What everything else is said in: identifiers, times, canonical JSON, texts, findings.

pub mod canonical;
mod finding;
pub(crate) mod id;
pub mod text;
pub(crate) mod time;

pub use canonical::{CanonicalError, Int64, Json};
pub use finding::{
    Finding, Refusal,
    known::{self, Known},
};
pub use id::{
    Actor, BadDigest, BadKind, BadRunId, BindingName, Digest, Endpoint, Epoch, GroupName, IdempotencyKey, Identity,
    Kind, MemberId, NodeId, Region, ResourceAddress, ResourceIdentity, Role, RunId, RunbookId, SecretVersion, SystemId,
};
pub use time::{Millis, Mono, Timestamp, millis, minutes, seconds};
