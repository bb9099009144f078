//! What people see of a run: views and reports.

mod report;
pub(crate) mod view;

pub use report::{Measured, Moment, NotReportable, PhaseName, PhaseTook, Report};
pub use view::{Eta, HeldView, Progress, Sentence, Standing, StepTook, StepView, View, took};
