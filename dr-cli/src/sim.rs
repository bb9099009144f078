//! The simulated provider as a backend of group files: to try everything out without a database.
//!
//! ```toml
//! [[member]]
//! name    = "neu"
//! region  = "north"
//! backend = "sim"
//! at      = { instance = "neu", flavour = "role-swap", speed = "fast" }   # or "separate" (default), "storage-fence"; "realistic" (default)
//! ```
//!
//! The world of a group is kept in a file, so that several commands see the same one. Its clients go on writing in between.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use dr_core::{
    AppTier, Backend, Cause, Fence, GroupName, GroupSpec, MemberId, Notifier, SecretStore,
    contract::{
        AppSpec, ConfigError, FenceSpec, KeyPath, MemberSpec, NotifySpec, Opened, Provider, ReadersRouter, Route,
        SecretSpec, TrafficSpec,
    },
    millis,
};
use dr_engine::TokioRuntime;
use dr_testkit::{Flavour, Setup, SimCloud, Timing};
use serde::Deserialize;

/// The backend `sim`: one simulated cloud per group, each in a file of one directory.
#[derive(Debug)]
pub struct Simulated {
    dir: PathBuf,
    clouds: Mutex<BTreeMap<GroupName, SimCloud>>,
}

/// The `at` table of a simulated member.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct At {
    /// The member's own name: no two members may have the same table.
    instance: Option<String>,
    flavour: Option<Flavour>,
    speed: Option<Speed>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Speed {
    Fast,
    Realistic,
}

impl Simulated {
    /// Keeps the worlds in `dir`.
    #[must_use]
    pub fn in_dir(dir: impl AsRef<Path>) -> Self {
        let dir = std::path::absolute(dir.as_ref()).unwrap_or_else(|_| dir.as_ref().to_path_buf());
        Self { dir, clouds: Mutex::default() }
    }

    /// Keeps the worlds in `$DR_SIM`, or in `sim` of the current directory.
    #[must_use]
    pub fn from_env() -> Self {
        Self::in_dir(std::env::var_os("DR_SIM").map_or_else(|| PathBuf::from("sim"), PathBuf::from))
    }

    /// Kills the server of a member.
    pub(crate) fn kill(&self, group: &GroupSpec, member: &MemberId) -> Result<(), ConfigError> {
        self.cloud(group)?.break_down(member.as_str());
        Ok(())
    }

    /// The world of a group: the one that is kept, or a new one as the file describes it.
    fn cloud(&self, group: &GroupSpec) -> Result<SimCloud, ConfigError> {
        let mut clouds = self.clouds.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(cloud) = clouds.get(&group.name) {
            return Ok(cloud.clone());
        }
        let place = KeyPath::root().then("member");
        let failed = |what: String| ConfigError::value(place.clone(), what);
        let runtime = TokioRuntime::current().map_err(|error| failed(error.to_string()))?;
        std::fs::create_dir_all(&self.dir)
            .map_err(|error| failed(format!("cannot be simulated in `{}`: {error}", self.dir.display())))?;
        let path = self.dir.join(format!("{}.json", group.name));
        let cloud = SimCloud::open(&path, setup(group)?, Arc::new(runtime))
            .map_err(|error| failed(Cause::chain(&error).to_string()))?;
        clouds.insert(group.name.clone(), cloud.clone());
        Ok(cloud)
    }
}

/// What a new world is made from: the first member writes at the beginning.
fn setup(group: &GroupSpec) -> Result<Setup, ConfigError> {
    let [primary, standby, others @ ..] = group.members.as_slice() else {
        let what = "has one entry; the simulation begins with a primary and a standby".to_owned();
        return Err(ConfigError::value(KeyPath::root().then("member"), what));
    };
    let pair = Setup::pair(group.name.as_str(), primary.name.as_str(), standby.name.as_str());
    let mut setup = others.iter().fold(pair, |setup, member| setup.with(member.name.as_str(), member.role));
    for (made, member) in setup.members.iter_mut().zip(&group.members) {
        made.region = member.region.to_string();
        made.role = member.role;
    }
    for member in &group.members {
        let at: At = member.at()?;
        if let Some(other) = at.instance.filter(|instance| instance != member.name.as_str()) {
            let what = format!("is `{other}`; the simulated instance has the member's name, `{}`", member.name);
            return Err(ConfigError::value(member.at.place().then("instance"), what));
        }
        if let Some(flavour) = at.flavour {
            setup = setup.flavour(flavour);
        }
        if let Some(Speed::Fast) = at.speed {
            // Little is written: the whole world is stored at every call.
            let timing = Timing { write_every: millis(200), ..Timing::fast() };
            setup = setup.timing(timing).writers(2);
            // The question comes after the last snapshot: what is shown does not depend on which of the two is quicker.
            setup.service.snapshot_blocks = true;
        }
    }
    setup.routes = group.traffic.len();
    setup.own_fence = !group.fences.is_empty();
    Ok(setup)
}

/// The member as the cloud knows it: flavour and speed made the world, and mean nothing to it afterwards.
fn named(member: &MemberSpec) -> MemberSpec {
    MemberSpec { at: member.at.only(&["instance"]), ..member.clone() }
}

impl Backend for Simulated {
    fn prefix(&self) -> &'static str {
        "sim"
    }

    fn open(&self, group: &GroupSpec, member: &MemberSpec) -> Result<Provider, ConfigError> {
        self.cloud(group)?.backend().open(group, &named(member))
    }

    fn fence(&self, group: &GroupSpec, fence: &FenceSpec, member: &MemberSpec) -> Result<Arc<dyn Fence>, ConfigError> {
        self.cloud(group)?.backend().fence(group, fence, &named(member))
    }

    fn notifier(&self, group: &GroupSpec, notify: &NotifySpec) -> Result<Arc<dyn Notifier>, ConfigError> {
        self.cloud(group)?.backend().notifier(group, notify)
    }

    fn secret(&self, group: &GroupSpec, secret: &SecretSpec) -> Result<Opened<dyn SecretStore>, ConfigError> {
        self.cloud(group)?.backend().secret(group, secret)
    }

    fn route(&self, group: &GroupSpec, route: &TrafficSpec) -> Result<Route, ConfigError> {
        self.cloud(group)?.backend().route(group, route)
    }

    fn readers(&self, group: &GroupSpec, route: &TrafficSpec) -> Result<Opened<dyn ReadersRouter>, ConfigError> {
        self.cloud(group)?.backend().readers(group, route)
    }

    fn app(&self, group: &GroupSpec, app: &AppSpec) -> Result<Opened<dyn AppTier>, ConfigError> {
        self.cloud(group)?.backend().app(group, app)
    }
}
