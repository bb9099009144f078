//! What runs left to people, and closing it.

use dr_core::{
    Actor, GroupName, RunId,
    run::{Closed, Debt, DebtId, RunState},
};

use super::{Engine, run::Tail};
use crate::{Error, runtime::wall};

impl Engine {
    /// Lists what runs of the journal left to people and nobody has done since, the oldest first; only those of `group`, if one is
    /// named. A later run of the same group closes a debt by doing the work; [`Engine::close_debt`] closes it by a person's word. A run
    /// that cannot be read leaves nothing here; [`Engine::runs`] lists it with its fault.
    ///
    /// # Errors
    /// [`Error::Journal`].
    pub async fn debts(&self, group: Option<&GroupName>) -> Result<Vec<Debt>, Error> {
        let open = self.all_debts(group).await?.into_iter().filter(|(_, closed)| closed.is_none());
        Ok(open.map(|(debt, _)| debt).collect())
    }

    /// Closes a debt: a person says that there is nothing left to do, and why. Who and why are kept beside the journal.
    ///
    /// # Errors
    /// [`Error::Debt`]: no run left such a debt, it is closed already, or no reason is given. [`Error::Journal`].
    pub async fn close_debt(&self, id: &DebtId, by: Actor, reason: &str) -> Result<Debt, Error> {
        let refuse = |why: String| Error::Debt { id: id.clone(), why };
        if reason.trim().is_empty() {
            return Err(refuse("say why nothing is left to do".into()));
        }
        let all = self.all_debts(None).await?;
        let (debt, closed) =
            all.into_iter().find(|(debt, _)| debt.id == *id).ok_or_else(|| refuse("no run left such a debt".into()))?;
        match closed {
            Some(Closed::ByRun { run, node }) => return Err(refuse(format!("`{node}` of {run} has closed it"))),
            Some(Closed::ByPerson { by, reason, .. }) => {
                return Err(refuse(format!("{} has closed it: {reason}", by.name)));
            }
            None => {}
        }
        let closed = Closed::ByPerson { debt: id.clone(), by, reason: reason.to_owned(), at: wall() };
        self.inner.store.registry.close_debt(id, &closed).await?;
        Ok(debt)
    }

    /// Every debt that a run left, with how it was closed.
    async fn all_debts(&self, group: Option<&GroupName>) -> Result<Vec<(Debt, Option<Closed>)>, Error> {
        let people = self.inner.store.registry.closed_debts().await?;
        let runs = self.inner.store.journal.runs().await?;
        let wanted = |run: &&RunId| group.is_none_or(|group| run.group() == group);
        let mut states: Vec<RunState> = Vec::new();
        for run in runs.iter().filter(wanted) {
            states.extend(Tail::read(self, run).await.ok().map(|tail| tail.state));
        }
        let mut all = Vec::new();
        for (index, state) in states.iter().enumerate() {
            let later: Vec<&RunState> = states
                .iter()
                .skip(index.saturating_add(1))
                .filter(|one| one.run.group() == state.run.group())
                .collect();
            all.extend(Debt::of(state).into_iter().map(|debt| {
                let closed = debt.closed(&later, &people);
                (debt, closed)
            }));
        }
        Ok(all)
    }
}
