//! How a member can be otherwise than it looks: where its fence reaches, whom it lets in, what it remembers of a former life, what only
//! it has.

use dr_core::MemberId;
use serde::{Deserialize, Serialize};

use super::{ChangeKind, History, Instance, Law, Reply, World};

/// What a fence on the host finds in the directory that it was told. What answers at the member's address is its server.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Place {
    /// The directory of the server.
    Own,
    /// An older copy of that directory: its files tell of the same history, and no server runs in it.
    Copy,
    /// A directory in which no server runs, and whose files tell nothing.
    Nobody,
    /// The directory of another member.
    Of(MemberId),
}

/// What the role of the applications meets on a member. The toolkit has a role of its own, which notices nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Access {
    /// It may log in and write.
    Open,
    /// The member's rules let it not log in.
    Refused,
    /// No connection is left for it.
    Full,
    /// It may log in, and its transactions are read-only by default.
    ReadOnly,
}

impl Access {
    /// What the server says to an application that wants to write, if it does not let it.
    #[must_use]
    pub const fn refusal(self) -> Option<&'static str> {
        match self {
            Self::Open => None,
            Self::Refused => Some("28000: no entry lets role `app` log in"),
            Self::Full => Some("53300: too many connections for role `app`"),
            Self::ReadOnly => Some("25006: cannot execute in a read-only transaction (default of role `app`)"),
        }
    }
}

/// Which settings of a former life take effect when a member is started as a standby.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FormerLife {
    /// None.
    None,
    /// A recovery target that is reached at once: it leaves recovery and takes writes.
    LeavesRecovery,
    /// It receives, and does not replay.
    DoesNotReplay,
    /// It does not start.
    DoesNotStart,
}

impl FormerLife {
    /// What is wrong with the settings, if anything is.
    #[must_use]
    pub const fn trouble(self) -> Option<&'static str> {
        match self {
            Self::None => None,
            Self::LeavesRecovery => {
                Some("a recovery target of a former life is still set: as a standby it would promote itself")
            }
            Self::DoesNotReplay => {
                Some("replay is paused by a setting of a former life: as a standby it would only receive")
            }
            Self::DoesNotStart => Some("a setting of a former life keeps it from starting as a standby"),
        }
    }
}

/// Something that a primary has beside its log, and that a promotion of another member therefore drops.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Keeps {
    /// Rows of an unlogged table.
    Unlogged {
        /// The table.
        table: String,
        /// How many.
        rows: u64,
    },
    /// A logical slot, and with it the place of whoever reads it.
    Slot {
        /// Its name.
        name: String,
    },
}

impl Keeps {
    /// What is dropped, without figures.
    #[must_use]
    pub fn what(&self) -> String {
        match self {
            Self::Unlogged { table, .. } => format!("the rows of the unlogged table `{table}`"),
            Self::Slot { name } => format!("the logical slot `{name}`"),
        }
    }

    pub(crate) fn detail(&self) -> String {
        match self {
            Self::Unlogged { rows, .. } => format!("{rows} rows"),
            Self::Slot { .. } => "its reader begins anew".to_owned(),
        }
    }

    /// How people are told that a silent member could not be asked for what only it has.
    pub(crate) fn uncounted(member: &MemberId) -> String {
        format!("what only `{member}` has beside its log cannot be read: it does not answer")
    }
}

/// A proof that a simulated backend leaves out. An honest one leaves out none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Careless {
    /// A fence acts on the directory that it was told, without seeing that the member's server runs there.
    ActsOnPlace,
    /// A fence reads the directory that it was told, and not what answers at the address.
    ReadsPlace,
    /// A rejoin goes on when the member has left recovery, and leaves it running.
    LeavesPromoted,
    /// Writes are let through again in all parts of the applications but the last.
    ResumesInPart,
}

/// The directory that a fence was told, where it is not the server's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Elsewhere {
    pub(crate) is: Place,
    /// The fence "stopped" what runs there.
    pub(crate) stopped: bool,
    /// Where the history ends that its files tell of.
    pub(crate) end: u64,
}

/// What a fence of a member really acts on.
pub(crate) enum Reached {
    /// A server: the member's, or by mistake another one's.
    Server(MemberId),
    /// No server.
    Nothing,
    /// The backend saw that the place is not the server's, and did nothing.
    Refused(Reply),
}

impl World {
    pub(crate) fn is_careless(&self, how: Careless) -> bool {
        self.careless.contains(&how)
    }

    /// The member's fence is told another directory than the server's from now on.
    pub(crate) fn put_place(&mut self, member: &MemberId, is: Place, by: &str) {
        let end = self.instances.get(member).map_or(0, |found| self.received_at(found, self.now));
        if let Some(found) = self.instances.get_mut(member) {
            let text = format!("the directory that its fence knows: {is:?}");
            found.elsewhere = (is != Place::Own).then_some(Elsewhere { is, stopped: found.stopped, end });
            self.line(by, ChangeKind::World, member, text);
        }
    }

    /// Somebody moves the member's directory and starts its server from there, with fresh settings: what its fence knows is the old
    /// place. A dead server stays dead.
    pub(crate) fn move_away(&mut self, member: &MemberId) {
        self.put_place(member, Place::Copy, "drift");
        self.end_sessions(member, |_| false);
        let Some(found) = self.instances.get_mut(member) else { return };
        let starts = found.stopped && !found.broken;
        found.denied = false;
        if starts {
            found.stopped = false;
            found.running = true;
            found.clean_end = None;
            found.lapses_at = None;
            self.line("drift", ChangeKind::Released, member, "started from another directory");
        }
    }

    /// What a part of the fence of `member` acts on, by the rules of an honest or a careless backend.
    pub(super) fn reach(&mut self, member: &MemberId, call: &str) -> Reached {
        let is = self.instances.get(member).and_then(|found| found.elsewhere.as_ref()).map(|place| place.is.clone());
        let Some(is) = is else { return Reached::Server(member.clone()) };
        if !self.is_careless(Careless::ActsOnPlace) {
            return Reached::Refused(Reply::Refused(not_the_server(member)));
        }
        match is {
            Place::Own => Reached::Server(member.clone()),
            Place::Of(other) => {
                self.violate(Law::S13, format!("{call} acts on {other}, which it does not name"));
                Reached::Server(other)
            }
            Place::Copy | Place::Nobody => Reached::Nothing,
        }
    }

    /// Marks what a fence did to a place in which no server runs.
    pub(super) fn at_place(&mut self, member: &MemberId, stopped: Option<bool>) -> Reply {
        let place = self.instances.get_mut(member).and_then(|found| found.elsewhere.as_mut());
        if let (Some(place), Some(stopped)) = (place, stopped) {
            place.stopped = stopped;
        }
        Reply::Done(String::new())
    }

    /// Why an application cannot write on a member through a new session, if so.
    pub(crate) fn keeps_out(&self, member: &MemberId) -> Option<&'static str> {
        let Some(found) = self.instances.get(member) else { return Some("no such host") };
        if !found.running || !self.clients_reach(member) {
            return Some("no connection");
        }
        if found.denied || self.carries(found) {
            return Some("login refused");
        }
        if found.follows.is_some() {
            return Some("25006: cannot execute in a read-only transaction (in recovery)");
        }
        if found.storage_fenced {
            return Some("the storage refuses writes");
        }
        found.access.refusal()
    }

    /// The member that was just attached as a standby leaves recovery by itself.
    pub(super) fn leaves_recovery(&mut self, member: &MemberId) {
        let Some(found) = self.instances.get(member) else { return };
        let (parent, at) = (found.lineage.clone(), self.received_at(found, self.now));
        let generation = self.histories.keys().map(|known| known.generation).max().unwrap_or(0).saturating_add(1);
        let lineage = dr_core::contract::Lineage { system: parent.system.clone(), generation };
        self.histories.insert(lineage.clone(), History::new(lineage.clone(), Some((parent, at)), at));
        if let Some(found) = self.instances.get_mut(member) {
            found.lineage = lineage.clone();
            found.follows = None;
            found.denied = false;
            found.stream.attached = false;
        }
        self.line("provider", ChangeKind::World, member, format!("left recovery by itself, on {lineage}"));
    }

    /// What only `member` has is gone with a promotion of another one.
    pub(super) fn drops(&mut self, member: &MemberId) {
        let kept = self.instances.get_mut(member).map(|found| std::mem::take(&mut found.keeps)).unwrap_or_default();
        for one in kept {
            self.line("provider", ChangeKind::World, member, format!("{} is gone", one.what()));
            self.gone.push((member.clone(), one));
        }
    }
}

/// What is said when the place of a fence is not the server's.
pub(crate) fn not_the_server(member: &MemberId) -> String {
    format!("the directory that the fence of `{member}` was told is not that of the server at its address")
}

/// How far a standby has applied its history, given how far it has received it.
pub(crate) fn applied(found: &Instance, received: u64) -> u64 {
    if found.follows.is_some() && !found.stream.replays { received.min(found.stream.floor) } else { received }
}
