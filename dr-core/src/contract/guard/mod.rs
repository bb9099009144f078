//! Receipts, proofs, and the one door between them.
//!
//! ```text
//!  provider ──► receipt (data: journal, evidence; never ages) ──► admit::… ──asks the provider again──► proof ──moved into──► request
//!                                   ▲                                                                (no Clone, no Deserialize,
//!                                   └── same path after a crash: a restart expires every proof         private fields, ages)
//! ```
//!
//! Everything that can mint a proof is in this module and its name begins with `admit::`.

pub mod admit;
mod proof;
mod receipt;
mod request;

pub use proof::{Attested, CaughtUp, Consented, Fenced, LossBounded, NotWriter, Quiesced, Waiver};
pub use receipt::{
    Accepted, AskedLoss, CatchUpReceipt, Consent, DrainReceipt, FenceReceipt, Given, Lack, LossBound, LossMeasurement,
    Origin, PromotionReceipt, QuiesceReceipt, RecoveryPoint, RestoreReceipt, Shape, Shortfall, Waived, WriterOrigin,
    WriterReceipt,
};
pub use request::{
    Certified, DestroyRequest, Ends, PromoteRequest, PromotionTerms, ReleaseGround, ReleaseOrder, SwapRequest,
};
