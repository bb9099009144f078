//! What an engine answers when it does not do what was asked.

use dr_core::{
    RunId, Timestamp,
    base::{Refusal, ResourceAddress},
    run::{AnswerRefused, Ask, DriveError, GuardError, JournalError, LeaseError},
    show::NotReportable,
};

use crate::{group_file::GroupFileError, store::OpenError};

/// Why an engine did not do what was asked. Unless a variant says otherwise, nothing was changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The journal or the leases cannot be opened.
    #[error(transparent)]
    Open(Box<OpenError>),
    /// The engine needs tokio and is not inside it.
    #[error("an engine is started inside a tokio runtime; there is none here")]
    NoRuntime,
    /// The group file does not do.
    #[error(transparent)]
    Group(GroupFileError),
    /// A rule or a runbook says no.
    #[error(transparent)]
    Refused(Refusal),
    /// Another run works on one of the resources.
    #[error(
        "{key} is held by {run} ({by}, since {since}); watch it, wait for it, resume it, or end it early if nobody waits for the rest"
    )]
    Busy {
        /// The resource.
        key: ResourceAddress,
        /// The run that holds it.
        run: RunId,
        /// Who drives that run.
        by: String,
        /// Since when.
        since: Timestamp,
    },
    /// There is no such run.
    #[error("there is no run {0}; `dr list` shows those that exist")]
    UnknownRun(RunId),
    /// The debt cannot be closed.
    #[error("{id} is not closed: {why}")]
    Debt {
        /// Its name.
        id: dr_core::run::DebtId,
        /// Why not.
        why: String,
    },
    /// The run is over.
    #[error("{0} is over; its report says how")]
    Over(RunId),
    /// This engine drives the run already.
    #[error("{0} is driven by this engine already")]
    Driven(RunId),
    /// An answer does not count.
    #[error("{refused}")]
    Answer {
        /// The rule that it breaks.
        refused: AnswerRefused,
        /// What is asked now, if something is.
        ask: Option<Box<Ask>>,
    },
    /// The group that a plan was made for is not known here any more.
    #[error("the group of {run} is not kept in this journal; resume the run with the journal it was planned with")]
    GroupGone {
        /// The run, or the group's name before there is one.
        run: String,
    },
    /// The drain guard could not be started, so the run turns back without having changed anything.
    #[error("the drain guard of {run} could not be started")]
    Guard {
        /// The run.
        run: RunId,
        /// Why.
        #[source]
        source: Box<GuardFailure>,
    },
    /// The journal cannot be used.
    #[error(transparent)]
    Journal(Box<JournalError>),
    /// The lease store cannot be used.
    #[error(transparent)]
    Lease(Box<LeaseError>),
    /// The run is not driven any more although it is not over; it can be resumed.
    #[error(transparent)]
    Stopped(std::sync::Arc<DriveError>),
    /// The engine's own code failed while it drove the run; it can be resumed.
    #[error("the driver of {run} failed ({what}); the run is as the journal says and can be resumed")]
    Bug {
        /// The run.
        run: RunId,
        /// What the failure said.
        what: String,
    },
    /// The records do not make a report.
    #[error(transparent)]
    Report(Box<NotReportable>),
}

/// Why there is no drain guard.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GuardFailure {
    /// The program could not be started.
    #[error("`{program}` could not be started")]
    Spawn {
        /// The program.
        program: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The program did not say in time that it is ready.
    #[error("`{program}` did not say that it is ready; it said: {said}")]
    NotReady {
        /// The program.
        program: String,
        /// What it said.
        said: String,
    },
    /// The guard itself cannot work.
    #[error(transparent)]
    Guard(GuardError),
}

impl Error {
    /// Whether a rule, a person's right or another run stands in the way, rather than a failure.
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        match self {
            Self::Refused(_) | Self::Busy { .. } | Self::Answer { .. } | Self::Over(_) | Self::Driven(_) => true,
            Self::Open(_)
            | Self::NoRuntime
            | Self::Group(_)
            | Self::UnknownRun(_)
            | Self::Debt { .. }
            | Self::GroupGone { .. }
            | Self::Guard { .. }
            | Self::Journal(_)
            | Self::Lease(_)
            | Self::Stopped(_)
            | Self::Bug { .. }
            | Self::Report(_) => false,
        }
    }
}

impl From<OpenError> for Error {
    fn from(error: OpenError) -> Self {
        Self::Open(Box::new(error))
    }
}

impl From<GroupFileError> for Error {
    fn from(error: GroupFileError) -> Self {
        Self::Group(error)
    }
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<JournalError> for Error {
    fn from(error: JournalError) -> Self {
        match error {
            JournalError::Unknown(run) => Self::UnknownRun(run),
            error @ (JournalError::Fenced { .. }
            | JournalError::Conflict { .. }
            | JournalError::Store { .. }
            | JournalError::Corrupt { .. }) => Self::Journal(Box::new(error)),
        }
    }
}

impl From<LeaseError> for Error {
    fn from(error: LeaseError) -> Self {
        match error {
            LeaseError::Busy { key, run, holder, since } => Self::Busy { key, run, by: holder, since },
            error @ (LeaseError::Lost { .. } | LeaseError::Store { .. }) => Self::Lease(Box::new(error)),
        }
    }
}

impl From<DriveError> for Error {
    fn from(error: DriveError) -> Self {
        Self::Stopped(std::sync::Arc::new(error))
    }
}

impl From<NotReportable> for Error {
    fn from(error: NotReportable) -> Self {
        Self::Report(Box::new(error))
    }
}
