//! What people closed of the debts that runs left: beside the records, which say what is owed.

use dr_core::run::{Closed, DebtId, JournalError};
use rusqlite::params;

use super::{SqliteJournal, failed};

impl SqliteJournal {
    /// Stores that a person closed a debt. The first one counts.
    pub(crate) async fn close_debt(&self, id: &DebtId, closed: &Closed) -> Result<(), JournalError> {
        let doing = format!("close {id}");
        let form = |source| JournalError::Store { doing: doing.clone(), full: false, source: Box::new(source) };
        let (id, text) = (id.to_string(), serde_json::to_string(closed).map_err(form)?);
        let job = move |connection: &mut rusqlite::Connection| {
            let sql = "INSERT INTO closed (debt, closed) VALUES (?1, ?2) ON CONFLICT (debt) DO NOTHING";
            connection.execute(sql, params![id, text]).map(drop)
        };
        self.store.call(job).await.map_err(|source| failed(doing, source))
    }

    /// Everything that people closed.
    pub(crate) async fn closed_debts(&self) -> Result<Vec<Closed>, JournalError> {
        let doing = "list what was closed".to_owned();
        let job = |connection: &mut rusqlite::Connection| {
            let mut query = connection.prepare_cached("SELECT closed FROM closed ORDER BY debt")?;
            query.query_map([], |row| row.get::<_, String>(0))?.collect::<Result<Vec<_>, _>>()
        };
        let rows = self.store.call(job).await.map_err(|source| failed(doing.clone(), source))?;
        let form = |source| JournalError::Store { doing: doing.clone(), full: false, source: Box::new(source) };
        rows.iter().map(|row| serde_json::from_str(row).map_err(form)).collect()
    }
}
