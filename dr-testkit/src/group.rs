//! The group file and the bindings that belong to a simulated cloud.

use std::collections::BTreeMap;

use dr_core::{
    Binding, Grade, GroupSpec, ProviderError, Purpose, Target,
    base::{BindingName, Digest},
    contract::{ConfigError, Providers, Resolved, ResourceRef},
    plan::{Policy, Survey},
};
use serde_json::json;

use crate::cloud::SimCloud;

impl SimCloud {
    /// What plans call the one secret of the cloud.
    pub const SECRET: &'static str = "main";
    /// What plans call its one application tier.
    pub const APP: &'static str = "main";

    /// Returns what plans call one of its routes.
    #[must_use]
    pub fn route_name(number: usize) -> BindingName {
        BindingName::new(format!("route-{number}"))
    }

    /// Returns what plans call one of its routes for readers.
    #[must_use]
    pub fn readers_name(number: usize) -> BindingName {
        BindingName::new(format!("readers-{number}"))
    }

    /// The group, as its file would say it: one person approves, the gap budget lies below the clients' own limit.
    ///
    /// # Errors
    /// A name in the setup is no name.
    pub fn group(&self) -> Result<GroupSpec, ConfigError> {
        let setup = self.setup();
        let members = setup.members.iter().map(
            |member| json!({ "name": member.name, "region": member.region, "role": member.role, "backend": "sim" }),
        );
        let names: BTreeMap<&str, &str> =
            setup.members.iter().map(|member| (member.name.as_str(), member.name.as_str())).collect();
        let routes = (0..setup.routes)
            .map(|number| json!({ "name": Self::route_name(number), "router": "sim", "member": names }));
        let readers = (0..setup.readers).map(|number| {
            json!({ "name": Self::readers_name(number), "serves": "readers", "router": "sim", "member": names })
        });
        let drain = json!({ "within": "30 s", "client_limit": format!("{} ms", setup.drain_limit.count()) });
        let budget = setup.gap_budget.map_or_else(|| setup.drain_limit.count() / 5 * 4, dr_core::Millis::count);
        let tier = json!({ "name": Self::APP, "tier": "sim", "drain": drain });
        let file = json!({
            "format": GroupSpec::FORMAT,
            "name": setup.group,
            "home": setup.members.first().map_or("", |member| member.name.as_str()),
            "objectives": { "rto": "30 min", "rpo_forced": "60 s" },
            "member": members.collect::<Vec<_>>(),
            "secret": [{ "name": Self::SECRET, "store": "sim", "set": { "host": "{writer.endpoint}" } }],
            "app": if setup.tier { vec![tier] } else { Vec::new() },
            "traffic": routes.chain(readers).collect::<Vec<_>>(),
            "hardening": setup.hardening,
            "limits": { "gap_budget": format!("{budget} ms") },
            "approval": { "switchover": { "people": 1 }, "failover": { "people": 1 } },
        });
        GroupSpec::read(&file)
    }

    /// What the names of a plan stand for, opened through `providers`.
    ///
    /// # Errors
    /// Something is not there.
    pub async fn bindings(
        &self,
        group: Digest,
        providers: &dyn Providers,
    ) -> Result<BTreeMap<Binding, (ResourceRef, Resolved)>, ProviderError> {
        let setup = self.setup();
        let members = setup.members.iter();
        let mut wanted: Vec<(Binding, ResourceRef)> =
            members.map(|member| (member.name.as_str().into(), self.member_ref(&member.name))).collect();
        wanted.push((Binding::secret(Self::SECRET), self.secret_ref()));
        if setup.tier {
            wanted.push((Binding::app(Self::APP), self.app_ref()));
        }
        let routes = 0..setup.routes;
        wanted.extend(routes.map(|number| (Binding::Traffic(Self::route_name(number)), self.route_ref(number))));
        let readers = 0..setup.readers;
        let of = |number| (Binding::Readers(Self::readers_name(number)), self.readers_ref(number));
        wanted.extend(readers.map(of));
        let mut bindings = BTreeMap::new();
        for (name, reference) in wanted {
            let resolved = providers.resolve(group, &reference).await?;
            bindings.insert(name, (reference, resolved));
        }
        Ok(bindings)
    }

    /// The look before a plan.
    ///
    /// # Errors
    /// Something is not there, or the group has no digest.
    pub async fn survey(&self, group: GroupSpec, providers: &dyn Providers) -> Result<Survey, ProviderError> {
        let last_writer = self.look(|truth| {
            let writer = truth.world.setup.members.first()?;
            let found = truth.member(&writer.name)?;
            Some(Target {
                member: writer.name.as_str().into(),
                address: found.instance.address.clone(),
                identity: Some(found.instance.identity.clone()),
                lineage: truth.world.told(found.lineage()),
                receives: None,
            })
        });
        let digest =
            group.digest().map_err(|error| ProviderError::Refused { verb: "resolve", why: error.to_string() })?;
        let bindings = self.bindings(digest, providers).await?;
        let runtime = std::sync::Arc::clone(&self.inner.runtime);
        Ok(Survey { group, bindings, last_writer, retired: Vec::new(), runtime, patience: Survey::PATIENCE })
    }
}

/// The limits of a plan for `group`, as its file says them.
#[must_use]
pub fn policy(group: &GroupSpec, purpose: Purpose) -> Policy {
    let unlisted = match purpose {
        Purpose::Failover => Grade::Enforced,
        Purpose::Switchover
        | Purpose::Promotion
        | Purpose::Failback
        | Purpose::Redirect
        | Purpose::Standby
        | Purpose::Restore
        | Purpose::Drill
        | Purpose::Destroy
        | Purpose::Hygiene => Grade::Confirmed,
    };
    Policy {
        gap_budget: group.limits.gap_budget,
        client_limit: None,
        proof_age: group.limits.proof_age,
        fact_age: group.limits.fact_age,
        fence: group.fences.iter().map(|fence| fence.grade).min().unwrap_or(unlisted),
        unguarded: false,
        automatic: None,
    }
}
