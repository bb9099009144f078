//! The simulated cloud as a backend of group files: `backend = "sim"`, and the same word for its fence, secret store, application
//! tier and routers.

use std::sync::Arc;

use dr_core::{
    AppTier, Backend, Fence, GroupSpec, MemberId, Notifier, SecretStore,
    contract::{
        AppSpec, BackendName, ConfigError, FenceSpec, KeyPath, MemberProvider, MemberSpec, NotifySpec, Opened,
        Provider, ReadersRouter, ResourceRef, Route, SecretSpec, Serves, ServicePace, TrafficSpec,
    },
};

use serde::Deserialize;

use super::{
    SimCloud,
    line::Line,
    plane::{SimApp, SimNotifier, SimReaders, SimRoute, SimSecret},
    providers::{PROVIDER, SimProviders, pace},
};
use crate::crash::CrashSwitch;

/// The `at` table of a simulated member.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct At {
    /// The name in the cloud, where it is not the member's.
    instance: Option<String>,
}

/// Opens what a group file names in one [`SimCloud`]. Made by [`SimCloud::backend`].
#[derive(Clone, Debug)]
pub struct SimBackend {
    cloud: SimCloud,
}

impl SimCloud {
    /// This cloud as a backend: it answers for the names in group files that begin with `sim`.
    #[must_use]
    pub fn backend(&self) -> SimBackend {
        SimBackend { cloud: self.clone() }
    }
}

impl SimBackend {
    fn line(&self) -> Line {
        self.cloud.line("engine", CrashSwitch::new())
    }

    /// The group must be the cloud's: two groups in one world would be one group under two names.
    fn mine(&self, group: &GroupSpec) -> Result<(), ConfigError> {
        let known = self.cloud.setup().group;
        if group.name == known {
            return Ok(());
        }
        let what = format!("is `{}`; the simulated cloud holds `{known}`", group.name);
        Err(ConfigError::value(KeyPath::root().then("name"), what))
    }

    /// The name in the cloud: that of the member, unless its table says another one.
    fn name(&self, group: &GroupSpec, member: &MemberSpec) -> Result<String, ConfigError> {
        self.mine(group)?;
        let At { instance } = member.at()?;
        let (name, place) = match instance {
            Some(name) => (name, member.at.place().then("instance")),
            None => (member.name.to_string(), member.at.place().parent().then("name")),
        };
        let setup = self.cloud.setup();
        if setup.members.iter().any(|known| known.name == name) {
            return Ok(name);
        }
        let known: Vec<&str> = setup.members.iter().map(|known| known.name.as_str()).collect();
        Err(ConfigError::value(place, format!("is `{name}`; the simulated cloud has: {}", known.join(", "))))
    }

    fn member(&self, name: &str) -> MemberProvider {
        SimProviders { line: self.line() }.member(MemberId::new(name))
    }
}

fn opened<T: ?Sized>(reference: ResourceRef, provider: Arc<T>) -> Opened<T> {
    let opened = Opened::new(reference.address, provider);
    match reference.region {
        Some(region) => opened.in_region(region),
        None => opened,
    }
}

impl Backend for SimBackend {
    fn prefix(&self) -> &'static str {
        PROVIDER
    }

    fn pace(&self, _service: &BackendName) -> ServicePace {
        pace(&self.cloud.setup())
    }

    fn open(&self, group: &GroupSpec, member: &MemberSpec) -> Result<Provider, ConfigError> {
        let name = self.name(group, member)?;
        let writers = group.traffic.iter().filter(|route| route.serves == Serves::Writer);
        let routes = writers.map(|route| route.name.clone()).collect();
        let found = SimProviders { line: self.line() }.member_of(MemberId::new(name.as_str()), routes);
        let reference = self.cloud.member_ref(&name);
        let provider = Provider::of(opened(reference, found.database), found.probe);
        Ok(found.fence.into_iter().chain(found.late_fence).fold(provider, Provider::fence))
    }

    fn fence(&self, group: &GroupSpec, fence: &FenceSpec, member: &MemberSpec) -> Result<Arc<dyn Fence>, ConfigError> {
        let found = self.member(&self.name(group, member)?);
        let late = fence.with.as_str().ends_with(".stop-alone");
        (if late { found.late_fence } else { found.fence }).ok_or_else(|| {
            let what = "is a fence that this simulated provider does not have; its swap brings one";
            ConfigError::value(fence.at.place().parent().then("with"), what)
        })
    }

    fn notifier(&self, group: &GroupSpec, _notify: &NotifySpec) -> Result<Arc<dyn Notifier>, ConfigError> {
        self.mine(group)?;
        Ok(Arc::new(SimNotifier { line: self.line() }))
    }

    fn secret(&self, group: &GroupSpec, _secret: &SecretSpec) -> Result<Opened<dyn SecretStore>, ConfigError> {
        self.mine(group)?;
        let store: Arc<dyn SecretStore> = Arc::new(SimSecret { line: self.line() });
        Ok(opened(self.cloud.secret_ref(), store))
    }

    fn route(&self, group: &GroupSpec, route: &TrafficSpec) -> Result<Route, ConfigError> {
        self.mine(group)?;
        let mut writers = group.traffic.iter().filter(|known| known.serves == Serves::Writer);
        let number = writers.position(|known| std::ptr::eq(known, route)).unwrap_or(0);
        let routes = self.cloud.setup().routes;
        if number >= routes {
            let what = format!("is route {number}; the simulated cloud has {routes}");
            return Err(ConfigError::value(route.at.place().parent().then("router"), what));
        }
        let router: Arc<dyn dr_core::TrafficRouter> = Arc::new(SimRoute { line: self.line(), number });
        Ok(Route::only(opened(self.cloud.route_ref(number), router)))
    }

    fn readers(&self, group: &GroupSpec, route: &TrafficSpec) -> Result<Opened<dyn ReadersRouter>, ConfigError> {
        self.mine(group)?;
        let mut readers = group.traffic.iter().filter(|known| known.serves == Serves::Readers);
        let number = readers.position(|known| std::ptr::eq(known, route)).unwrap_or(0);
        let routes = self.cloud.setup().readers;
        if number >= routes {
            let what = format!("is route {number} for readers; the simulated cloud has {routes}");
            return Err(ConfigError::value(route.at.place().parent().then("router"), what));
        }
        let router: Arc<dyn ReadersRouter> = Arc::new(SimReaders { line: self.line(), number });
        Ok(opened(self.cloud.readers_ref(number), router))
    }

    fn app(&self, group: &GroupSpec, _app: &AppSpec) -> Result<Opened<dyn AppTier>, ConfigError> {
        self.mine(group)?;
        let app: Arc<dyn AppTier> = Arc::new(SimApp { line: self.line() });
        Ok(opened(self.cloud.app_ref(), app))
    }
}
