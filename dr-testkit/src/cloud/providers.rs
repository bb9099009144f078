//! From bindings to providers, and the group that the cloud holds.

use std::sync::Arc;

use async_trait::async_trait;
use dr_core::{
    Binding, GroupName, MemberId, Notifier, ProviderError, Timestamp,
    base::{BindingName, Digest, Region, ResourceAddress},
    contract::{
        LagSample, MemberProvider, PositionSample, Providers, Resolved, ResourceKind, ResourceRef, ServicePace,
    },
};

use super::{
    SimCloud,
    database::{SimDatabase, position},
    fence::{FenceKind, SimFence},
    line::Line,
    plane::{SimApp, SimNotifier, SimReaders, SimRoute, SimSecret},
    probe::SimProbe,
};
use crate::world::{Flavour, Setup, Timing};

/// The provider's name in bindings and group files.
pub(crate) const PROVIDER: &str = "sim";

#[derive(Clone, Debug)]
pub(crate) struct SimProviders {
    pub(crate) line: Line,
}

impl SimCloud {
    /// What a plan binds a member to.
    #[must_use]
    pub fn member_ref(&self, member: &str) -> ResourceRef {
        let region = self.with(|world| world.instances.get(&MemberId::new(member)).map(|found| found.region.clone()));
        self.reference(ResourceKind::Database, member, region)
    }

    /// What a plan binds the secret to.
    #[must_use]
    pub fn secret_ref(&self) -> ResourceRef {
        self.reference(ResourceKind::Secret, &Binding::secret(Self::SECRET).to_string(), None)
    }

    /// What a plan binds the applications to.
    #[must_use]
    pub fn app_ref(&self) -> ResourceRef {
        self.reference(ResourceKind::App, &Binding::app(Self::APP).to_string(), None)
    }

    /// What a plan binds a route to.
    #[must_use]
    pub fn route_ref(&self, number: usize) -> ResourceRef {
        self.reference(ResourceKind::Traffic, &Binding::Traffic(Self::route_name(number)).to_string(), None)
    }

    /// What a plan binds a route for readers to.
    #[must_use]
    pub fn readers_ref(&self, number: usize) -> ResourceRef {
        self.reference(ResourceKind::Readers, &Binding::Readers(Self::readers_name(number)).to_string(), None)
    }

    fn reference(&self, kind: ResourceKind, name: &str, region: Option<Region>) -> ResourceRef {
        let address = ResourceAddress::new(format!("{PROVIDER}:{}/{name}", self.setup().group));
        ResourceRef { provider: PROVIDER.to_owned(), kind, address, identity: None, region, profile: None }
    }
}

/// How slow the simulated service is, without asking.
pub(crate) fn pace(setup: &Setup) -> ServicePace {
    let Timing { poll, view_lag, read, promote, swap, send, .. } = setup.timing;
    ServicePace {
        poll_every: poll,
        visibility: view_lag.saturating_add(read.1),
        takes: promote.max(swap).saturating_add(send.1),
    }
}

impl SimProviders {
    pub(crate) fn member(&self, name: MemberId) -> MemberProvider {
        self.member_of(name, (0..self.line.cloud.setup().routes).map(SimCloud::route_name).collect())
    }

    /// The member `name` of a group that calls the routes of the cloud by these names.
    pub(crate) fn member_of(&self, name: MemberId, routes: Vec<BindingName>) -> MemberProvider {
        let setup = self.line.cloud.setup();
        let kind = match setup.flavour {
            Flavour::Separate if setup.login_fence => Some(FenceKind::Login),
            Flavour::Separate if setup.network_fence => Some(FenceKind::Network),
            Flavour::Separate => Some(FenceKind::Stop),
            Flavour::RoleSwap | Flavour::StorageFence if setup.own_fence => Some(FenceKind::Stop),
            Flavour::RoleSwap => None,
            Flavour::StorageFence => Some(FenceKind::Storage),
        };
        let line = || self.line.clone();
        let fence_of =
            |kind| -> Arc<dyn dr_core::Fence> { Arc::new(SimFence { line: line(), member: name.clone(), kind }) };
        let fence = kind.map(fence_of);
        let late_fence = setup.service.late_stop.then(|| fence_of(FenceKind::StopAlone));
        MemberProvider {
            database: Arc::new(SimDatabase { line: line(), member: name.clone(), routes }),
            probe: Arc::new(SimProbe { line: line(), member: name }),
            fence,
            late_fence,
            pace: pace(&setup),
        }
    }
}

#[async_trait]
impl Providers for SimProviders {
    async fn resolve(&self, _group: Digest, wanted: &ResourceRef) -> Result<Resolved, ProviderError> {
        let refuse = |why: String| ProviderError::Refused { verb: "resolve", why };
        let setup = self.line.cloud.setup();
        let prefix = format!("{PROVIDER}:{}/", setup.group);
        let name = wanted.address.as_str().strip_prefix(&prefix);
        let name =
            name.ok_or_else(|| refuse(format!("`{}` is not in the simulated cloud {prefix}", wanted.address)))?;
        let gone = || refuse(format!("the simulated cloud has no `{}`", wanted.address));
        let line = || self.line.clone();
        match Binding::from(name) {
            Binding::Member(name) => {
                let known = setup.members.iter().any(|member| member.name == name.as_str());
                known.then(|| Resolved::Member(self.member(name))).ok_or_else(gone)
            }
            Binding::Secret(name) if name.as_str() == SimCloud::SECRET => {
                Ok(Resolved::Secret(Arc::new(SimSecret { line: line() })))
            }
            Binding::App(name) if name.as_str() == SimCloud::APP => {
                Ok(Resolved::App(Arc::new(SimApp { line: line() })))
            }
            Binding::Traffic(name) => {
                let number = (0..setup.routes).find(|number| SimCloud::route_name(*number) == name);
                let route = |number| Resolved::Traffic(Arc::new(SimRoute { line: line(), number }));
                number.map(route).ok_or_else(gone)
            }
            Binding::Readers(name) => {
                let number = (0..setup.readers).find(|number| SimCloud::readers_name(*number) == name);
                let route = |number| Resolved::Readers(Arc::new(SimReaders { line: line(), number }));
                number.map(route).ok_or_else(gone)
            }
            Binding::Secret(_) | Binding::App(_) | Binding::Custom(_) => Err(gone()),
        }
    }

    fn notifiers(&self, _group: Digest) -> Vec<Arc<dyn Notifier>> {
        vec![Arc::new(SimNotifier { line: self.line.clone() })]
    }

    async fn samples(&self, group: &GroupName, since: Timestamp) -> Result<Vec<PositionSample>, ProviderError> {
        if *group != self.line.cloud.setup().group {
            return Ok(Vec::new());
        }
        Ok(self.line.cloud.with(|world| {
            let kept = world.samples.iter().filter(|sample| sample.at >= since.millis());
            let positions = world.setup.service.positions;
            kept.map(|sample| {
                let at = Timestamp::from_millis(sample.at);
                let lags: Vec<LagSample> = sample.lag.iter().cloned().collect();
                if !positions {
                    return PositionSample { primary: None, standby: None, applied: None, lineage: None, lags, at };
                }
                let system =
                    sample.primary.as_ref().map_or_else(|| world.current.clone(), |(lineage, _)| lineage.clone());
                // A logical copy has positions of its own, which compare with nobody's.
                let standby = sample.standby.filter(|_| !world.setup.service.copies);
                let standby = standby.map(|value| position(&system, value));
                PositionSample {
                    primary: sample.primary.as_ref().map(|(lineage, value)| position(lineage, *value)),
                    applied: standby.clone(),
                    standby,
                    lineage: sample.primary.as_ref().map(|(lineage, _)| world.told(lineage)),
                    lags,
                    at,
                }
            })
            .collect()
        }))
    }
}
