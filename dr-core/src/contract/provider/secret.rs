//! The store of the connection secret.

use std::fmt::Debug;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::{
    base::{Endpoint, IdempotencyKey, SecretVersion},
    contract::{Outcome, ProviderError, Rehearsal, RehearseSecret, Tri, WriterReceipt},
};

/// What a secret says about where to connect; never its secret parts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretReference {
    /// The current version.
    pub version: SecretVersion,
    /// The endpoint that it names.
    pub endpoint: Option<Endpoint>,
    /// The token of the write that made this version, where the store keeps it.
    pub token: Option<IdempotencyKey>,
    /// Whether a rotation is going on; a cutover waits for its end (B24).
    pub rotating: Tri,
}

/// Asks that a secret name another endpoint, everything else staying as it is.
#[derive(Clone, Debug)]
pub struct PatchSecret {
    /// The writer, proved: it carries the endpoint to name.
    pub writer: WriterReceipt,
    /// The version that must still be the current one (compare and set).
    pub expected: SecretVersion,
    /// The client token: the same token twice is one version.
    pub key: IdempotencyKey,
}

/// Asks that the credentials of a secret be replaced, everything else staying as it is.
#[derive(Clone, Debug)]
pub struct RotateSecret {
    /// The writer, proved: new credentials are made where the applications write.
    pub writer: WriterReceipt,
    /// The version that must still be the current one (compare and set).
    pub expected: SecretVersion,
    /// The client token: the same token twice is one rotation.
    pub key: IdempotencyKey,
}

/// The store of one connection secret. No value reaches a step.
#[async_trait]
pub trait SecretStore: Debug + Send + Sync + 'static {
    /// Reads what the secret names.
    ///
    /// # Errors
    /// Any [`ProviderError`].
    async fn read(&self) -> Result<SecretReference, ProviderError>;

    /// Points the secret at the writer.
    ///
    /// - creates exactly one version; none when it names the writer already
    /// - another current version than expected: `Conflict`, nothing changed
    async fn patch(&self, request: PatchSecret) -> Outcome<SecretVersion>;

    /// Replaces the credentials and leaves the endpoint as it is.
    ///
    /// - the version before is kept, and its credentials stay valid until the next rotation: clients that hold it can still log in
    /// - the same rotation sent twice is one
    /// - while another rotation is going on: `NotDone`, nothing changed
    async fn rotate(&self, _request: RotateSecret) -> Outcome<SecretVersion> {
        Outcome::unsupported("rotate")
    }

    /// Whether a rotation is going on, whoever began it.
    ///
    /// # Errors
    /// Any [`ProviderError`].
    async fn rotating(&self) -> Result<Tri, ProviderError> {
        Ok(self.read().await?.rotating)
    }

    /// Tries and compares what pointing the secret at another writer will need: its present value is the present writer's in the form
    /// that will be written, and a new version could be put.
    ///
    /// # Errors
    /// Any [`ProviderError`].
    async fn rehearse(&self, _request: &RehearseSecret) -> Result<Rehearsal, ProviderError> {
        Ok(Rehearsal::untried("this store rehearses nothing"))
    }

    /// The versions that the store keeps, newest first.
    ///
    /// # Errors
    /// Any [`ProviderError`].
    async fn versions(&self) -> Result<Vec<SecretVersion>, ProviderError>;

    /// What a person would type to do `verb` without us.
    fn manual(&self, verb: &str) -> Vec<String>;
}
