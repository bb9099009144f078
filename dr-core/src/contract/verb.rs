//! The mutating verbs of the provider traits: one table, from which come the verbs that a plan may name, the class of steps that may use
//! each, and the gate's pass.
//!
//! A verb is a method of a provider trait that answers an [`Outcome`](crate::contract::Outcome). [`Verb`] has no public constructor, and the gate
//! lets only a [`Verb`] pass: what is not in the table cannot be sent.

use std::fmt::Write as _;

use crate::contract::{Binding, Class, ResourceKind, Touch};

/// One mutating verb.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verb {
    provider: &'static str,
    method: &'static str,
    of: ResourceKind,
    name: &'static str,
    class: Option<Class>,
    certified: bool,
}

impl Verb {
    /// The trait that has it.
    #[must_use]
    pub const fn provider(&self) -> &'static str {
        self.provider
    }

    /// The method of the trait.
    #[must_use]
    pub const fn method(&self) -> &'static str {
        self.method
    }

    /// What kind of thing it changes.
    #[must_use]
    pub const fn of(&self) -> ResourceKind {
        self.of
    }

    /// What plans and allow-lists call it.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// The class of the steps that may use it; `None` where any step may.
    #[must_use]
    pub const fn class(&self) -> Option<Class> {
        self.class
    }

    /// Whether the gate lets it pass only with proofs that are not too old.
    #[must_use]
    pub const fn certified(&self) -> bool {
        self.certified
    }

    /// The touch of this verb on what a plan binds to `resource`.
    #[must_use]
    pub fn on(&self, resource: impl Into<Binding>) -> Touch {
        Touch::new(resource, self.name)
    }

    /// Whether a touch is of this verb.
    #[must_use]
    pub fn is(&self, touch: &Touch) -> bool {
        touch.verb == self.name
    }
}

macro_rules! verbs {
    ($($id:ident = $provider:ident::$method:ident, $of:ident $name:literal, $class:expr, $certified:literal;)*) => {
        $(
            #[doc = concat!("[`", stringify!($provider), "::", stringify!($method), "`](crate::contract::", stringify!($provider), "::",
                stringify!($method), ").")]
            pub const $id: Verb = Verb {
                provider: stringify!($provider),
                method: stringify!($method),
                of: ResourceKind::$of,
                name: $name,
                class: $class,
                certified: $certified,
            };
        )*
        /// All mutating verbs.
        pub const ALL: &[Verb] = &[$($id),*];
    };
}

verbs! {
    PROMOTE = ManagedDatabase::promote, Database "promote", Some(Class::Pivot), true;
    SWAP_ROLES = ManagedDatabase::swap_roles, Database "swap-roles", Some(Class::Pivot), true;
    REJOIN = ManagedDatabase::rejoin, Database "rejoin", Some(Class::Rejoin), false;
    FOLLOW = ManagedDatabase::follow, Database "follow", Some(Class::Rejoin), false;
    SNAPSHOT = ManagedDatabase::snapshot, Database "snapshot", None, false;
    CREATE_REPLICA = ManagedDatabase::create_replica, Database "create-replica", Some(Class::Topology), false;
    RESTORE = ManagedDatabase::restore, Database "restore", Some(Class::Topology), false;
    DESTROY = ManagedDatabase::destroy, Database "destroy", Some(Class::Destroy), true;
    HARDEN = ManagedDatabase::harden, Database "harden", None, false;
    PRESERVE = ManagedDatabase::preserve, Database "preserve", None, false;
    RAISE_SEQUENCES = ManagedDatabase::raise_sequences, Database "raise-sequences", None, false;
    SETTLE = ManagedDatabase::settle, Database "settle", None, false;
    FENCE = Fence::engage, Database "fence", Some(Class::Fence), false;
    RELEASE_FENCE = Fence::release, Database "release-fence", Some(Class::ReleaseFence), false;
    CLEAR_FENCE = Fence::clear, Database "clear-fence", Some(Class::ClearFence), false;
    RETIRE_FENCE = Fence::retire, Database "retire-fence", Some(Class::RetireFence), false;
    PATCH = SecretStore::patch, Secret "patch", Some(Class::Secret), false;
    ROTATE = SecretStore::rotate, Secret "rotate", Some(Class::Secret), false;
    APPLY = TrafficRouter::apply, Traffic "apply", Some(Class::Traffic), false;
    SPREAD = ReadersRouter::spread, Readers "spread", None, false;
    DRAIN = AppTier::drain, App "drain", Some(Class::Drain), false;
    RESUME = AppTier::resume, App "resume", Some(Class::Resume), false;
    FAIL_FAST = AppTier::fail_fast, App "fail-fast", Some(Class::Drain), false;
    SCALE = AppTier::scale, App "scale", None, false;
    RECYCLE = AppTier::recycle, App "recycle", None, false;
}

/// What a swap of roles does to a route or secret that the provider moves by itself. It is no call of its own and has no method: only
/// the swap that names it lets it happen.
const MOVED: &str = "follow";

/// A route or secret that the provider of a swap moves by itself.
#[must_use]
pub fn follow(binding: impl Into<Binding>) -> Touch {
    Touch::new(binding, MOVED)
}

/// Whether a touch is of a binding that follows a swap, given its kind.
#[must_use]
pub(crate) fn follows(of: ResourceKind, touch: &Touch) -> bool {
    touch.verb == MOVED && matches!(of, ResourceKind::Secret | ResourceKind::Traffic)
}

/// The verb of this name that things of a kind have.
#[must_use]
pub fn find(of: ResourceKind, name: &str) -> Option<&'static Verb> {
    ALL.iter().find(|verb| verb.of == of && verb.name == name)
}

/// The verbs as a Markdown table, for the docs.
#[must_use]
pub fn markdown() -> String {
    let mut text =
        String::from("| on | verb | method | used by steps of class | wants proofs |\n|---|---|---|---|---|\n");
    for Verb { provider, method, of, name, class, certified } in ALL {
        let class = class.map_or_else(|| "any".to_owned(), |class| format!("{class:?}"));
        let proofs = if *certified { "yes" } else { "" };
        let _infallible = writeln!(text, "| {of:?} | `{name}` | `{provider}::{method}` | {class} | {proofs} |");
    }
    text
}
