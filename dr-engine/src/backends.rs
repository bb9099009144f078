//! From a group's file to live providers: each name is given to the backend that answers for its prefix.
//!
//! ```text
//!   GroupSpec ──► Backends::open ──► Bindings   `neu`, `secret:orders`, `app:api`, … ──► (ResourceRef, Resolved)
//!                     └─ an unknown prefix, an address that stands twice: an error with its place in the file
//! ```

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use dr_core::{
    AppTier, Backend, Binding, Fence, GroupSpec, Notifier, ProviderError,
    base::{BindingName, Region, text},
    contract::{
        BackendName, ConfigError, FencePlace, FenceSet, FenceSpec, GradedFence, KeyPath, MemberProvider, MemberSpec,
        Notice, Notices, Occasion, Opened, Provider, Resolved, ResourceKind, ResourceRef, Serves,
    },
};

use crate::{GroupFile, GroupFileError};

/// All backends of an engine, by prefix.
#[derive(Clone, Debug, Default)]
pub(crate) struct Backends {
    by_prefix: BTreeMap<&'static str, Arc<dyn Backend>>,
}

/// What a group's names stand for. Nothing was called.
#[derive(Clone, Debug, Default)]
pub(crate) struct Bindings {
    pub(crate) by_name: BTreeMap<Binding, (ResourceRef, Resolved)>,
    /// Who is told.
    pub(crate) notifiers: Vec<Arc<dyn Notifier>>,
}

impl Backends {
    /// Adds a backend. A later one with the same prefix replaces the earlier one.
    pub(crate) fn add(&mut self, backend: Arc<dyn Backend>) {
        self.by_prefix.insert(backend.prefix(), backend);
    }

    /// Opens everything that a group names.
    pub(crate) fn open(&self, group: &GroupSpec) -> Result<Bindings, ConfigError> {
        let mut bindings = Bindings::default();
        for (index, member) in group.members.iter().enumerate() {
            let place = KeyPath::root().then("member").then(index);
            let opened = self.member(group, member, &place)?;
            bindings.refuse_twice(&opened.0, &place.then("at"))?;
            bindings.by_name.insert((&member.name).into(), (opened.0, Resolved::Member(opened.1)));
        }
        self.surroundings(group, &mut bindings)?;
        for (index, spec) in group.notify.iter().enumerate() {
            let place = KeyPath::root().then("notify").then(index).then("with");
            let inner = self.find(&spec.with, &place)?.notifier(group, spec)?;
            bindings.notifiers.push(match spec.only {
                Notices::All => inner,
                Notices::Urgent => Arc::new(UrgentOnly { inner }),
            });
        }
        Ok(bindings)
    }

    fn member(
        &self,
        group: &GroupSpec,
        member: &MemberSpec,
        place: &KeyPath,
    ) -> Result<(ResourceRef, MemberProvider), ConfigError> {
        let backend = self.find(&member.backend, &place.then("backend"))?;
        let Provider { database, probe, fences } = backend.open(group, member)?;
        let reference = refer(&member.backend, ResourceKind::Database, &database, Some(&member.region));
        let (early, late): (Vec<_>, Vec<_>) = self
            .fences(group, member, fences)?
            .into_iter()
            .partition(|fence| fence.place() == FencePlace::BeforePromotion);
        let pace = backend.pace(&member.backend);
        let (fence, late_fence) = (composed(early), composed(late));
        Ok((reference, MemberProvider { database: database.provider, probe, fence, late_fence, pace }))
    }

    /// The fences that the file lists, or else those that the member's own backend brings.
    fn fences(
        &self,
        group: &GroupSpec,
        member: &MemberSpec,
        own: Vec<Arc<dyn Fence>>,
    ) -> Result<Vec<Arc<dyn Fence>>, ConfigError> {
        let mut listed = Vec::new();
        let ours = |fence: &FenceSpec| fence.member.as_ref().is_none_or(|only| *only == member.name);
        let fences = group.fences.iter().enumerate();
        for (index, fence) in fences.filter(|(_, fence)| !fence.with.is_none() && ours(fence)) {
            let place = KeyPath::root().then("fence").then(index).then("with");
            let opened = self.find(&fence.with, &place)?.fence(group, fence, member)?;
            listed.push(Arc::new(GradedFence::new(opened, fence.grade)) as Arc<dyn Fence>);
        }
        Ok(if group.fences.is_empty() { own } else { listed })
    }

    fn surroundings(&self, group: &GroupSpec, bindings: &mut Bindings) -> Result<(), ConfigError> {
        let place = |list: &str, index: usize| KeyPath::root().then(list).then(index);
        for (index, secret) in group.secrets.iter().enumerate().filter(|(_, secret)| !secret.store.is_none()) {
            let backend = self.find(&secret.store, &place("secret", index).then("store"))?;
            let opened = backend.secret(group, secret)?;
            let reference = refer(&secret.store, ResourceKind::Secret, &opened, secret.region.as_ref());
            bindings.refuse_twice(&reference, &place("secret", index).then("at"))?;
            let name = Binding::Secret(secret.name.clone());
            bindings.by_name.insert(name, (reference, Resolved::Secret(opened.provider)));
        }
        for (index, app) in group.apps.iter().enumerate().filter(|(_, app)| !app.tier.is_none()) {
            let backend = self.find(&app.tier, &place("app", index).then("tier"))?;
            let opened = backend.app(group, app)?;
            bindings.app((&app.name, &app.tier), opened, &place("app", index).then("at"))?;
        }
        for (index, spec) in group.traffic.iter().enumerate().filter(|(_, route)| !route.router.is_none()) {
            let backend = self.find(&spec.router, &place("traffic", index).then("router"))?;
            if spec.serves == Serves::Readers {
                let opened = backend.readers(group, spec)?;
                let reference = refer(&spec.router, ResourceKind::Readers, &opened, None);
                bindings.refuse_twice(&reference, &place("traffic", index).then("at"))?;
                let router = Resolved::Readers(opened.provider);
                bindings.by_name.insert(Binding::Readers(spec.name.clone()), (reference, router));
                continue;
            }
            let route = backend.route(group, spec)?;
            let reference = refer(&spec.router, ResourceKind::Traffic, &route.router, None);
            bindings.refuse_twice(&reference, &place("traffic", index).then("at"))?;
            let router = Resolved::Traffic(route.router.provider);
            bindings.by_name.insert(Binding::Traffic(spec.name.clone()), (reference, router));
            // The file's own list of tiers counts, if it has one, also if it says that there is none.
            if let Some(app) = route.app.filter(|_| group.apps.is_empty()) {
                bindings.app((&spec.name, &spec.router), app, &place("traffic", index).then("at"))?;
            }
        }
        Ok(())
    }

    fn find(&self, name: &BackendName, place: &KeyPath) -> Result<&Arc<dyn Backend>, ConfigError> {
        self.by_prefix.get(name.prefix()).ok_or_else(|| {
            let known: Vec<&str> = self.by_prefix.keys().copied().collect();
            let help = match text::suggest(name.prefix(), known.iter().copied()) {
                Some(near) => format!("did you mean `{near}`?"),
                None if known.is_empty() => "this program has no backends".to_owned(),
                None => format!("this program has: {}", known.join(", ")),
            };
            ConfigError::value(place.clone(), format!("is `{name}`, and no backend answers for that; {help}"))
        })
    }
}

impl Bindings {
    /// Two names of one resource would be two writers that are one, or one tier that is drained twice.
    fn refuse_twice(&self, wanted: &ResourceRef, place: &KeyPath) -> Result<(), ConfigError> {
        let ResourceRef { kind, address, .. } = wanted;
        let same = |known: &ResourceRef| known.kind == *kind && known.address == *address;
        match self.by_name.iter().find(|(_, (known, _))| same(known)) {
            Some((other, _)) => {
                Err(ConfigError::value(place.clone(), format!("names the same resource as `{other}` ({address})")))
            }
            None => Ok(()),
        }
    }

    fn app(
        &mut self,
        (name, provider): (&BindingName, &BackendName),
        opened: Opened<dyn AppTier>,
        place: &KeyPath,
    ) -> Result<(), ConfigError> {
        let reference = refer(provider, ResourceKind::App, &opened, None);
        self.refuse_twice(&reference, place)?;
        self.by_name.insert(Binding::App(name.clone()), (reference, Resolved::App(opened.provider)));
        Ok(())
    }
}

/// A notifier that is given only what somebody must act on.
#[derive(Debug)]
struct UrgentOnly {
    inner: Arc<dyn Notifier>,
}

#[async_trait]
impl Notifier for UrgentOnly {
    async fn notify(&self, notice: Notice) -> Result<(), ProviderError> {
        let closing = notice.occasion == Occasion::EndedWell && self.inner.closes();
        if notice.urgent || closing { self.inner.notify(notice).await } else { Ok(()) }
    }

    fn closes(&self) -> bool {
        self.inner.closes()
    }
}

/// Several fences as one.
fn composed(mut fences: Vec<Arc<dyn Fence>>) -> Option<Arc<dyn Fence>> {
    if fences.len() > 1 { Some(Arc::new(FenceSet::new(fences))) } else { fences.pop() }
}

fn refer<T: ?Sized>(
    name: &BackendName,
    kind: ResourceKind,
    opened: &Opened<T>,
    region: Option<&Region>,
) -> ResourceRef {
    ResourceRef {
        provider: name.to_string(),
        kind,
        address: opened.address.clone(),
        identity: None,
        region: opened.region.clone().or_else(|| region.cloned()),
        profile: opened.profile.clone(),
    }
}

/// An entry of `[[notify]]`, opened.
#[derive(Clone, Debug)]
pub struct Told {
    /// What people call it.
    pub name: String,
    /// What tells.
    pub notifier: Arc<dyn Notifier>,
}

/// Opens who is told by a group file, each with its name there: `with`, and a number for the second of its kind (`slack-2`). All of
/// them are given every notice that they are asked to tell, whatever the file says of `only`. Nothing is called.
///
/// # Errors
/// The first complaint about the file, with its line.
pub fn notifiers(backends: &[Arc<dyn Backend>], file: &GroupFile) -> Result<Vec<Told>, GroupFileError> {
    let mut all = Backends::default();
    backends.iter().for_each(|backend| all.add(Arc::clone(backend)));
    let spec = file.spec();
    let open = |(index, name): (usize, String)| {
        let place = KeyPath::root().then("notify").then(index).then("with");
        let Some(notify) = spec.notify.get(index) else { return Ok(None) };
        Ok(Some(Told { name, notifier: all.find(&notify.with, &place)?.notifier(spec, notify)? }))
    };
    let opened: Result<Vec<_>, ConfigError> = names(spec).into_iter().enumerate().map(open).collect();
    Ok(opened.map_err(|error| file.locate(&error))?.into_iter().flatten().collect())
}

/// Returns what people call each entry of `[[notify]]`.
fn names(group: &GroupSpec) -> Vec<String> {
    let mut seen: BTreeMap<&str, u32> = BTreeMap::new();
    let name = |with: &BackendName, count: u32| if count == 1 { with.to_string() } else { format!("{with}-{count}") };
    let all = group.notify.iter().map(|notify| {
        let count = seen.entry(notify.with.as_str()).or_default();
        *count += 1;
        name(&notify.with, *count)
    });
    all.collect()
}

/// Whether the backends can open everything that a group file names. Nothing is called.
///
/// # Errors
/// The first complaint, with its line.
pub fn opens(backends: &[Arc<dyn Backend>], file: &GroupFile) -> Result<(), GroupFileError> {
    let mut all = Backends::default();
    backends.iter().for_each(|backend| all.add(Arc::clone(backend)));
    all.open(file.spec()).map(drop).map_err(|error| file.locate(&error))
}
