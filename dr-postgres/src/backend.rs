//! What answers for `postgres` in group files.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use dr_core::{
    AppTier, Backend, Fence, GroupSpec, MemberId, SecretStore,
    contract::{
        AppSpec, BackendName, ConfigError, FenceSpec, MemberSpec, Opened, Provider, Route, SecretSpec, ServicePace,
        TrafficSpec,
    },
};
use dr_sql::LoginFence;

use crate::{
    config::{self, FileAt, HbaAt, LoginFenceAt, NothingAt},
    database::PostgresDatabase,
    fence::ClosedHba,
    member::Member,
    router::PostgresPooler,
    secret::FileSecret,
    server::ServerControl,
    stop::StopFence,
};

/// The backend for self-managed PostgreSQL: members `postgres`, fences `postgres.stop`, `postgres.hba` and `postgres.login`, the route
/// and drain `postgres.pgbouncer`, the store `postgres.file`.
#[derive(Debug, Default)]
pub struct Postgres {
    /// What is put between every server and the way to its host.
    wrap: WrapControl,
    /// One object for a member, whoever asks for it: its providers share sessions.
    open: Mutex<BTreeMap<String, Arc<Member>>>,
}

impl Postgres {
    /// The backend.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Puts something of one's own between every server and the way to its host: an audit, a fault, a trial that ends the process.
    #[must_use]
    pub fn with_control(
        mut self,
        wrap: impl Fn(Arc<dyn ServerControl>) -> Arc<dyn ServerControl> + Send + Sync + 'static,
    ) -> Self {
        self.wrap = WrapControl(Some(Arc::new(wrap)));
        self
    }

    fn member(&self, group: &GroupSpec, spec: &MemberSpec) -> Result<Arc<Member>, ConfigError> {
        let digest = group.digest().map(|digest| digest.hex()).unwrap_or_default();
        let key = format!("{digest}/{}", spec.name);
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(member) = open.get(&key) {
            return Ok(Arc::clone(member));
        }
        let member = Arc::new(config::member(group, spec, &self.wrap)?);
        open.insert(key, Arc::clone(&member));
        Ok(member)
    }

    fn servers(&self, group: &GroupSpec) -> Result<BTreeMap<MemberId, Arc<Member>>, ConfigError> {
        let ours = group.members.iter().filter(|member| member.backend.prefix() == self.prefix());
        ours.map(|spec| Ok((spec.name.clone(), self.member(group, spec)?))).collect()
    }
}

/// What every way to a host goes through.
#[derive(Clone, Default)]
pub(crate) struct WrapControl(Option<Arc<Wrap>>);

type Wrap = dyn Fn(Arc<dyn ServerControl>) -> Arc<dyn ServerControl> + Send + Sync;

impl WrapControl {
    pub(crate) fn around(&self, control: Arc<dyn ServerControl>) -> Arc<dyn ServerControl> {
        match &self.0 {
            Some(wrap) => wrap(control),
            None => control,
        }
    }
}

impl fmt::Debug for WrapControl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "WrapControl(..)" } else { "WrapControl(none)" })
    }
}

fn unknown(at: &dr_core::contract::AtTable, key: &str, name: &str, offered: &str) -> ConfigError {
    ConfigError::value(at.place().parent().then(key), format!("is `{name}`; this backend has {offered}"))
}

impl Backend for Postgres {
    fn prefix(&self) -> &'static str {
        "postgres"
    }

    fn pace(&self, _service: &BackendName) -> ServicePace {
        crate::database::PACE
    }

    fn open(&self, group: &GroupSpec, member: &MemberSpec) -> Result<Provider, ConfigError> {
        if member.backend.service().is_some() {
            return Err(unknown(&member.at, "backend", member.backend.as_str(), "members `postgres`"));
        }
        let open = self.member(group, member)?;
        let database = Arc::new(PostgresDatabase::new(Arc::clone(&open)));
        let probe = Arc::new(open.probe());
        let opened = Opened::new(open.address(), database as Arc<dyn dr_core::ManagedDatabase>);
        Ok(Provider::of(opened.in_region(member.region.clone()), probe).fence(Arc::new(StopFence::new(open))))
    }

    fn fence(&self, group: &GroupSpec, fence: &FenceSpec, member: &MemberSpec) -> Result<Arc<dyn Fence>, ConfigError> {
        let open = self.member(group, member)?;
        match fence.with.service() {
            Some("stop") => {
                let NothingAt {} = fence.at.read()?;
                Ok(Arc::new(StopFence::new(open)))
            }
            Some("hba") => Ok(Arc::new(ClosedHba::new(open, fence.at.read::<HbaAt>()?.spare))),
            Some("login") => Ok(Arc::new(LoginFence::new(
                Arc::clone(&open) as _,
                open.address(),
                fence.at.read::<LoginFenceAt>()?.roles,
            ))),
            Some(_) | None => {
                let offered = "fences `postgres.stop`, `postgres.hba` and `postgres.login`";
                Err(unknown(&fence.at, "with", fence.with.as_str(), offered))
            }
        }
    }

    fn secret(&self, group: &GroupSpec, secret: &SecretSpec) -> Result<Opened<dyn SecretStore>, ConfigError> {
        if secret.store.service() != Some("file") {
            return Err(unknown(&secret.at, "store", secret.store.as_str(), "a store `postgres.file`"));
        }
        let at: FileAt = secret.at.read()?;
        let members = self.servers(group)?.values().map(|member| member.endpoint()).collect();
        let store = Arc::new(FileSecret::new(&at.path, secret.set.clone()).with_members(members));
        Ok(Opened::new(format!("file:{}", at.path.display()), store as Arc<dyn SecretStore>))
    }

    fn route(&self, group: &GroupSpec, route: &TrafficSpec) -> Result<Route, ConfigError> {
        if route.router.service() != Some("pgbouncer") {
            return Err(unknown(&route.at, "router", route.router.as_str(), "a router `postgres.pgbouncer`"));
        }
        let (id, pooler) = config::pooler(group, (&route.at, Some(route)), self.servers(group)?, &self.wrap)?;
        let pooler = Arc::new(pooler);
        let router = Opened::new(id.clone(), Arc::clone(&pooler) as Arc<dyn dr_core::TrafficRouter>);
        Ok(Route::draining(router, Opened::new(format!("{id}/drain"), pooler as Arc<dyn AppTier>)))
    }

    fn app(&self, group: &GroupSpec, app: &AppSpec) -> Result<Opened<dyn AppTier>, ConfigError> {
        if app.tier.service() != Some("pgbouncer") {
            return Err(unknown(&app.at, "tier", app.tier.as_str(), "a tier `postgres.pgbouncer`"));
        }
        let (id, pooler): (String, PostgresPooler) =
            config::pooler(group, (&app.at, None), self.servers(group)?, &self.wrap)?;
        Ok(Opened::new(format!("{id}/drain"), Arc::new(pooler) as Arc<dyn AppTier>))
    }
}
