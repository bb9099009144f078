//! The key of one run, and the certificate that a root key gives it.
//!
//! The root key lies with those who answer for the runs; the run's key signs this one run and is thrown away with the value. Whoever
//! takes the machine later finds no key that could sign the record of an earlier run once more.

use dr_core::{
    Millis, RunId, Timestamp,
    base::{CanonicalError, Digest, canonical},
};
use serde::{Deserialize, Serialize};

use super::{BUNDLE_VERSION, origin_of, seal::SealError};
use crate::{
    dsse::{BadEnvelope, Envelope},
    key::{PublicKey, SecretKey},
    strict,
};

/// The payload type of a certificate.
const KIND: &str = "application/vnd.dr-toolkit.run-key+json";

/// What a certificate says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyClaim {
    /// [`BUNDLE_VERSION`].
    pub v: u16,
    /// The run that the key may sign.
    pub run: RunId,
    /// The hash of that run's first line, which covers its plan.
    pub origin: Digest,
    /// The public key.
    pub key: String,
    /// From when it may sign.
    pub from: Timestamp,
    /// Until when.
    pub until: Timestamp,
}

impl KeyClaim {
    /// The key itself.
    pub(crate) fn public(&self) -> Option<PublicKey> {
        self.key.parse().ok()
    }

    /// Reads a certificate that `root` signed.
    pub(crate) fn open(certificate: &Envelope, root: &PublicKey) -> Result<Self, BadEnvelope> {
        Ok(strict::from_slice(certificate.open(KIND, root)?)?)
    }

    /// Reads what a certificate says before anybody verified it.
    pub(crate) fn unverified(certificate: &Envelope) -> Option<Self> {
        strict::from_slice(certificate.unverified()).ok()
    }

    fn certify(&self, root: &SecretKey) -> Result<Envelope, CanonicalError> {
        Ok(Envelope::sign(KIND, canonical::to_bytes(self)?, root))
    }
}

/// The key of one run with its certificate.
#[derive(Debug)]
pub struct RunKey {
    secret: SecretKey,
    claim: KeyClaim,
    certificate: Envelope,
}

impl RunKey {
    /// Makes a key for one run, and has the root key certify it for `valid` from `at` on.
    ///
    /// # Errors
    /// [`SealError::Key`] when the system gives no random bytes or the run's name cannot be that of a key.
    pub fn issue(
        root: &SecretKey,
        (run, origin): (&RunId, Digest),
        at: Timestamp,
        valid: Millis,
    ) -> Result<Self, SealError> {
        let secret = SecretKey::generate(&origin_of(run, &origin))?;
        let key = secret.public().to_string();
        let claim = KeyClaim { v: BUNDLE_VERSION, run: run.clone(), origin, key, from: at, until: at + valid };
        let certificate = claim.certify(root)?;
        Ok(Self { secret, claim, certificate })
    }

    /// Writes the key and its certificate as text, for a file that its owner alone may read while the run goes on.
    ///
    /// # Errors
    /// [`SealError::Form`].
    pub fn text(&self) -> Result<String, SealError> {
        let certificate = String::from_utf8_lossy(&self.certificate.bytes()?).into_owned();
        Ok(format!("{}\n{certificate}\n", self.secret.text()))
    }

    /// Reads what [`text`](Self::text) wrote, and checks that `root` certified it.
    ///
    /// # Errors
    /// [`SealError::Kept`].
    pub fn from_text(text: &str, root: &PublicKey) -> Result<Self, SealError> {
        let (secret, certificate) = text.trim_end().split_once('\n').ok_or(SealError::Kept("it has not two lines"))?;
        let secret = SecretKey::from_text(secret)?;
        let certificate = Envelope::parse(certificate.as_bytes())
            .map_err(|_| SealError::Kept("its second line is no certificate"))?;
        let claim = KeyClaim::open(&certificate, root)
            .map_err(|_| SealError::Kept("the root key that is used now did not certify it"))?;
        if claim.public().as_ref() != Some(secret.public()) {
            return Err(SealError::Kept("its certificate is that of another key"));
        }
        Ok(Self { secret, claim, certificate })
    }

    /// What the certificate says.
    #[must_use]
    pub fn claim(&self) -> &KeyClaim {
        &self.claim
    }

    pub(super) fn secret(&self) -> &SecretKey {
        &self.secret
    }

    pub(super) fn certificate(&self) -> &Envelope {
        &self.certificate
    }
}
