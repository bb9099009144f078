//! How a backend comes in: it answers for the names in group files that begin with its prefix.
//!
//! ```text
//!  group file ──"azure.pg-flexible"──► Backend "azure" ──open──► Provider (database, probe, fences)
//!                                                    └─fence, secret, route, app──► one provider each
//! ```
//!
//! Opening reads configuration and makes clients. It calls nobody.

use std::{fmt::Debug, sync::Arc};

use crate::{
    base::{Region, ResourceAddress},
    contract::{
        AppSpec, AppTier, BackendName, ConfigError, DatabaseProbe, Fence, FenceSpec, GroupSpec, ManagedDatabase,
        MemberSpec, Notifier, NotifySpec, ReadersRouter, SecretSpec, SecretStore, ServicePace, TrafficRouter,
        TrafficSpec,
    },
};

/// One opened resource: its address and what reaches it.
#[derive(Debug)]
pub struct Opened<T: ?Sized> {
    /// Where it is found, as [`Description::address`](crate::contract::Description::address) will say it again. Which resource that is, only a
    /// look can tell.
    pub address: ResourceAddress,
    /// Where it is, if that is known without a call.
    pub region: Option<Region>,
    /// The name under which credentials are looked up at use; never a credential.
    pub profile: Option<String>,
    /// What reaches it.
    pub provider: Arc<T>,
}

impl<T: ?Sized> Opened<T> {
    /// Opens the resource at `address` through `provider`.
    pub fn new(address: impl Into<ResourceAddress>, provider: Arc<T>) -> Self {
        Self { address: address.into(), region: None, profile: None, provider }
    }

    /// Names the credentials that are looked up at use.
    #[must_use]
    pub fn with_profile(mut self, profile: impl Into<String>) -> Self {
        self.profile = Some(profile.into());
        self
    }

    /// Says where it is.
    #[must_use]
    pub fn in_region(mut self, region: Region) -> Self {
        self.region = Some(region);
        self
    }
}

impl<T: ?Sized> Clone for Opened<T> {
    fn clone(&self) -> Self {
        Self {
            address: self.address.clone(),
            region: self.region.clone(),
            profile: self.profile.clone(),
            provider: Arc::clone(&self.provider),
        }
    }
}

/// Everything that a backend brings for one member.
#[derive(Clone, Debug)]
pub struct Provider {
    /// The management plane.
    pub database: Opened<dyn ManagedDatabase>,
    /// The data plane.
    pub probe: Arc<dyn DatabaseProbe>,
    /// Its own fences, used when the group file lists none, in this order.
    pub fences: Vec<Arc<dyn Fence>>,
}

impl Provider {
    /// A member without a fence of its own.
    pub fn of(database: Opened<dyn ManagedDatabase>, probe: Arc<dyn DatabaseProbe>) -> Self {
        Self { database, probe, fences: Vec::new() }
    }

    /// Adds a fence.
    #[must_use]
    pub fn fence(mut self, fence: Arc<dyn Fence>) -> Self {
        self.fences.push(fence);
        self
    }
}

/// A route, and the applications' write path where the same service (a pooler) is both.
#[derive(Clone, Debug)]
pub struct Route {
    /// The route.
    pub router: Opened<dyn TrafficRouter>,
    /// The write path behind it; it is one of the group's, under the route's name, if the file has no `[[app]]`.
    pub app: Option<Opened<dyn AppTier>>,
}

impl Route {
    /// A route that only routes.
    #[must_use]
    pub fn only(router: Opened<dyn TrafficRouter>) -> Self {
        Self { router, app: None }
    }

    /// A route that can hold writes back, too.
    #[must_use]
    pub fn draining(router: Opened<dyn TrafficRouter>, app: Opened<dyn AppTier>) -> Self {
        Self { router, app: Some(app) }
    }
}

/// A cloud, a database service, a power switch: what answers for one prefix of names in group files.
///
/// *Guarantees.* No method makes a call or waits. What a backend does not have is refused by the default body with the
/// place in the file.
pub trait Backend: Debug + Send + Sync + 'static {
    /// What stands before the dot: `azure` of `azure.pg-flexible`.
    fn prefix(&self) -> &'static str;

    /// How slow the service of this name is (`azure.pg-flexible`). Deadlines come from it where no member of the service tells its
    /// own: for a region that is dark from the start.
    fn pace(&self, _service: &BackendName) -> ServicePace {
        ServicePace::CAUTIOUS
    }

    /// Opens a member.
    ///
    /// # Errors
    /// The service is unknown, or the member's table does not do.
    fn open(&self, group: &GroupSpec, member: &MemberSpec) -> Result<Provider, ConfigError>;

    /// Opens a fence of the file's `[[fence]]` list for one member.
    ///
    /// # Errors
    /// This backend has no such fence, or its table does not do.
    fn fence(
        &self,
        _group: &GroupSpec,
        fence: &FenceSpec,
        _member: &MemberSpec,
    ) -> Result<Arc<dyn Fence>, ConfigError> {
        Err(not_offered(&fence.at, "with", fence.with.as_str(), "fence"))
    }

    /// Opens a way to tell people.
    ///
    /// # Errors
    /// This backend tells nobody, or its table does not do.
    fn notifier(&self, _group: &GroupSpec, notify: &NotifySpec) -> Result<Arc<dyn Notifier>, ConfigError> {
        Err(not_offered(&notify.at, "with", notify.with.as_str(), "notifier"))
    }

    /// Opens the connection secret.
    ///
    /// # Errors
    /// This backend has no such store, or its table does not do.
    fn secret(&self, _group: &GroupSpec, secret: &SecretSpec) -> Result<Opened<dyn SecretStore>, ConfigError> {
        Err(not_offered(&secret.at, "store", secret.store.as_str(), "secret store"))
    }

    /// Opens a route.
    ///
    /// # Errors
    /// This backend has no such router, or its table does not do.
    fn route(&self, _group: &GroupSpec, route: &TrafficSpec) -> Result<Route, ConfigError> {
        Err(not_offered(&route.at, "router", route.router.as_str(), "router"))
    }

    /// Opens a route for readers (`serves = "readers"`).
    ///
    /// # Errors
    /// This backend has no such router, or its table does not do.
    fn readers(&self, _group: &GroupSpec, route: &TrafficSpec) -> Result<Opened<dyn ReadersRouter>, ConfigError> {
        Err(not_offered(&route.at, "router", route.router.as_str(), "router for readers"))
    }

    /// Opens the applications' write path.
    ///
    /// # Errors
    /// This backend has no such tier, or its table does not do.
    fn app(&self, _group: &GroupSpec, app: &AppSpec) -> Result<Opened<dyn AppTier>, ConfigError> {
        Err(not_offered(&app.at, "tier", app.tier.as_str(), "application tier"))
    }
}

fn not_offered(at: &crate::contract::AtTable, key: &str, name: &str, what: &str) -> ConfigError {
    ConfigError::value(at.place().parent().then(key), format!("is `{name}`; that backend has no such {what}"))
}
