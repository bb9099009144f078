//! TLS for control sessions: rustls with ring, libpq's four modes.

use std::sync::Arc;

use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject as _},
};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::{error::PgError, target::SslMode, target::Target};

/// The connector for a target's TLS mode.
///
/// # Errors
/// `verify-full` without a readable `root_cert`.
pub(crate) fn connector(target: &Target) -> Result<MakeRustlsConnect, PgError> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|e| PgError::Config(format!("{}: TLS cannot be set up: {e}", target.name)))?;
    let config = match target.ssl {
        SslMode::VerifyFull => builder.with_root_certificates(roots(target)?).with_no_client_auth(),
        SslMode::Disable | SslMode::Prefer | SslMode::Require => builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
            .with_no_client_auth(),
    };
    Ok(MakeRustlsConnect::new(config))
}

fn roots(target: &Target) -> Result<RootCertStore, PgError> {
    let wrong = |why: String| PgError::Config(format!("{}: `ssl = \"verify-full\"` {why}", target.name));
    let path = target.root_cert.as_ref().ok_or_else(|| wrong("needs `root_cert`, a PEM file".into()))?;
    let read = |e| wrong(format!("cannot read {}: {e}", path.display()));
    let mut store = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(path).map_err(|e| read(e.to_string()))? {
        let certificate = certificate.map_err(|e| read(e.to_string()))?;
        store.add(certificate).map_err(|e| read(e.to_string()))?;
    }
    if store.is_empty() {
        return Err(wrong(format!("finds no certificate in {}", path.display())));
    }
    Ok(store)
}

/// Accepts every certificate, as libpq's `prefer` and `require` do: the session is encrypted, the peer is not proven.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
