//! Incidents by the Events API v2 of PagerDuty: one a run.
//!
//! ```toml
//! [[notify]]
//! with = "pagerduty"
//! at   = { routing_key = "file:/etc/dr/pagerduty.key" }
//! ```
//!
//! An urgent notice triggers; the end of a run that did what it was for resolves; everything else is not sent. All events of a run have
//! one `dedup_key`, `dr/ENVIRONMENT/RUN`, so that a repeated notice adds no incident and the end finds the one to close. A run that ends
//! without success leaves its incident open: a person closes it.

use async_trait::async_trait;
use dr_core::{
    GroupSpec, Notifier, ProviderError,
    contract::{ConfigError, Notice, NotifySpec, Occasion, SecretRef},
};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    http::{Letter, Url, Way},
    secret::{Named, Secret},
    tells, within,
};

tells! {
    /// The backend `pagerduty`: it opens an incident when somebody must act, and closes it when the run ends well.
    PagerDuty = "pagerduty", open
}

/// The service of accounts in the United States; those in Europe have another one.
const EVENTS: &str = "https://events.pagerduty.com/v2/enqueue";

/// How long a summary may be, in characters.
const SUMMARY: usize = 1024;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct At {
    /// The integration key of a service.
    routing_key: SecretRef,
    /// Another address of the Events API, such as `https://events.eu.pagerduty.com/v2/enqueue`.
    url: Option<String>,
    /// A file of certificates to trust in place of those of the system.
    ca: Option<String>,
    /// How long one attempt may take.
    within: Option<String>,
}

#[derive(Debug)]
struct Incidents {
    way: Way,
    routing_key: Named,
    group: String,
    environment: String,
}

fn open(group: &GroupSpec, notify: &NotifySpec) -> Result<Incidents, ConfigError> {
    let at: At = notify.at.read()?;
    let url = Url::of(notify, at.url.as_deref().unwrap_or(EVENTS))?;
    let way = Way { url, ca: at.ca, within: within(notify, at.within.as_deref())? };
    let routing_key = Named::of(notify, "routing_key", at.routing_key)?;
    let (group, environment) = (group.name.to_string(), group.environment.to_string());
    Ok(Incidents { way, routing_key, group, environment })
}

/// What an event does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    Trigger,
    Resolve,
}

/// What a notice asks for: nothing, where nobody must act.
fn actions(notice: &Notice) -> &'static [Action] {
    match notice.occasion {
        Occasion::EndedWell => &[Action::Resolve],
        // A test leaves no incident behind.
        Occasion::Test => &[Action::Trigger, Action::Resolve],
        Occasion::Progress
        | Occasion::Asked
        | Occasion::Parked
        | Occasion::Outage
        | Occasion::TurningBack
        | Occasion::Ended => {
            if notice.urgent {
                &[Action::Trigger]
            } else {
                &[]
            }
        }
    }
}

impl Incidents {
    fn event(&self, key: &Secret, action: Action, notice: &Notice) -> Value {
        let about = if notice.occasion == Occasion::Test { "/test" } else { "" };
        let mut event = json!({
            "routing_key": key.value(),
            "dedup_key": format!("dr/{}/{}{about}", self.environment, notice.run),
        });
        let more = match action {
            Action::Resolve => json!({"event_action": "resolve"}),
            Action::Trigger => json!({
                "event_action": "trigger",
                "payload": {
                    "summary": notice.text.chars().take(SUMMARY).collect::<String>(),
                    "source": self.group,
                    "severity": if notice.urgent { "critical" } else { "info" },
                    "group": self.environment,
                    "class": notice.occasion,
                    "custom_details": {"run": notice.run, "key": notice.key},
                },
            }),
        };
        if let (Value::Object(event), Value::Object(more)) = (&mut event, more) {
            event.extend(more);
        }
        event
    }
}

#[async_trait]
impl Notifier for Incidents {
    async fn notify(&self, notice: Notice) -> Result<(), ProviderError> {
        let actions = actions(&notice);
        if actions.is_empty() {
            return Ok(());
        }
        let key = self.routing_key.read().await?;
        for action in actions {
            let body = self.event(&key, *action, &notice).to_string();
            self.way.post(Letter { headers: Vec::new(), body, secrets: vec![&key] }).await?;
        }
        Ok(())
    }

    fn closes(&self) -> bool {
        true
    }
}
