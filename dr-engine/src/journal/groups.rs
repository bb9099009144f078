//! What must be known of a group when its file is gone or its writer is silent.

use dr_core::{
    GroupName, GroupSpec, Target, Timestamp,
    base::{Digest, canonical},
    run::JournalError,
};
use rusqlite::{OptionalExtension as _, params};

use super::{SqliteJournal, failed};
use crate::store::StoreError;

/// The last writer that was seen, and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LastWriter {
    pub(crate) target: Target,
    pub(crate) at: Timestamp,
}

impl SqliteJournal {
    /// Keeps a group as a plan saw it: after a restart the same plan must find the same group, whatever the file says by then.
    pub(crate) async fn keep_group(&self, spec: &GroupSpec, file: &str, at: Timestamp) -> Result<(), JournalError> {
        let doing = format!("keep the group {}", spec.name);
        let form = |source| JournalError::Store { doing: doing.clone(), full: false, source: Box::new(source) };
        let (digest, text) = (spec.digest().map_err(form)?, canonical::to_string(spec).map_err(form)?);
        let (name, file) = (spec.name.to_string(), file.to_owned());
        let job = move |connection: &mut rusqlite::Connection| {
            connection.execute(
                "INSERT INTO groups (digest, name, file, spec, at) VALUES (?1, ?2, ?3, ?4, ?5)
                 ON CONFLICT (digest) DO UPDATE SET file = ?3, at = ?5",
                params![digest.hex(), name, file, text, at.millis()],
            )
        };
        self.store.call(job).await.map(drop).map_err(|source| failed(doing, source))
    }

    /// The group that a plan was made for.
    pub(crate) async fn group(&self, digest: Digest) -> Result<Option<GroupSpec>, JournalError> {
        let doing = format!("find the group {digest}");
        let job = move |connection: &mut rusqlite::Connection| {
            let mut query = connection.prepare_cached("SELECT spec FROM groups WHERE digest = ?1")?;
            query.query_row([digest.hex()], |row| row.get::<_, String>(0)).optional()
        };
        let Some(text) = self.store.call(job).await.map_err(|source| failed(doing.clone(), source))? else {
            return Ok(None);
        };
        let wrong = |source: Box<dyn std::error::Error + Send + Sync>| JournalError::Store {
            doing: doing.clone(),
            full: false,
            source,
        };
        let value = serde_json::from_str(&text).map_err(|error| wrong(Box::new(error)))?;
        GroupSpec::read(&value).map(Some).map_err(|error| wrong(Box::new(error)))
    }

    /// The file that a kept group was read from.
    pub(crate) async fn group_file(&self, digest: Digest) -> Result<Option<String>, JournalError> {
        let job = move |connection: &mut rusqlite::Connection| {
            let mut query = connection.prepare_cached("SELECT file FROM groups WHERE digest = ?1")?;
            query.query_row([digest.hex()], |row| row.get(0)).optional()
        };
        self.store.call(job).await.map_err(|source| failed(format!("find the file of the group {digest}"), source))
    }

    /// The files of all groups that runs were made for, the newest of each name.
    pub(crate) async fn group_files(&self) -> Result<Vec<(GroupName, String)>, JournalError> {
        let job = |connection: &mut rusqlite::Connection| {
            let mut query =
                connection.prepare_cached("SELECT name, file, max(at) FROM groups GROUP BY name ORDER BY name")?;
            let pair = |row: &rusqlite::Row<'_>| Ok((GroupName::new(row.get::<_, String>(0)?), row.get(1)?));
            query.query_map([], pair)?.collect::<Result<Vec<_>, _>>()
        };
        self.store.call(job).await.map_err(|source| failed("list the groups".into(), source))
    }

    /// Remembers who wrote.
    pub(crate) async fn saw_writer(&self, group: &GroupName, target: &Target, at: Timestamp) -> Result<(), StoreError> {
        let name = group.to_string();
        // A target is names and a number: it always has a text.
        let Ok(text) = serde_json::to_string(target) else { return Ok(()) };
        let job = move |connection: &mut rusqlite::Connection| {
            connection.execute(
                "INSERT INTO writers (name, target, at) VALUES (?1, ?2, ?3)
                 ON CONFLICT (name) DO UPDATE SET target = ?2, at = ?3 WHERE at <= ?3",
                params![name, text, at.millis()],
            )
        };
        self.store.call(job).await.map(drop)
    }

    /// The last writer that was seen.
    pub(crate) async fn last_writer(&self, group: &GroupName) -> Result<Option<LastWriter>, JournalError> {
        let name = group.to_string();
        let job = move |connection: &mut rusqlite::Connection| {
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
}
