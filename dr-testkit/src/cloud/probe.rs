//! The data plane of a simulated member: the truth from inside, if it can be reached.

use std::collections::BTreeMap;

use async_trait::async_trait;
use dr_core::{
    DatabaseProbe, MemberId, Millis, ProviderError, Timestamp, Tri,
    base::{Int64, canonical},
    contract::{
        LongTransaction, Parted, Position, PositionReading, Query, Rows, Sequences, Sessions, Table, TableSum, Tier,
        WriteProbe, WritesSince,
    },
};

use super::{
    database::{gone, position},
    line::{Line, Plane, Point},
};
use crate::{truth::MemberTruth, world::applied};

/// The sequence that numbers the rows of the applications.
pub(crate) const SEQUENCE: &str = "public.orders_id_seq";

#[derive(Clone, Debug)]
pub(crate) struct SimProbe {
    pub(crate) line: Line,
    pub(crate) member: MemberId,
}

impl SimProbe {
    fn point(&self, verb: &str) -> Point {
        Point::read(format!("{}.probe.{verb}", self.member), Plane::Data(self.member.clone()))
    }
}

#[async_trait]
impl DatabaseProbe for SimProbe {
    async fn write(&self) -> Result<WriteProbe, ProviderError> {
        // Silence is an answer here: nobody can say whether it would have been accepted.
        let silence = |at| WriteProbe {
            accepted: Tri::Unknown,
            lineage: None,
            detail: "no answer".to_owned(),
            at: Timestamp::from_millis(at),
        };
        let written = self.line.read(self.point("write"), "write", |world, glass| {
            let found = world.instances.get(&self.member).ok_or_else(|| gone("write", &self.member))?;
            let at = Timestamp::from_millis(world.now);
            let (lineage, told) = (found.lineage.clone(), world.told(&found.lineage));
            let no = |why: &str| WriteProbe { accepted: Tri::No, lineage: None, detail: why.to_owned(), at };
            if glass.contradicts {
                return Ok(silence(world.now));
            }
            if found.denied {
                return Ok(no("login refused"));
            }
            if found.follows.is_some() {
                return Ok(no("25006: cannot execute in a read-only transaction"));
            }
            if !world.can_commit(found) {
                return Ok(no("the storage refuses writes"));
            }
            let now = world.now;
            if let Some(history) = world.histories.get_mut(&lineage) {
                history.record(now, 72);
            }
            Ok(WriteProbe { accepted: Tri::Yes, lineage: Some(told), detail: "committed".to_owned(), at })
        });
        match written.await {
            Err(ProviderError::Unreachable { .. }) => Ok(silence(self.line.cloud.look(|truth| truth.now()))),
            other => other,
        }
    }

    async fn position(&self) -> Result<PositionReading, ProviderError> {
        self.line
            .read(self.point("position"), "position", |world, glass| {
                if !world.setup.service.positions {
                    return Err(ProviderError::Unsupported { verb: "position" });
                }
                let found = world.instances.get(&self.member).ok_or_else(|| gone("position", &self.member))?;
                let received = world.received_at(found, glass.at);
                let told = world.told_of(&found.name, found.follows.is_some(), &found.lineage);
                let at = |value| position(&told, value);
                let parent = world.histories.get(&found.lineage).and_then(|history| history.parent.clone());
                let parent = parent.filter(|(parent, _)| parent.system == found.lineage.system);
                // The server of a logical copy is never in recovery.
                let recovery = (found.follows.is_some() && !world.setup.service.copies) != glass.contradicts;
                Ok(PositionReading {
                    lineage: told.clone(),
                    in_recovery: Tri::from(recovery),
                    durable: at(received),
                    applied: at(applied(found, received)),
                    parted_at: parent.map_or_else(
                        || Parted::untold("the history has no parent"),
                        |(_, parted)| Parted::At(position(&found.lineage, parted)),
                    ),
                    tier: Tier::Server,
                    at: Timestamp::from_millis(glass.at),
                })
            })
            .await
    }

    async fn extensions(&self) -> Result<BTreeMap<String, String>, ProviderError> {
        self.line
            .read(self.point("extensions"), "extensions", |world, _| {
                let found = world.instances.get(&self.member).ok_or_else(|| gone("extensions", &self.member))?;
                Ok(found.extensions.clone())
            })
            .await
    }

    async fn available_extensions(&self) -> Result<BTreeMap<String, Vec<String>>, ProviderError> {
        self.line
            .read(self.point("available-extensions"), "available-extensions", |world, _| {
                let found = world.instances.get(&self.member).ok_or_else(|| gone("extensions", &self.member))?;
                Ok(found.available.clone())
            })
            .await
    }

    async fn long_transactions(&self, limit: Millis) -> Result<Vec<LongTransaction>, ProviderError> {
        self.line
            .read(self.point("long-transactions"), "long-transactions", |world, _| {
                let found = world.instances.get(&self.member).ok_or_else(|| gone("long-transactions", &self.member))?;
                Ok(found.long_transactions.iter().filter(|open| open.age > limit).cloned().collect())
            })
            .await
    }

    async fn writing_sessions(&self) -> Result<Sessions, ProviderError> {
        self.line.read(self.point("sessions"), "sessions", |world, _| Ok(world.writing_sessions(&self.member))).await
    }

    async fn writes_since(&self, since: &Position) -> Result<WritesSince, ProviderError> {
        self.line
            .read(self.point("writes-since"), "writes-since", |world, glass| {
                if !world.setup.service.positions {
                    return Err(ProviderError::Unsupported { verb: "writes-since" });
                }
                let found = world.instances.get(&self.member).ok_or_else(|| gone("writes-since", &self.member))?;
                let told = world.told_of(&found.name, found.follows.is_some(), &found.lineage);
                if since.system != told.system {
                    let why = format!("{since} is no position of system {}", told.system);
                    return Err(ProviderError::Refused { verb: "writes-since", why });
                }
                let end = applied(found, world.received_at(found, glass.at));
                let history = world.histories.get(&found.lineage);
                let until = |position| history.map_or(0, |history| history.writes_until(position));
                let count = until(end).saturating_sub(until(since.value));
                let (written, detail) = match count {
                    _ if end < since.value => (Tri::Unknown, format!("the member is at {end}, not there yet")),
                    0 => (Tri::No, "nobody wrote".to_owned()),
                    count => (Tri::Yes, format!("{count} writes of clients")),
                };
                Ok(WritesSince { written, detail, at: Timestamp::from_millis(glass.at) })
            })
            .await
    }

    async fn sequences(&self) -> Result<Sequences, ProviderError> {
        self.line
            .read(self.point("sequences"), "sequences", |world, glass| {
                let found = world.instances.get(&self.member).ok_or_else(|| gone("sequences", &self.member))?;
                let last = world.sequence_at(found, applied(found, world.received_at(found, glass.at)));
                let last = Some(Int64(last)).filter(|last| last.0 > 0);
                let values = [(SEQUENCE.to_owned(), last)].into();
                Ok(Sequences { values, ..Sequences::none(Timestamp::from_millis(glass.at)) })
            })
            .await
    }

    async fn checksum(&self, tables: &[Table]) -> Result<BTreeMap<Table, TableSum>, ProviderError> {
        self.line
            .read(self.point("checksum"), "checksum", |world, glass| {
                let found = world.instances.get(&self.member).ok_or_else(|| gone("checksum", &self.member))?;
                let rows = world.rows_at(found, applied(found, world.received_at(found, glass.at)));
                let sum = |table: &Table| match table.to_string().as_str() {
                    "public.orders" => {
                        let of = canonical::sha256(format!("{} {rows}", found.lineage.system).as_bytes());
                        Ok((table.clone(), TableSum { rows: Int64(rows), sum: of }))
                    }
                    other => {
                        let why = format!("there is no table {other}");
                        Err(ProviderError::Refused { verb: "checksum", why })
                    }
                };
                tables.iter().map(sum).collect()
            })
            .await
    }

    async fn ask(&self, query: &Query) -> Result<Rows, ProviderError> {
        let answer = self.line.cloud.answer_to(&query.name);
        self.line
            .read(self.point(&format!("ask.{}", query.name)), "ask", |world, _| {
                let world = &*world;
                let instance = world.instances.get(&self.member).ok_or_else(|| gone("ask", &self.member))?;
                let why = || format!("the simulated cloud has no answer to `{}`; give it one", query.name);
                let answer = answer.ok_or_else(|| ProviderError::Refused { verb: "ask", why: why() })?;
                Ok(answer(&MemberTruth { world, instance }))
            })
            .await
    }

    async fn warm_up(&self) -> Result<Millis, ProviderError> {
        self.line.read(self.point("warm-up"), "warm-up", |world, _| Ok(world.setup.timing.read.0)).await
    }

    async fn group_lock(&self, holder: &str) -> Result<bool, ProviderError> {
        self.line
            .read(self.point("group-lock"), "group-lock", |world, _| {
                let found = world.instances.get_mut(&self.member).ok_or_else(|| gone("group-lock", &self.member))?;
                let free = found.lock_holder.as_deref().is_none_or(|held| held == holder);
                if free {
                    found.lock_holder = Some(holder.to_owned());
                }
                Ok(free)
            })
            .await
    }
}
