//! `dr debts`: what runs left to people, and closing it.

use dr_core::{
    GroupName,
    run::{Debt, DebtId},
};
use serde_json::json;

use super::list::table;
use crate::{
    Exit, Screen,
    exit::Stop,
    link::{self, Link},
};

pub(super) async fn list(link: &Link, group: Option<&str>, screen: &mut Screen) -> Result<Exit, Stop> {
    let group = group.map(GroupName::new);
    let debts = link.engine().debts(group.as_ref()).await.map_err(|error| link::stop(&error))?;
    let page = match debts.as_slice() {
        [] => "Nobody owes anything.\n".to_owned(),
        debts => format!("{}Close one by hand with:  dr debts close DEBT --reason TEXT\n", rows(debts)),
    };
    screen.reply(&page, &json!({"debts": debts, "exit": 0}));
    Ok(Exit::Done)
}

/// Debts in aligned columns.
pub(super) fn rows(debts: &[Debt]) -> String {
    let mut rows = vec![["DEBT", "OWED BY", "UNTIL (UTC)", "WHAT"].map(str::to_owned)];
    rows.extend(debts.iter().map(|debt| {
        let cause = debt.cause.as_ref().map(|cause| format!(": {cause}")).unwrap_or_default();
        [
            debt.id.to_string(),
            debt.owner.as_ref().map_or_else(|| "-".to_owned(), ToString::to_string),
            debt.due.map_or_else(|| "-".to_owned(), link::minute),
            format!("{}{cause}", debt.text),
        ]
    }));
    table(&rows)
}

pub(super) async fn close(link: &Link, id: &str, reason: &str, screen: &mut Screen) -> Result<Exit, Stop> {
    let closed = link.engine().close_debt(&DebtId::new(id), link.actor()?.clone(), reason).await;
    let debt = closed.map_err(|error| link::stop(&error))?;
    screen.reply(&format!("{id} is closed: {reason}\n"), &json!({"closed": debt, "reason": reason, "exit": 0}));
    Ok(Exit::Done)
}
