//! What stands beside the runs.

use async_trait::async_trait;
use dr_core::{
    GroupName, GroupSpec, RunId, Timestamp,
    base::{Digest, canonical},
    contract::PositionSample,
    run::{Closed, DebtId, JournalError, KeptGroup, LastWriter, Registry, SAMPLES_KEPT},
};
use dr_sql::Param;
use tokio_postgres::Row;

use crate::{
    error::{of_form, of_journal},
    journal::{int, signed, text},
    store::PostgresStore,
};

const KEEP_GROUP: &str = "
INSERT INTO groups (digest, name, file, spec, at) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (digest) DO UPDATE SET file = $3, at = $5 WHERE groups.at <= $5";
const GROUP: &str = "SELECT spec, file, at FROM groups WHERE digest = $1";
const FILES: &str = "
SELECT name, file FROM (SELECT DISTINCT ON (name) name, file FROM groups ORDER BY name, at DESC) AS newest
ORDER BY name COLLATE \"C\"";
const SAW: &str = "
INSERT INTO writers (name, target, at) VALUES ($1, $2, $3)
ON CONFLICT (name) DO UPDATE SET target = $2, at = $3 WHERE writers.at <= $3";
const WRITER: &str = "SELECT target, at FROM writers WHERE name = $1";
const SAMPLE: &str = "
WITH old AS (DELETE FROM samples WHERE name = $1 AND at < $4)
INSERT INTO samples (name, at, sample) VALUES ($1, $2, $3)";
const SAMPLES: &str = "SELECT sample FROM samples WHERE name = $1 AND at >= $2 ORDER BY at, number";
const TOLD: &str = "INSERT INTO notices (key, run, at) VALUES ($1, $2, $3) ON CONFLICT (key) DO NOTHING";
const WAS_TOLD: &str = "SELECT EXISTS (SELECT FROM notices WHERE key = $1)";
const CLOSE: &str = "INSERT INTO closed (debt, closed) VALUES ($1, $2) ON CONFLICT (debt) DO NOTHING";
const CLOSED: &str = "SELECT closed FROM closed ORDER BY debt COLLATE \"C\"";

impl PostgresStore {
    async fn beside(&self, doing: &str, sql: &'static str, params: &[Param<'_>]) -> Result<Vec<Row>, JournalError> {
        let rows = self.inner.read.rows("read or write the registry", sql, params).await;
        rows.map_err(|source| of_journal(doing.to_owned(), source))
    }
}

#[async_trait]
impl Registry for PostgresStore {
    async fn keep_group(&self, group: &KeptGroup) -> Result<(), JournalError> {
        let doing = format!("keep the group {}", group.spec.name);
        let digest = group.spec.digest().map_err(|source| of_form(&doing, source))?.hex();
        let spec = canonical::to_string(&group.spec).map_err(|source| of_form(&doing, source))?;
        let (name, at) = (group.spec.name.to_string(), group.at.millis());
        let params = [text(&digest), text(&name), text(&group.file), text(&spec), int(&at)];
        self.beside(&doing, KEEP_GROUP, &params).await.map(drop)
    }

    async fn group(&self, digest: Digest) -> Result<Option<KeptGroup>, JournalError> {
        let (doing, key) = (format!("find the group {digest}"), digest.hex());
        let rows = self.beside(&doing, GROUP, &[text(&key)]).await?;
        let Some(row) = rows.first() else { return Ok(None) };
        let (spec, file, at): (String, String, i64) =
            (get(&doing, row, 0)?, get(&doing, row, 1)?, get(&doing, row, 2)?);
        let value = serde_json::from_str(&spec).map_err(|source| of_form(&doing, source))?;
        let spec = GroupSpec::read(&value).map_err(|source| of_form(&doing, source))?;
        Ok(Some(KeptGroup { spec, file, at: Timestamp::from_millis(at) }))
    }

    async fn group_files(&self) -> Result<Vec<(GroupName, String)>, JournalError> {
        let doing = "list the groups";
        let rows = self.beside(doing, FILES, &[]).await?;
        let pair = |row| Ok((GroupName::new(get::<String>(doing, row, 0)?), get(doing, row, 1)?));
        rows.iter().map(pair).collect()
    }

    async fn saw_writer(&self, group: &GroupName, seen: &LastWriter) -> Result<(), JournalError> {
        let doing = format!("remember the writer of {group}");
        let target = serde_json::to_string(&seen.target).map_err(|source| of_form(&doing, source))?;
        let (name, at) = (group.to_string(), seen.at.millis());
        self.beside(&doing, SAW, &[text(&name), text(&target), int(&at)]).await.map(drop)
    }

    async fn last_writer(&self, group: &GroupName) -> Result<Option<LastWriter>, JournalError> {
        let (doing, name) = (format!("find the last writer of {group}"), group.to_string());
        let rows = self.beside(&doing, WRITER, &[text(&name)]).await?;
        let Some(row) = rows.first() else { return Ok(None) };
        let (target, at): (String, i64) = (get(&doing, row, 0)?, get(&doing, row, 1)?);
        let at = Timestamp::from_millis(at);
        Ok(serde_json::from_str(&target).ok().map(|target| LastWriter { target, at }))
    }

    async fn keep_sample(&self, group: &GroupName, sample: &PositionSample) -> Result<(), JournalError> {
        let doing = format!("keep a sample of {group}");
        let form = canonical::to_string(sample).map_err(|source| of_form(&doing, source))?;
        let (name, at) = (group.to_string(), sample.at.millis());
        let oldest = at.saturating_sub(signed(SAMPLES_KEPT.count()));
        self.beside(&doing, SAMPLE, &[text(&name), int(&at), text(&form), int(&oldest)]).await.map(drop)
    }

    async fn samples(&self, group: &GroupName, since: Timestamp) -> Result<Vec<PositionSample>, JournalError> {
        let (doing, name, since) = (format!("read the samples of {group}"), group.to_string(), since.millis());
        let rows = self.beside(&doing, SAMPLES, &[text(&name), int(&since)]).await?;
        let texts = rows.iter().map(|row| get::<String>(&doing, row, 0)).collect::<Result<Vec<_>, _>>()?;
        Ok(texts.iter().filter_map(|text| serde_json::from_str(text).ok()).collect())
    }

    async fn told(&self, key: &str, run: &RunId, at: Timestamp) -> Result<(), JournalError> {
        let (key, name, at) = (key.to_owned(), run.to_string(), at.millis());
        let doing = format!("remember a notice of {run}");
        self.beside(&doing, TOLD, &[text(&key), text(&name), int(&at)]).await.map(drop)
    }

    async fn was_told(&self, key: &str) -> Result<bool, JournalError> {
        let (doing, key) = ("look a notice up", key.to_owned());
        let rows = self.beside(doing, WAS_TOLD, &[text(&key)]).await?;
        rows.first().map_or(Ok(false), |row| get(doing, row, 0))
    }

    async fn close_debt(&self, id: &DebtId, closed: &Closed) -> Result<(), JournalError> {
        let doing = format!("close {id}");
        let form = serde_json::to_string(closed).map_err(|source| of_form(&doing, source))?;
        let debt = id.to_string();
        self.beside(&doing, CLOSE, &[text(&debt), text(&form)]).await.map(drop)
    }

    async fn closed_debts(&self) -> Result<Vec<Closed>, JournalError> {
        let doing = "list what was closed";
        let rows = self.beside(doing, CLOSED, &[]).await?;
        let closed =
            |row| serde_json::from_str(&get::<String>(doing, row, 0)?).map_err(|source| of_form(doing, source));
        rows.iter().map(closed).collect()
    }
}

fn get<'r, T: tokio_postgres::types::FromSql<'r>>(doing: &str, row: &'r Row, column: usize) -> Result<T, JournalError> {
    row.try_get(column).map_err(|source| of_form(doing, source))
}
