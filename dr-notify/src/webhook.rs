//! A JSON object by POST to a URL of one's own.
//!
//! ```toml
//! [[notify]]
//! with = "webhook"
//! at   = { url = "https://events.example.com/dr", sign = "file:/etc/dr/webhook.key", within = "10 s" }
//! ```
//!
//! The body is `{"key", "run", "occasion", "urgent", "text"}`. `Idempotency-Key` is the notice's key: the same key is the same notice.
//! With `sign`, `Dr-Timestamp` holds the time in seconds since 1970 and `Dr-Signature` holds `v1=` and the HMAC-SHA256, in hexadecimal,
//! of that number, a dot and the body. A receiver compares it in constant time and refuses an old timestamp.

use async_trait::async_trait;
use dr_core::{
    GroupSpec, Notifier, ProviderError,
    contract::{ConfigError, Notice, NotifySpec, SecretRef},
};
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde::Deserialize;
use sha2::Sha256;

use crate::{
    http::{Letter, Url, Way, failed},
    secret::Named,
    tells, within,
};

tells! {
    /// The backend `webhook`: it posts each notice as JSON to a URL.
    Webhook = "webhook", open
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct At {
    /// Where to post: `https://…`, or the name of a secret that holds it.
    url: String,
    /// The key of the signature.
    sign: Option<SecretRef>,
    /// A file of certificates to trust in place of those of the system.
    ca: Option<String>,
    /// How long one attempt may take.
    within: Option<String>,
}

#[derive(Debug)]
struct Posts {
    way: Way,
    sign: Option<Named>,
}

fn open(_group: &GroupSpec, notify: &NotifySpec) -> Result<Posts, ConfigError> {
    let at: At = notify.at.read()?;
    let way = Way { url: Url::of(notify, &at.url)?, ca: at.ca, within: within(notify, at.within.as_deref())? };
    let sign = at.sign.map(|named| Named::of(notify, "sign", named)).transpose()?;
    Ok(Posts { way, sign })
}

#[async_trait]
impl Notifier for Posts {
    async fn notify(&self, notice: Notice) -> Result<(), ProviderError> {
        let body = serde_json::json!({
            "key": notice.key, "run": notice.run, "occasion": notice.occasion, "urgent": notice.urgent,
            "text": notice.text,
        });
        let body = body.to_string();
        let mut headers = vec![("idempotency-key", notice.key)];
        let key = match &self.sign {
            Some(named) => Some(named.read().await?),
            None => None,
        };
        if let Some(key) = &key {
            let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
            let at = since.as_secs().to_string();
            headers.push(("dr-signature", signature(key.value(), &at, &body)?));
            headers.push(("dr-timestamp", at));
        }
        self.way.post(Letter { headers, body, secrets: key.iter().collect() }).await
    }
}

fn signature(key: &str, at: &str, body: &str) -> Result<String, ProviderError> {
    let mac = Hmac::<Sha256>::new_from_slice(key.as_bytes());
    let mut mac = mac.map_err(|_| failed("the key of the signature has no usable length"))?;
    mac.update(format!("{at}.{body}").as_bytes());
    let hex: String = mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(format!("v1={hex}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The value is that of `printf '%s' '1700000000.{"a":1}' | openssl dgst -sha256 -hmac key`.
    #[test]
    fn a_signature_covers_time_and_body() {
        let made = signature("key", "1700000000", r#"{"a":1}"#).unwrap();
        assert_eq!(made, "v1=a438e398bfafc57e4396bb7fc2304422f0f768e965d073ca313cb52e22e6ad03");
        assert_ne!(made, signature("key", "1700000001", r#"{"a":1}"#).unwrap());
    }
}
