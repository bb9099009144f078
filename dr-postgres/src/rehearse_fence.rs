//! What is tried before a fence: that it reaches the server that answers, and that the server will end when it is told to.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use dr_sql::{Access, PgError, Session, Target};

use dr_core::{
    base::ResourceIdentity,
    contract::{Effort, Lineage, Rehearsal},
};

use crate::{
    hba::HbaFence,
    member::{Member, identity},
    place::{Evidence, Place},
    stop::MARK,
};

/// What a stop would wait for, as the server tells it.
#[derive(Debug, Default)]
struct Waits {
    /// How often archiving failed since it succeeded last, and the segment.
    failing: Option<String>,
    /// Segments that wait for the archive, and the age of the oldest.
    ready: Option<(i64, Duration)>,
    /// Senders whose standby has said nothing for long, in words.
    stuck: Vec<String>,
}

/// An archive that has not taken a finished segment for this long does not work.
const ARCHIVED_WITHIN: Duration = Duration::from_secs(60);
/// A standby says something every 10 s unless it is told otherwise.
const HEARD_WITHIN: Duration = Duration::from_secs(25);

#[async_trait]
impl Access for Member {
    fn target(&self) -> &Target {
        self.link.target()
    }

    fn identity(&self, lineage: &Lineage) -> Option<ResourceIdentity> {
        Some(identity(lineage))
    }

    async fn session(&self) -> Result<Arc<Session>, PgError> {
        self.link.session().await
    }

    async fn own_session(&self) -> Result<Arc<Session>, PgError> {
        self.own_session().await
    }

    async fn proved_session(&self) -> Result<Arc<Session>, PgError> {
        self.place().await.map(|(session, _)| session)
    }

    async fn rehearse(&self, found: &mut Rehearsal) -> Option<Arc<Session>> {
        self.rehearse_place(found).await.map(|(session, _)| session)
    }
}

impl Member {
    /// The proof of the place, or what speaks against it.
    async fn rehearse_place(&self, found: &mut Rehearsal) -> Option<(Arc<Session>, Place)> {
        let (name, data) = (&self.name, self.server.site().data.display());
        match self.place().await {
            Ok((session, place)) => {
                if let Evidence::Numbers(why) = &place.by {
                    found.untried.push(format!(
                        "that `{name}` works on {data} is known from process, port and control file only: {why}"
                    ));
                }
                Some((session, place))
            }
            Err(PgError::Refused { why, .. }) => {
                found.always(
                    format!("the place of `{name}` in the group file is not that of the server: {why}"),
                    "a stopped or exchanged directory would be taken for a fenced server, and two servers would write",
                    format!("correct `data`, `host`, `port`, `run` and `unit` of `{name}`; `SHOW data_directory` on the server names its directory"),
                );
                None
            }
            Err(e) => {
                found.planned(
                    format!("nobody can say whether `{name}` works on {data}: {}", e.chain()),
                    "its fence could not be engaged while writes are held back",
                    format!("make the host of `{name}` answer to the account that dr uses, as `run`, `ssh_key` and `systemctl` name it"),
                );
                None
            }
        }
    }

    /// Everything on the way of a clean stop.
    pub(crate) async fn rehearse_stop(&self, effort: Effort) -> Rehearsal {
        let mut found = Rehearsal::default();
        let Some((session, _)) = self.rehearse_place(&mut found).await else { return found };
        self.learn_addresses().await;
        match session.in_recovery().await {
            Ok(false) => {}
            // Only what writes is fenced.
            Ok(true) => return found,
            Err(e) => found.untried.push(e.chain()),
        }
        self.rehearse_signals(&mut found).await;
        if effort == Effort::Try {
            let trial = self.server.data("pgsql_tmp.dr-trial");
            let written = match self.server.control().write(&trial, MARK).await {
                Ok(()) => self.server.control().remove(&trial).await,
                Err(e) => Err(e),
            };
            if let Err(e) = written {
                self.against(&mut found, "`standby.signal` could not be written into its directory", &e);
            }
        }
        match self.waits(&session).await {
            Ok(waits) => self.foresee(&mut found, &waits),
            Err(e) => found.untried.push(format!("what a stop of `{}` would wait for: {}", self.name, e.chain())),
        }
        found
    }

    fn against(&self, found: &mut Rehearsal, what: &str, error: &PgError) {
        found.planned(
            format!("`{}`: {what}: {}", self.name, error.chain()),
            "the fence would fail while writes are held back",
            "make it possible for the account that owns the directory, and look again",
        );
    }

    /// A foreign signal file would make the server a standby at its next start; a foreign mask says that somebody works on it.
    async fn rehearse_signals(&self, found: &mut Rehearsal) {
        for file in ["standby.signal", "recovery.signal"] {
            let path = self.server.data(file);
            match self.server.control().read(&path).await {
                Ok(Some(signal)) if signal != MARK => found.planned(
                    format!("{} lies in the directory of `{}`, which writes", path.display(), self.name),
                    "if the change turned back, the server would come up as a standby and nobody would write",
                    format!("rm {}", path.display()),
                ),
                Ok(_) => {}
                Err(e) => self.against(found, &format!("{file} cannot be looked for"), &e),
            }
        }
        match self.server.supervisor_disabled().await {
            Ok(true) if self.server.site().unit.is_some() => found.planned(
                format!("the unit of `{}` is masked while its server runs", self.name),
                "somebody else keeps it from being started, and a change that turns back would unmask it",
                "find out who masked it, and `systemctl unmask` it",
            ),
            Ok(_) => {}
            Err(e) => self.against(found, "its unit cannot be asked", &e),
        }
    }

    fn foresee(&self, found: &mut Rehearsal, waits: &Waits) {
        let name = &self.name;
        const WHY: &str = "the stopped server would wait for its archive, come back as a standby late or not at all, and what is not \
                           archived yet would be missing in the archive from then on";
        const HELPS: &str =
            "SELECT * FROM pg_stat_archiver; repair `archive_command`, and look again when it has caught up";
        if let Some(failing) = &waits.failing {
            found.planned(format!("the archiving of `{name}` fails: {failing}"), WHY, HELPS);
        }
        if let Some((count, oldest)) = waits.ready.filter(|(_, oldest)| *oldest > ARCHIVED_WITHIN) {
            let age = oldest.as_secs();
            found.planned(
                format!("{count} segments of `{name}` wait to be archived, the oldest for {age} s"),
                WHY,
                HELPS,
            );
        }
        for sender in &waits.stuck {
            found.planned(
                format!("`{name}` sends to {sender}"),
                "a clean stop waits until every sender has sent everything, so it would be made an immediate one",
                "end that sender with pg_terminate_backend(), or make its receiver answer",
            );
        }
    }

    async fn waits(&self, session: &Session) -> Result<Waits, PgError> {
        const WHAT: &str = "tell what its stop would wait for";
        const ARCHIVER: &str = "\
SELECT a.failed_count, a.last_failed_wal FROM pg_stat_archiver a
WHERE current_setting('archive_mode') <> 'off' AND a.last_failed_time > coalesce(a.last_archived_time, '-infinity')";
        const READY: &str = "\
SELECT count(*), coalesce(extract(epoch FROM clock_timestamp() - min(modification)), 0)::float8
FROM pg_ls_archive_statusdir() WHERE name LIKE '%.ready' AND current_setting('archive_mode') <> 'off'";
        const STUCK: &str = "\
SELECT pid, application_name, coalesce(host(client_addr), 'a socket'), extract(epoch FROM clock_timestamp() - reply_time)::float8
FROM pg_stat_replication WHERE reply_time < clock_timestamp() - make_interval(secs => $1)";
        let mut waits = Waits::default();
        for row in session.rows(WHAT, ARCHIVER, &[]).await? {
            let (count, wal): (i64, Option<String>) = (session.get(WHAT, &row, 0)?, session.get(WHAT, &row, 1)?);
            waits.failing = Some(format!("{} could not be archived, {count} failures so far", wal.unwrap_or_default()));
        }
        let row = session.row(WHAT, READY, &[]).await?;
        let (count, age): (i64, f64) = (session.get(WHAT, &row, 0)?, session.get(WHAT, &row, 1)?);
        waits.ready = (count > 0).then(|| (count, seconds(age)));
        let limit = HEARD_WITHIN.as_secs_f64();
        for row in session.rows(WHAT, STUCK, &[(&limit, tokio_postgres::types::Type::FLOAT8)]).await? {
            let (pid, name): (i32, String) = (session.get(WHAT, &row, 0)?, session.get(WHAT, &row, 1)?);
            let (from, age): (String, f64) = (session.get(WHAT, &row, 2)?, session.get(WHAT, &row, 3)?);
            let age = seconds(age).as_secs();
            waits.stuck.push(format!("{name} at {from} (process {pid}), which has not answered for {age} s"));
        }
        Ok(waits)
    }

    /// Everything on the way of a closed `pg_hba.conf`.
    pub(crate) async fn rehearse_hba(&self, effort: Effort) -> Rehearsal {
        let mut found = Rehearsal::default();
        let Some((session, _)) = self.rehearse_place(&mut found).await else { return found };
        let rules = async {
            let fence = HbaFence::of(&session, self.server.control()).await?;
            Ok::<_, PgError>((fence.list(), fence.reading().await?))
        };
        let (list, reading) = match rules.await {
            Ok(told) => told,
            Err(e) => {
                self.against(&mut found, "its rules cannot be read", &e);
                return found;
            }
        };
        if let Some(error) = reading.errors.first() {
            found.planned(
                format!("pg_hba.conf of `{}` has an error: {error}", self.name),
                "the server would keep its old rules, and the fence would turn nobody away",
                "correct the line; SELECT * FROM pg_hba_file_rules WHERE error IS NOT NULL",
            );
        }
        if effort == Effort::Try {
            let trial = list.with_file_name("dr_fence.trial");
            let written = match self.server.control().write(&trial, b"").await {
                Ok(()) => self.server.control().remove(&trial).await,
                Err(e) => Err(e),
            };
            if let Err(e) = written {
                self.against(&mut found, &format!("{} could not be written", list.display()), &e);
            }
        }
        found
    }
}

fn seconds(age: f64) -> Duration {
    Duration::try_from_secs_f64(age.max(0.0)).unwrap_or(Duration::MAX)
}
