//! What is tried and compared while everything still runs, so that nothing of it is found out after writes were stopped.
//!
//! ```text
//!   plan      effort Look   reads only; what speaks against the change refuses the plan
//!   run       effort Try    before people are asked, and once more before the drain
//! ```

use serde::{Deserialize, Serialize};

use crate::base::{Endpoint, MemberId};

/// How far a rehearsal may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Effort {
    /// Reads and logs in, and leaves everything as it is. For planning and checks.
    Look,
    /// Also writes a file back as it is, makes a program read its unchanged configuration again, writes and removes a file of its
    /// own. For a run. Nothing that an application could notice.
    Try,
}

/// Which changes an [`Obstacle`] stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Weight {
    /// A planned change is refused; a forced one goes on and says so, because the primary is gone already.
    Planned,
    /// No application could write after the change, or two members could: a forced change is refused too.
    Always,
}

/// One reason why the change would end badly, found before anything was changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Obstacle {
    /// Which changes it stops.
    pub weight: Weight,
    /// What is wrong, with names and values.
    pub what: String,
    /// What would happen.
    pub why: String,
    /// What a person does about it, as a command where there is one.
    pub helps: String,
}

/// Something that the change drops although no acknowledged write of the log is lost: unlogged rows, a logical slot.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Dropped {
    /// What, without figures that change by themselves: people agree to these words, and a new one asks them again.
    pub what: String,
    /// How much, as counted now.
    pub detail: String,
}

/// What a rehearsal found. Nothing found and nothing untried means that the part is ready.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rehearsal {
    /// What speaks against the change.
    pub obstacles: Vec<Obstacle>,
    /// What the change drops.
    pub drops: Vec<Dropped>,
    /// What could not be tried, and why: people see it before they agree.
    pub untried: Vec<String>,
}

impl Rehearsal {
    /// A part that can try nothing, and why.
    #[must_use]
    pub fn untried(why: impl Into<String>) -> Self {
        Self { untried: vec![why.into()], ..Self::default() }
    }

    /// Adds a reason against every planned change.
    pub fn planned(&mut self, what: impl Into<String>, why: impl Into<String>, helps: impl Into<String>) {
        let (what, why, helps) = (what.into(), why.into(), helps.into());
        self.obstacles.push(Obstacle { weight: Weight::Planned, what, why, helps });
    }

    /// Adds a reason against every change, forced ones included.
    pub fn always(&mut self, what: impl Into<String>, why: impl Into<String>, helps: impl Into<String>) {
        let (what, why, helps) = (what.into(), why.into(), helps.into());
        self.obstacles.push(Obstacle { weight: Weight::Always, what, why, helps });
    }

    /// Adds something that the change drops.
    pub fn drops(&mut self, what: impl Into<String>, detail: impl Into<String>) {
        self.drops.push(Dropped { what: what.into(), detail: detail.into() });
    }

    /// Adds everything that another rehearsal found.
    pub fn extend(&mut self, other: Self) {
        self.obstacles.extend(other.obstacles);
        self.drops.extend(other.drops);
        self.untried.extend(other.untried);
    }
}

/// What a member will be after the change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Becomes {
    /// The writer, in place of this member.
    Writer {
        /// The present writer.
        instead_of: MemberId,
    },
    /// A standby of this member, after it was fenced.
    Standby {
        /// The coming writer.
        of: MemberId,
    },
}

/// Asks a member to rehearse its part.
#[derive(Clone, Debug)]
pub struct RehearseMember {
    /// What it will be.
    pub becomes: Becomes,
    /// How far to go.
    pub effort: Effort,
}

/// Asks a route to rehearse its part.
#[derive(Clone, Debug)]
pub struct RehearseRoute {
    /// The present writer, where the route leads now.
    pub from: MemberId,
    /// The coming writer.
    pub to: MemberId,
    /// How far to go.
    pub effort: Effort,
}

/// Asks a secret store to rehearse its part.
#[derive(Clone, Debug)]
pub struct RehearseSecret {
    /// The present writer's endpoint, which the secret names now.
    pub from: Endpoint,
    /// The coming writer's.
    pub to: Endpoint,
    /// How far to go.
    pub effort: Effort,
}
