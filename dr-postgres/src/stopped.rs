//! Whether a server that does not run any more is fenced: its log ends where it must, and nobody answers in its place.

use std::time::{Duration, Instant};

use dr_core::{
    Grade,
    contract::{FenceReading, Planes, Position},
};
use dr_sql::{Lsn, PgError, now, position};
use futures_util::future::join3;
use tokio::time::sleep;

use crate::{control_data::ControlData, log_end::LogEnd, member::Member, reach::Heard};

/// How a server ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Closing {
    /// There is no process.
    Gone,
    /// Its last checkpoint is written and no session is left; the process waits for its archiver or a sender.
    Archiving(i32),
}

/// What earlier looks found. A fresh one finds the same, and takes a moment longer.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    first: Option<First>,
    /// What the control file said when the end of the log was compared, and where it ends.
    compared: Option<(ControlData, LogEnd)>,
}

/// The first of the two looks in which nobody answered.
#[derive(Clone, Copy, Debug)]
enum First {
    /// It was made while the server was still stopping.
    WhileItStopped,
    At(Instant),
}

/// How far apart two looks lie at least.
const APART: Duration = Duration::from_millis(200);
/// No shutdown checkpoint is longer, page headers included.
const CHECKPOINT: u64 = 256;

impl Watch {
    /// How long the second look has to wait.
    fn wait(&self) -> Duration {
        match self.first {
            Some(First::WhileItStopped) => Duration::ZERO,
            Some(First::At(first)) => APART.saturating_sub(first.elapsed()),
            None => APART,
        }
    }
}

impl Member {
    /// The first look at the addresses, while the server stops: it answers with its own refusal, or not at all.
    pub(crate) async fn first_look(&self, watch: &mut Watch) {
        let system = match self.link.last_seen().await {
            Some(who) => Ok(who.system_identifier),
            None => self.server.control_data().await.map(|data| data.system_identifier),
        };
        let Ok(system) = system else { return };
        watch.first = match self.heard(system).await {
            Heard::Nothing | Heard::Changing(_) => Some(First::WhileItStopped),
            Heard::Something(_) | Heard::Writer(_) => None,
        };
    }

    /// The reading of a server that ended so.
    ///
    /// # Errors
    /// Something answers in its place that cannot be told from a primary, the directory is not the one that was written, or nobody
    /// can say.
    pub(crate) async fn stopped(&self, watch: &mut Watch, end: Closing) -> Result<FenceReading, PgError> {
        let server = &self.server;
        let data = server.control_data().await?;
        if watch.compared.as_ref().is_none_or(|(compared, _)| *compared != data) {
            *watch = Watch { first: watch.first.filter(|_| watch.compared.is_none()), compared: None };
        }
        let mut reading = FenceReading {
            unread: Vec::new(),
            address: Some(self.address()),
            identity: Some(crate::member::identity(&data.lineage())),
            lineage: Some(data.lineage()),
            planes: Planes::default(),
            silent: false,
            end: None,
            lapses_at: None,
            detail: words(&data, end),
            at: now(),
        };
        let first_time = watch.compared.is_none();
        let peers = async { if first_time { self.peer_identities().await } else { Vec::new() } };
        let log = async {
            match &watch.compared {
                Some((_, end)) => Ok(*end),
                None if data.is_clean_primary_stop() => Ok(clean_end(&data)),
                None => server.log_end(&data).await,
            }
        };
        let (peers, log, heard) = join3(peers, log, self.heard(data.system_identifier)).await;
        let log = log?;
        if let Some(why) = self.ends_too_early(&data, &log, &peers).await {
            return Err(PgError::Refused { server: self.name.to_string(), why });
        }
        watch.compared = Some((data.clone(), log));
        let heard = self.heard_twice(watch, end, heard, data.system_identifier).await?;
        if let Some(writer) = heard {
            reading.detail = format!("NOT FENCED: {writer}, although {}", reading.detail);
            return Ok(reading);
        }
        reading.planes = Planes::all(Grade::Confirmed);
        reading.planes.restart = self.restart_grade().await?;
        reading.silent = true;
        // A standby's log ends where its primary's was read last: that is the end of nobody's history.
        reading.end = (!data.state.is_standby()).then(|| last_position(&data, &log));
        Ok(reading)
    }

    /// The primary that answers in the member's place, if one does; an error if nobody can say.
    async fn heard_twice(
        &self,
        watch: &mut Watch,
        end: Closing,
        mut heard: Heard,
        system: u64,
    ) -> Result<Option<String>, PgError> {
        loop {
            let again = |why: String| Err(PgError::Late { server: self.name.to_string(), what: why, after: APART });
            match (heard, end) {
                (Heard::Writer(writer), _) => {
                    watch.first = None;
                    return Ok(Some(writer));
                }
                (Heard::Something(what), _) => {
                    watch.first = None;
                    return again(format!("fall silent ({what}, which is no proof of a stop)"));
                }
                (Heard::Changing(what), Closing::Gone) => {
                    watch.first = None;
                    return again(format!("fall silent ({what}, and its own process is gone)"));
                }
                (Heard::Nothing, _) | (Heard::Changing(_), Closing::Archiving(_)) => {}
            }
            let wait = watch.wait();
            if wait.is_zero() {
                return Ok(None);
            }
            watch.first.get_or_insert_with(|| First::At(Instant::now()));
            sleep(wait).await;
            heard = self.heard(system).await;
        }
    }

    async fn restart_grade(&self) -> Result<Grade, PgError> {
        let server = &self.server;
        if server.control().read(&server.data("standby.signal")).await?.is_some() {
            return Ok(Grade::Confirmed);
        }
        let masked = server.site().unit.is_some() && server.supervisor_disabled().await?;
        Ok(if masked { Grade::Enforced } else { Grade::Partial })
    }

    /// Why this directory is not the one that the primary wrote last, if its log ends before a position that was seen.
    async fn ends_too_early(
        &self,
        data: &ControlData,
        log: &LogEnd,
        peers: &[(String, dr_sql::Identity)],
    ) -> Option<String> {
        let same =
            |who: &dr_sql::Identity| who.system_identifier == data.system_identifier && who.timeline == data.timeline;
        let seen = self.link.last_seen().await.filter(|who| same(who) && !who.in_recovery);
        let mine = seen.map(|who| (format!("`{}` was seen to write at", self.name), who.position));
        let theirs = peers.iter().filter(|(_, who)| same(who) && who.in_recovery);
        let theirs = theirs.map(|(name, who)| (format!("`{name}` has received"), who.durable));
        let (who, at) = mine.into_iter().chain(theirs).find(|(_, at)| *at > log.furthest())?;
        let (place, end) = (self.server.site().data.display(), log.last);
        Some(format!(
            "the log in {place} ends at {end}, and {who} {at}: the directory is not the one that the server wrote (a copy, a snapshot, \
             another mount), so nothing that it says proves a stop; correct `data`, or stop and prove the server by hand"
        ))
    }
}

/// The end of a clean stop: the shutdown checkpoint is the last record.
fn clean_end(data: &ControlData) -> LogEnd {
    LogEnd { last: data.checkpoint, blank_from: Some(Lsn::new(data.checkpoint.bytes().saturating_add(CHECKPOINT))) }
}

/// The first position that only a server which replayed the last record has passed.
fn last_position(data: &ControlData, log: &LogEnd) -> Position {
    position(data.system_identifier, Lsn::new(log.last.bytes().saturating_add(1)))
}

fn words(data: &ControlData, end: Closing) -> String {
    let state = match end {
        Closing::Gone => "stopped".to_owned(),
        Closing::Archiving(pid) => format!("process {pid} has written its last checkpoint and waits for its archiver"),
    };
    format!("{state}, control file says {:?}, last checkpoint {}", data.state, data.checkpoint)
}
