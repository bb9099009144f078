//! Pointing the connection secret at the writer: one new version, compared and set (D17, A06, B10).

use async_trait::async_trait;
use futures_util::future::join;
use serde::{Deserialize, Serialize};

use super::{
    confirm::no_writer_any_more,
    read::{later, refuse},
};
use crate::{
    base::{BindingName, Endpoint, Json, Kind, Millis, SecretVersion, canonical},
    contract::{Binding, Class, Fact, Outcome, PatchSecret, Retry, SecretReference, Touch, Tri, WriterReceipt, verb},
    plan::{Carries, Effect, Handler, Input, Marks, Observed, Output, Prepared, Ready, Stage, Step, StepCx, StepError},
};

/// Points the connection secret at the writer; nothing is written when it names it already.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PointSecret {
    secret: BindingName,
    writer: Input<WriterReceipt>,
}

impl PointSecret {
    /// At this writer.
    #[must_use]
    pub fn at(secret: &BindingName, writer: &impl Carries<WriterReceipt>) -> Self {
        Self { secret: secret.clone(), writer: Input::of(writer) }
    }
}

/// What the secret names now, and which version named the former writer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretReceipt {
    /// The version before, kept for the way back.
    pub before: Option<SecretVersion>,
    /// The version that names the writer.
    pub version: SecretVersion,
    /// What it names.
    pub endpoint: Endpoint,
}

impl Output for SecretReceipt {
    fn type_name() -> std::borrow::Cow<'static, str> {
        "dr.secret-receipt".into()
    }
}

impl Step for PointSecret {
    const KIND: Kind = Kind::new("dr.point-secret", 1);
    const EFFECT: Effect = Effect::Reconcilable;
    const CLASS: Class = Class::Secret;
    type Output = SecretReceipt;

    fn sentence(&self) -> String {
        format!("point the secret {} at the writer's endpoint", self.secret)
    }

    fn marks(&self) -> Marks {
        Marks::at(Stage::Move)
    }

    fn touches(&self) -> Vec<Touch> {
        vec![verb::PATCH.on(Binding::Secret(self.secret.clone()))]
    }
}

/// What was read before the first intent.
#[derive(Debug, Serialize, Deserialize)]
struct Before {
    version: SecretVersion,
}

fn before(cx: &StepCx) -> Option<SecretVersion> {
    let image = cx.pre_image()?;
    serde_json::from_value::<Before>(image.0.clone()).ok().map(|before| before.version)
}

fn names(cx: &StepCx, secret: &SecretReference, writer: &WriterReceipt) -> bool {
    match &secret.endpoint {
        Some(endpoint) => *endpoint == writer.endpoint,
        // A store that does not tell what it names tells at least whose write was the last.
        None => secret.token.as_ref() == Some(&cx.key()),
    }
}

pub(super) struct Pointing;

#[async_trait]
impl Handler for Pointing {
    type Step = PointSecret;

    async fn observe(&self, cx: &StepCx, step: &PointSecret) -> Result<Observed<SecretReceipt>, StepError> {
        let secret = cx.secret(&step.secret)?.read().await?;
        let writer = step.writer.get()?;
        Ok(if names(cx, &secret, writer) {
            let endpoint = writer.endpoint.clone();
            Observed::Done(SecretReceipt { before: before(cx), version: secret.version, endpoint })
        } else {
            Observed::NotStarted
        })
    }

    async fn prepare(&self, cx: &StepCx, step: &PointSecret) -> Result<Prepared<SecretReceipt>, StepError> {
        let writer = step.writer.get()?;
        let store = cx.secret(&step.secret)?;
        let (gone, secret) = join(no_writer_any_more(cx, writer), store.read()).await;
        if let Some(why) = gone? {
            return Ok(refuse(why));
        }
        let secret = secret?;
        if names(cx, &secret, writer) {
            let endpoint = writer.endpoint.clone();
            return Ok(Prepared::AlreadyDone(SecretReceipt { before: before(cx), version: secret.version, endpoint }));
        }
        if secret.rotating == Tri::Yes {
            return Ok(later(
                "the secret is being rotated; a cutover waits for its end",
                Retry::After(Millis::seconds(5)),
            ));
        }
        let names = secret.endpoint.as_ref().map_or("nothing known", Endpoint::as_str);
        Ok(Prepared::Ready(Ready {
            facts: vec![Fact::any(
                &Binding::Secret(step.secret.clone()).to_string(),
                format!("version {} names {names}", secret.version),
                "store",
                cx.now(),
            )],
            pre_image: Some(Json(canonical::to_value(&Before { version: secret.version })?)),
        }))
    }

    async fn submit(&self, cx: &StepCx, step: &PointSecret) -> Result<Outcome<SecretReceipt>, StepError> {
        let writer = step.writer.get()?;
        let store = cx.secret(&step.secret)?;
        let now = store.read().await?;
        let before = before(cx);
        // The first attempt stands on the version that was recorded; a later one (a person saw the other version and chose to try
        // again) on the one that is there now.
        let expected = before.clone().filter(|_| cx.attempt() <= 1).unwrap_or_else(|| now.version.clone());
        let request = PatchSecret { writer: writer.clone(), expected, key: cx.key() };
        let endpoint = writer.endpoint.clone();
        Ok(store.patch(request).await.map(|version| SecretReceipt { before, version, endpoint }))
    }
}
