//! Services that tell people what runs of a group do, as backends of `[[notify]]`:
//!
//! | `with` | feature | what is sent | the same key twice |
//! |---|---|---|---|
//! | `webhook` | `http` | a JSON object by POST, signed by HMAC-SHA256 | `Idempotency-Key` says so |
//! | `slack` | `http` | a message to an incoming webhook | two messages |
//! | `pagerduty` | `http` | events of the Events API v2, one incident a run | one alert (`dedup_key`) |
//! | `smtp` | `smtp` | a mail by an SMTP server | the same `Message-ID` |
//!
//! ```
//! use dr_core::Backend;
//!
//! let all: Vec<_> = dr_notify::all().iter().map(|backend| backend.prefix()).collect();
//! assert_eq!(all, ["webhook", "slack", "pagerduty", "smtp"]);
//! ```
//!
//! A notifier makes one attempt and answers. A secret is named in the group file
//! (`file:PATH`, `env:NAME`), read for each attempt, and stands in no error, no `Debug` and no journal.

#[cfg(feature = "http")]
mod http;
#[cfg(feature = "http")]
mod pagerduty;
mod secret;
#[cfg(feature = "http")]
mod slack;
#[cfg(feature = "smtp")]
mod smtp;
#[cfg(feature = "http")]
mod webhook;

use std::sync::Arc;

use dr_core::{
    Backend, Millis,
    base::text::parse_duration,
    contract::{ConfigError, MemberSpec, NotifySpec},
    seconds,
};

#[cfg(feature = "smtp")]
pub use smtp::Smtp;
#[cfg(feature = "http")]
pub use {pagerduty::PagerDuty, slack::Slack, webhook::Webhook};

/// How long one attempt may take where the file says nothing.
const WITHIN: Millis = seconds(10);

/// Returns all backends of this crate.
#[must_use]
pub fn all() -> Vec<Arc<dyn Backend>> {
    vec![
        #[cfg(feature = "http")]
        Arc::new(Webhook),
        #[cfg(feature = "http")]
        Arc::new(Slack),
        #[cfg(feature = "http")]
        Arc::new(PagerDuty),
        #[cfg(feature = "smtp")]
        Arc::new(Smtp),
    ]
}

/// Refuses a member that names a notifier as its backend.
fn no_database(name: &str, member: &MemberSpec) -> ConfigError {
    let what = format!("is `{name}`, which tells people; it opens no database");
    ConfigError::value(member.at.place().parent().then("backend"), what)
}

/// Refuses the value of one key of a notifier's table.
fn wrong(notify: &NotifySpec, key: &str, what: impl Into<String>) -> ConfigError {
    ConfigError::value(notify.at.place().then(key), what.into())
}

/// Reads how long one attempt may take.
fn within(notify: &NotifySpec, text: Option<&str>) -> Result<Millis, ConfigError> {
    let Some(text) = text else { return Ok(WITHIN) };
    match parse_duration(text) {
        Ok(time) if time > Millis::ZERO => Ok(time),
        Ok(_) => Err(wrong(notify, "within", "is no time at all; an answer takes a while")),
        Err(error) => Err(wrong(notify, "within", error.to_string())),
    }
}

/// Makes a [`Backend`] that opens notifiers and nothing else.
macro_rules! tells {
    ($(#[$doc:meta])* $name:ident = $prefix:literal, $open:path) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default)]
        pub struct $name;

        impl dr_core::Backend for $name {
            fn prefix(&self) -> &'static str {
                $prefix
            }

            fn open(
                &self,
                _group: &dr_core::GroupSpec,
                member: &dr_core::contract::MemberSpec,
            ) -> Result<dr_core::contract::Provider, dr_core::contract::ConfigError> {
                Err($crate::no_database($prefix, member))
            }

            fn notifier(
                &self,
                group: &dr_core::GroupSpec,
                notify: &dr_core::contract::NotifySpec,
            ) -> Result<std::sync::Arc<dyn dr_core::Notifier>, dr_core::contract::ConfigError> {
                Ok(std::sync::Arc::new($open(group, notify)?))
            }
        }
    };
}
use tells;
