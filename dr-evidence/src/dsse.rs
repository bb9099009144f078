//! DSSE envelopes over in-toto statements: what is claimed of which files, and who signed that.

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;

use dr_core::base::{CanonicalError, Digest, canonical};

use crate::{
    b64,
    key::{PublicKey, SecretKey},
    strict::{self, NotStrict},
};

/// The payload type of in-toto statements.
pub const IN_TOTO: &str = "application/vnd.in-toto+json";

/// The `_type` of in-toto Statement v1.
pub const STATEMENT: &str = "https://in-toto.io/Statement/v1";

/// The bytes that a DSSE signature covers: type and body with their lengths.
#[must_use]
pub fn pae(kind: &str, body: &[u8]) -> Vec<u8> {
    let mut bytes = format!("DSSEv1 {} {kind} {} ", kind.len(), body.len()).into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

/// Why an envelope is not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadEnvelope {
    /// The file or the payload is no canonical JSON, or of another form.
    #[error(transparent)]
    Form(#[from] NotStrict),
    /// A field is no base64 in the only form that is read.
    #[error("its `{0}` is no base64 (RFC 4648, section 4, padded)")]
    Base64(&'static str),
    /// It carries something else.
    #[error("it carries `{found}` and not `{expected}`")]
    Type {
        /// What it carries.
        found: String,
        /// What was expected.
        expected: String,
    },
    /// It has no signature, or several.
    #[error("it has {0} signatures and not one")]
    Signatures(usize),
    /// It names another key.
    #[error("it names the key `{0}`")]
    OtherKey(String),
    /// It names the key, and the signature is not that key's.
    #[error("its signature does not belong to its payload")]
    Signature,
}

/// An envelope as it is stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Stored {
    payload: String,
    payload_type: String,
    signatures: Vec<StoredSignature>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredSignature {
    keyid: String,
    sig: String,
}

/// A signed payload. Each envelope of a bundle has one signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    kind: String,
    payload: Vec<u8>,
    keyid: String,
    signature: Vec<u8>,
}

impl Envelope {
    /// Signs a payload.
    #[must_use]
    pub fn sign(kind: &str, payload: Vec<u8>, key: &SecretKey) -> Self {
        let signature = key.sign(&pae(kind, &payload)).to_vec();
        Self { kind: kind.to_owned(), payload, keyid: key.public().to_string(), signature }
    }

    /// Reads an envelope; nothing of it is verified yet. Only the bytes that [`bytes`](Self::bytes) writes are read.
    ///
    /// # Errors
    /// [`BadEnvelope`].
    pub fn parse(bytes: &[u8]) -> Result<Self, BadEnvelope> {
        let stored: Stored = strict::from_slice(bytes)?;
        let payload = b64::decode(&stored.payload).ok_or(BadEnvelope::Base64("payload"))?;
        let [StoredSignature { keyid, sig }] = stored.signatures.as_slice() else {
            return Err(BadEnvelope::Signatures(stored.signatures.len()));
        };
        let signature = b64::decode(sig).ok_or(BadEnvelope::Base64("sig"))?;
        Ok(Self { kind: stored.payload_type, payload, keyid: keyid.clone(), signature })
    }

    /// The envelope as it is stored: canonical JSON.
    ///
    /// # Errors
    /// None in practice: all of its fields are text.
    pub fn bytes(&self) -> Result<Vec<u8>, CanonicalError> {
        let sig = StoredSignature { keyid: self.keyid.clone(), sig: b64::encode(&self.signature) };
        canonical::to_bytes(&Stored {
            payload: b64::encode(&self.payload),
            payload_type: self.kind.clone(),
            signatures: vec![sig],
        })
    }

    /// The key that it says signed it: a hint.
    #[must_use]
    pub fn keyid(&self) -> &str {
        &self.keyid
    }

    /// Returns the payload once `key` is known to have signed it as `kind`.
    ///
    /// # Errors
    /// [`BadEnvelope`].
    pub fn open(&self, kind: &str, key: &PublicKey) -> Result<&[u8], BadEnvelope> {
        if self.kind != kind {
            return Err(BadEnvelope::Type { found: self.kind.clone(), expected: kind.to_owned() });
        }
        if self.keyid != key.to_string() {
            return Err(BadEnvelope::OtherKey(self.keyid.clone()));
        }
        if !key.verifies(&pae(&self.kind, &self.payload), &self.signature) {
            return Err(BadEnvelope::Signature);
        }
        Ok(&self.payload)
    }

    /// The payload before anybody verified it, for a search after what was changed.
    #[must_use]
    pub fn unverified(&self) -> &[u8] {
        &self.payload
    }
}

/// A file that a statement speaks of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Subject {
    /// Its name in the bundle.
    pub name: String,
    /// Its digest.
    pub digest: Sha256Of,
}

/// A digest as in-toto writes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sha256Of {
    /// SHA-256 over the bytes of the file.
    pub sha256: Digest,
}

impl Subject {
    /// The subject of a file.
    #[must_use]
    pub fn of(name: impl Into<String>, bytes: &[u8]) -> Self {
        Self { name: name.into(), digest: Sha256Of { sha256: canonical::sha256(bytes) } }
    }
}

/// An in-toto Statement v1.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Statement<P> {
    #[serde(rename = "_type")]
    kind: String,
    /// The files that it speaks of.
    pub subject: Vec<Subject>,
    predicate_type: String,
    /// What it says of them.
    pub predicate: P,
}

impl<P: Serialize + DeserializeOwned> Statement<P> {
    /// States `predicate`, which is of `kind`, of the subjects.
    #[must_use]
    pub fn new(kind: &str, subject: Vec<Subject>, predicate: P) -> Self {
        Self { kind: STATEMENT.to_owned(), subject, predicate_type: kind.to_owned(), predicate }
    }

    /// The payload of its envelope.
    ///
    /// # Errors
    /// The predicate holds something that has no canonical form.
    pub fn bytes(&self) -> Result<Vec<u8>, CanonicalError> {
        canonical::to_bytes(self)
    }

    /// Reads a payload that states a predicate of `kind`.
    ///
    /// # Errors
    /// [`BadEnvelope::Form`] and [`BadEnvelope::Type`].
    pub fn parse(bytes: &[u8], kind: &str) -> Result<Self, BadEnvelope> {
        let types: Value = strict::parse(bytes)?;
        for (field, expected) in [("_type", STATEMENT), ("predicateType", kind)] {
            let found = types.get(field).and_then(Value::as_str).unwrap_or_default();
            if found != expected {
                return Err(BadEnvelope::Type { found: found.to_owned(), expected: expected.to_owned() });
            }
        }
        Ok(strict::from_slice(bytes)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `protocol.md` of secure-systems-lab/dsse, section "Test Vectors".
    #[test]
    fn published_encoding() {
        let bytes = pae("http://example.com/HelloWorld", b"hello world");
        assert_eq!(bytes, b"DSSEv1 29 http://example.com/HelloWorld 11 hello world");
        assert_eq!(pae("", b""), b"DSSEv1 0  0 ");
        assert_eq!(pae("é", b"\xff"), b"DSSEv1 2 \xc3\xa9 1 \xff");
    }

    fn key() -> SecretKey {
        SecretKey::from_seed("run", &[3; 32]).unwrap()
    }

    #[test]
    fn envelope_opens_with_its_key_and_type_alone() {
        let envelope = Envelope::sign("t", b"body".to_vec(), &key());
        let again = Envelope::parse(&envelope.bytes().unwrap()).unwrap();
        assert_eq!(again.open("t", key().public()).unwrap(), b"body");
        assert!(matches!(again.open("u", key().public()), Err(BadEnvelope::Type { .. })));
        let other = SecretKey::from_seed("run", &[4; 32]).unwrap();
        assert!(matches!(again.open("t", other.public()), Err(BadEnvelope::OtherKey(_))));
    }

    #[test]
    fn every_flipped_bit_of_an_envelope_is_seen() {
        let bytes = Envelope::sign("t", b"{\"a\":1}".to_vec(), &key()).bytes().unwrap();
        for at in 0..bytes.len() * 8 {
            let mut changed = bytes.clone();
            changed[at / 8] ^= 1 << (at % 8);
            let opened = Envelope::parse(&changed).and_then(|it| it.open("t", key().public()).map(<[u8]>::to_vec));
            assert!(opened.is_err(), "bit {at}");
        }
    }

    #[test]
    fn statement_has_the_form_of_in_toto() {
        let statement = Statement::new("https://example.com/p", vec![Subject::of("f", b"")], "p".to_owned());
        let bytes = statement.bytes().unwrap();
        let text = std::str::from_utf8(&bytes).unwrap();
        assert_eq!(
            text,
            "{\"_type\":\"https://in-toto.io/Statement/v1\",\"predicate\":\"p\",\"predicateType\":\"https://example.com/p\",\
             \"subject\":[{\"digest\":{\"sha256\":\"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\"},\
             \"name\":\"f\"}]}"
        );
        assert_eq!(Statement::parse(&bytes, "https://example.com/p").unwrap(), statement);
        assert!(matches!(Statement::<String>::parse(&bytes, "other"), Err(BadEnvelope::Type { .. })));
    }
}
