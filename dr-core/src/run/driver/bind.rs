//! From the names of a plan to live providers, and whether the resources behind them are still those that the plan means.

use std::sync::Arc;

use futures_util::future::join_all;

use super::{Drive, DriveError, task};
use crate::{
    contract::{Binding, Bound, Resolved, ResourceKind, Target},
    plan::{Plan, Survey},
};

/// Opens every binding of a plan. Nothing is called.
pub(super) async fn bind(drive: &Drive, plan: &Plan) -> Result<Arc<Bound>, DriveError> {
    let mut bound = Bound::default();
    for (name, wanted) in plan.bindings.iter().filter(|(_, binding)| binding.kind != ResourceKind::Custom) {
        let resolved = drive
            .providers
            .resolve(plan.group_digest, wanted)
            .await
            .map_err(|source| DriveError::Binding { run: drive.run.clone(), name: Box::new(name.clone()), source })?;
        bound.by_name.insert(name.clone(), resolved);
    }
    Ok(Arc::new(bound))
}

/// Compares every member that answers with the identity that the plan pinned.
pub(super) async fn same_resources(drive: &Drive, plan: &Plan, bound: &Bound) -> Result<(), DriveError> {
    let runtime = drive.runtime.as_ref();
    let pinned = plan.bindings.iter().filter(|(_, wanted)| wanted.identity.is_some());
    let looks = pinned.filter_map(|(name, wanted)| match bound.by_name.get(name) {
        Some(Resolved::Member(member)) => Some(async move {
            let Binding::Member(name) = name else { return None };
            let limit = Survey::PATIENCE;
            let seen = task::bounded(runtime, limit, async { Ok(member.database.describe().await?) }).await.ok()?;
            let target = Target {
                member: name.clone(),
                address: wanted.address.clone(),
                identity: wanted.identity.clone(),
                lineage: plan.expects.lineage.clone(),
                receives: None,
            };
            target.is(&seen.address, seen.identity.as_ref()).err()
        }),
        Some(Resolved::Secret(_) | Resolved::Traffic(_) | Resolved::Readers(_) | Resolved::App(_)) | None => None,
    });
    match join_all(looks).await.into_iter().flatten().next() {
        Some(other) => Err(DriveError::Replaced { run: drive.run.clone(), source: Box::new(other) }),
        None => Ok(()),
    }
}
