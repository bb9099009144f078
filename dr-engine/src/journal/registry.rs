//! What stands beside the runs, in the same file.

use async_trait::async_trait;
use dr_core::{
    GroupName, GroupSpec, RunId, Timestamp,
    base::{Digest, canonical},
    contract::PositionSample,
    run::{Closed, DebtId, JournalError, KeptGroup, LastWriter, Registry},
};
use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::{SqliteJournal, failed, samples::SampleError, sql};

#[async_trait]
impl Registry for SqliteJournal {
    async fn keep_group(&self, group: &KeptGroup) -> Result<(), JournalError> {
        let doing = format!("keep the group {}", group.spec.name);
        let digest = group.spec.digest().map_err(|source| form(&doing, source))?;
        let text = canonical::to_string(&group.spec).map_err(|source| form(&doing, source))?;
        let (name, file, at) = (group.spec.name.to_string(), group.file.clone(), group.at);
        let job = move |connection: &mut Connection| {
            connection.execute(
                "INSERT INTO groups (digest, name, file, spec, at) VALUES (?1, ?2, ?3, ?4, ?5)
                 ON CONFLICT (digest) DO UPDATE SET file = ?3, at = ?5 WHERE at <= ?5",
                params![digest.hex(), name, file, text, at.millis()],
            )
        };
        self.store.call(job).await.map(drop).map_err(|source| failed(doing, source))
    }

    async fn group(&self, digest: Digest) -> Result<Option<KeptGroup>, JournalError> {
        let doing = format!("find the group {digest}");
        let job = move |connection: &mut Connection| {
            let mut query = connection.prepare_cached("SELECT spec, file, at FROM groups WHERE digest = ?1")?;
            let row = |row: &Row<'_>| Ok((row.get::<_, String>(0)?, row.get(1)?, row.get(2)?));
            query.query_row([digest.hex()], row).optional()
        };
        let Some((text, file, at)) = self.store.call(job).await.map_err(|source| failed(doing.clone(), source))? else {
            return Ok(None);
        };
        let value = serde_json::from_str(&text).map_err(|source| form(&doing, source))?;
        let spec = GroupSpec::read(&value).map_err(|source| form(&doing, source))?;
        Ok(Some(KeptGroup { spec, file, at: Timestamp::from_millis(at) }))
    }

    async fn group_files(&self) -> Result<Vec<(GroupName, String)>, JournalError> {
        let job = |connection: &mut Connection| {
            let mut query =
                connection.prepare_cached("SELECT name, file, max(at) FROM groups GROUP BY name ORDER BY name")?;
            let pair = |row: &Row<'_>| Ok((GroupName::new(row.get::<_, String>(0)?), row.get(1)?));
            query.query_map([], pair)?.collect::<Result<Vec<_>, _>>()
        };
        self.store.call(job).await.map_err(|source| failed("list the groups".into(), source))
    }

    async fn saw_writer(&self, group: &GroupName, seen: &LastWriter) -> Result<(), JournalError> {
        let doing = format!("remember the writer of {group}");
        let text = serde_json::to_string(&seen.target).map_err(|source| form(&doing, source))?;
        let (name, at) = (group.to_string(), seen.at);
        let job = move |connection: &mut Connection| {
            connection.execute(
                "INSERT INTO writers (name, target, at) VALUES (?1, ?2, ?3)
                 ON CONFLICT (name) DO UPDATE SET target = ?2, at = ?3 WHERE at <= ?3",
                params![name, text, at.millis()],
            )
        };
        self.store.call(job).await.map(drop).map_err(|source| failed(doing, source))
    }

    async fn last_writer(&self, group: &GroupName) -> Result<Option<LastWriter>, JournalError> {
        let name = group.to_string();
        let job = move |connection: &mut Connection| {
            let mut query = connection.prepare_cached("SELECT target, at FROM writers WHERE name = ?1")?;
            query.query_row([name], |row| Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?))).optional()
        };
        let found = self.store.call(job).await;
        let found = found.map_err(|source| failed(format!("find the last writer of {group}"), source))?;
        let writer = |(text, at): (String, i64)| {
            Some(LastWriter { target: serde_json::from_str(&text).ok()?, at: Timestamp::from_millis(at) })
        };
        Ok(found.and_then(writer))
    }

    async fn keep_sample(&self, group: &GroupName, sample: &PositionSample) -> Result<(), JournalError> {
        let kept = self.samples.keep(group, sample).await;
        kept.map_err(|source| of_samples(format!("keep a sample of {group}"), source))
    }

    async fn samples(&self, group: &GroupName, since: Timestamp) -> Result<Vec<PositionSample>, JournalError> {
        let found = self.samples.since(group, since).await;
        found.map_err(|source| of_samples(format!("read the samples of {group}"), source))
    }

    async fn told(&self, key: &str, run: &RunId, at: Timestamp) -> Result<(), JournalError> {
        let (key, of) = (key.to_owned(), run.clone());
        let job = move |connection: &mut Connection| sql::told(connection, &key, &of, at).map(Ok);
        self.ask(format!("remember a notice of {run}"), job).await
    }

    async fn was_told(&self, key: &str) -> Result<bool, JournalError> {
        let key = key.to_owned();
        let job = move |connection: &mut Connection| sql::was_told(connection, &key).map(Ok);
        self.ask("look a notice up".to_owned(), job).await
    }

    async fn close_debt(&self, id: &DebtId, closed: &Closed) -> Result<(), JournalError> {
        let doing = format!("close {id}");
        let (id, text) = (id.to_string(), serde_json::to_string(closed).map_err(|source| form(&doing, source))?);
        let job = move |connection: &mut Connection| {
            let sql = "INSERT INTO closed (debt, closed) VALUES (?1, ?2) ON CONFLICT (debt) DO NOTHING";
            connection.execute(sql, params![id, text]).map(drop)
        };
        self.store.call(job).await.map_err(|source| failed(doing, source))
    }

    async fn closed_debts(&self) -> Result<Vec<Closed>, JournalError> {
        let doing = "list what was closed".to_owned();
        let job = |connection: &mut Connection| {
            let mut query = connection.prepare_cached("SELECT closed FROM closed ORDER BY debt")?;
            query.query_map([], |row| row.get::<_, String>(0))?.collect::<Result<Vec<_>, _>>()
        };
        let rows = self.store.call(job).await.map_err(|source| failed(doing.clone(), source))?;
        rows.iter().map(|row| serde_json::from_str(row).map_err(|source| form(&doing, source))).collect()
    }
}

fn form(doing: &str, source: impl std::error::Error + Send + Sync + 'static) -> JournalError {
    JournalError::Store { doing: doing.to_owned(), full: false, source: Box::new(source) }
}

fn of_samples(doing: String, source: SampleError) -> JournalError {
    JournalError::Store { doing, full: matches!(source, SampleError::NoRoom), source: Box::new(source) }
}
