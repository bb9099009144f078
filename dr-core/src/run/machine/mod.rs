//! The run machine: pure. Events in, state out; state in, commands out. Time enters only through events.
//!
//! ```text
//!   journal ──lines──► Record ──apply──► RunState ──decide──► Vec<Command>
//!      ▲                                                          │
//!      └───────────── events ◄── driver loop ◄── handlers ◄───────┘
//! ```

mod apply;
mod decide;
mod event;
mod state;
mod table;

pub use apply::Illegal;
pub use decide::{Command, decide};
pub use event::{BadRecord, Event, EventKind, RECORD_VERSION, Record, RunOutcome};
pub use state::{HeldThing, NodePhase, NodeState, Phase, RunState};
pub use table::{Does, NodeDoes, NodeRow, NodeWhen, Row, When, node_rows, run_rows};
