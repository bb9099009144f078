//! What a run is and how it goes on: journal, machine, driver, questions.

mod ask;
pub mod chain;
mod debt;
mod drain_guard;
mod driver;
mod journal;
mod machine;
mod registry;
mod store;

pub use ask::{APPROVE, Answer, AnswerRefused, Ask, AskKind, Choice, REJECT, Request, decided, judge};
pub use debt::{Closed, Debt, DebtId, DebtKind};
pub use drain_guard::{DrainGuard, GuardEnd, GuardError, Pulse, ReadyGuard};
pub use driver::{Drive, DriveError, begin, drive, lease_keys, replay};
pub use journal::{Head, InboxRow, Journal, JournalError, Lease, LeaseError, LeaseRequest, LeaseStore, Line};
pub use machine::{
    BadRecord, Command, Does, Event, EventKind, HeldThing, Illegal, NodeDoes, NodePhase, NodeRow, NodeState, NodeWhen,
    Phase, RECORD_VERSION, Record, Row, RunOutcome, RunState, When, decide, node_rows, run_rows,
};
pub use registry::{KeptGroup, LastWriter, Registry, SAMPLES_KEPT};
pub use store::Store;
