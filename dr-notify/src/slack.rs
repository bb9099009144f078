//! A message to an incoming webhook of Slack, or of a service that speaks the same.
//!
//! ```toml
//! [[notify]]
//! with = "slack"
//! at   = { url = "file:/etc/dr/slack-url" }
//! ```
//!
//! The URL of an incoming webhook is its password, so it is named and never written. Slack has no key for a message: a notice whose answer
//! was lost is posted twice.

use async_trait::async_trait;
use dr_core::{
    GroupSpec, Notifier, ProviderError,
    contract::{ConfigError, Notice, NotifySpec, SecretRef},
};
use serde::Deserialize;

use crate::{
    http::{Letter, Url, Way},
    secret::Named,
    tells, within,
};

tells! {
    /// The backend `slack`: it posts each notice as a message to an incoming webhook.
    Slack = "slack", open
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct At {
    /// The name of the secret that holds the URL.
    url: SecretRef,
    /// A file of certificates to trust in place of those of the system.
    ca: Option<String>,
    /// How long one attempt may take.
    within: Option<String>,
}

#[derive(Debug)]
struct Channel {
    way: Way,
}

fn open(_group: &GroupSpec, notify: &NotifySpec) -> Result<Channel, ConfigError> {
    let at: At = notify.at.read()?;
    let url = Url::Named(Named::of(notify, "url", at.url)?);
    Ok(Channel { way: Way { url, ca: at.ca, within: within(notify, at.within.as_deref())? } })
}

#[async_trait]
impl Notifier for Channel {
    async fn notify(&self, notice: Notice) -> Result<(), ProviderError> {
        let mark = if notice.urgent { ":rotating_light: " } else { "" };
        // The three characters that Slack reads as markup for links and mentions, so that no text of a run calls a whole channel.
        let text = notice.text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
        let body = serde_json::json!({"text": format!("{mark}{text}")}).to_string();
        self.way.post(Letter { headers: Vec::new(), body, secrets: Vec::new() }).await
    }
}
