//! Checks of what is inside: long transactions on the primary, extensions and versions on both sides (D04, D05).

use std::collections::BTreeMap;

use async_trait::async_trait;
use futures_util::future::join;
use serde::{Deserialize, Serialize};

use super::read::{conflict, offered};
use crate::{
    base::{Kind, Millis, text},
    contract::{Class, LongTransaction, Target},
    plan::{Duty, Effect, Look, Marks, Observed, Step, StepCx, StepError},
};

/// No transaction on the primary is older than the limit: a drain would wait for it, or cut it off.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CheckTransactions {
    /// The primary.
    pub primary: Target,
    /// How old one may be.
    pub limit: Millis,
}

impl Step for CheckTransactions {
    const KIND: Kind = Kind::new("dr.check-transactions", 1);
    const EFFECT: Effect = Effect::ReadOnly;
    const CLASS: Class = Class::Guard;
    type Output = ();

    fn sentence(&self) -> String {
        format!("see no transaction older than {} on {}", text::human(self.limit), self.primary.member)
    }

    fn marks(&self) -> Marks {
        Marks::check(Duty::Transactions)
    }
}

/// The candidate has the extensions of the primary, in the same versions, and an engine of the same major version.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CheckParity {
    /// The primary.
    pub primary: Target,
    /// The candidate.
    pub candidate: Target,
}

impl Step for CheckParity {
    const KIND: Kind = Kind::new("dr.check-parity", 1);
    const EFFECT: Effect = Effect::ReadOnly;
    const CLASS: Class = Class::Guard;
    type Output = ();

    fn sentence(&self) -> String {
        format!("compare extensions and versions of {} and {}", self.primary.member, self.candidate.member)
    }

    fn marks(&self) -> Marks {
        Marks::check(Duty::Parity)
    }
}

/// One line per transaction: what it is, and what ends it.
#[must_use]
pub(crate) fn transactions_in_words(transactions: &[LongTransaction]) -> String {
    let line = |one: &LongTransaction| {
        format!(
            "{}, user {}, {}, open for {} (ends it: {})",
            one.id,
            one.user,
            one.state,
            text::human(one.age),
            one.helps
        )
    };
    transactions.iter().map(line).collect::<Vec<_>>().join("; ")
}

/// What the candidate lacks of what the primary uses: one line per difference. A logical copy may have `any_version` of an extension.
#[must_use]
pub(crate) fn missing_extensions(
    used: &BTreeMap<String, String>,
    available: &BTreeMap<String, Vec<String>>,
    any_version: bool,
) -> Vec<String> {
    used.iter()
        .filter_map(|(name, version)| match available.get(name) {
            None => Some(format!("{name} {version} is not available there")),
            Some(versions) if !any_version && !versions.contains(version) => {
                Some(format!("{name} is used in {version}, there is {}", versions.join(", ")))
            }
            Some(_) => None,
        })
        .collect()
}

/// The part of a version that must be equal on both sides: `15` of `15.18`.
#[must_use]
pub(crate) fn major(version: &str) -> &str {
    version.split(['.', ' ']).next().unwrap_or(version)
}

pub(super) struct Transactions;

#[async_trait]
impl Look for Transactions {
    type Step = CheckTransactions;

    async fn look(&self, cx: &StepCx, step: &CheckTransactions) -> Result<Observed<()>, StepError> {
        let member = &step.primary.member;
        let found = offered(cx.probe(member)?.long_transactions(step.limit).await)?;
        Ok(match found {
            Some(old) if !old.is_empty() => conflict(format_args!(
                "`{member}` has transactions older than {}: {}; the drain would wait for them, or cut them off",
                text::human(step.limit),
                transactions_in_words(&old)
            )),
            Some(_) | None => Observed::Done(()),
        })
    }
}

pub(super) struct Parity;

#[async_trait]
impl Look for Parity {
    type Step = CheckParity;

    async fn look(&self, cx: &StepCx, step: &CheckParity) -> Result<Observed<()>, StepError> {
        let (old, new) = (&step.primary.member, &step.candidate.member);
        let (old_side, new_side) = (cx.database(old)?, cx.database(new)?);
        let (old_side, new_side) = join(old_side.describe(), new_side.describe()).await;
        let (old_version, new_version) = (old_side?.version, new_side?.version);
        let copy = step.candidate.is_copy();
        if !copy && major(&old_version) != major(&new_version) {
            return Ok(conflict(format_args!("`{old}` runs version {old_version}, `{new}` runs {new_version}")));
        }
        let (used, available) = (cx.probe(old)?, cx.probe(new)?);
        let (used, available) = join(used.extensions(), available.available_extensions()).await;
        let (Some(used), Some(available)) = (offered(used)?, offered(available)?) else {
            return Ok(Observed::Done(()));
        };
        let missing = missing_extensions(&used, &available, copy);
        Ok(if missing.is_empty() {
            Observed::Done(())
        } else {
            conflict(format_args!("`{new}` lacks extensions that `{old}` uses: {}", missing.join("; ")))
        })
    }
}
