//! Encryption of connections, over `rustls`.
//!
//! Deliberately absent: client certificates, and the decision whether to go on in plain text (the caller's).
use std::sync::Arc;

use lakeward_core::{Error, ErrorKind, Result};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::config::{TlsConfig, TlsMode};

/// Encrypts a connection whose server has agreed to it, and checks the server as far as `config` asks for it.
///
/// # Errors
/// `Config` for authorities that cannot be read and certificates that are not trusted; `Unreachable`.
pub(super) async fn encrypted(
    stream: TcpStream,
    host: &str,
    config: &TlsConfig,
) -> Result<TlsStream<TcpStream>> {
    let name = ServerName::try_from(host.to_owned()).map_err(|_| {
        Error::new(ErrorKind::Config, "`host` is neither a host name nor an address")
    })?;
    let provider = Arc::new(ring::default_provider());
    let client = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(unusable)?
        .dangerous()
        .with_custom_certificate_verifier(verifier(config, &provider)?)
        .with_no_client_auth();
    TlsConnector::from(Arc::new(client)).connect(name, stream).await.map_err(|error| {
        let distrusted = error
            .get_ref()
            .and_then(|inner| inner.downcast_ref())
            .is_some_and(|inner| matches!(inner, rustls::Error::InvalidCertificate(_)));
        match distrusted {
            true => Error::new(ErrorKind::Config, "the server's certificate is not trusted")
                .caused_by(error)
                .remedied("set `tls.ca_file` to the authority that signed it, or correct `host`"),
            false => {
                Error::new(ErrorKind::Unreachable, "cannot encrypt the connection to the server")
                    .caused_by(error)
            }
        }
    })
}

fn unusable(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::new(ErrorKind::Config, "the TLS options cannot be used").caused_by(error)
}

fn verifier(
    config: &TlsConfig,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ServerCertVerifier>> {
    let provider = Arc::clone(provider);
    if !matches!(config.mode, TlsMode::VerifyCa | TlsMode::VerifyFull) {
        return Ok(Arc::new(Lenient { chain: None, provider }));
    }
    let roots = Arc::new(authorities(config)?);
    let chain = WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&provider))
        .build()
        .map_err(unusable)?;
    Ok(match config.mode {
        TlsMode::VerifyFull => chain,
        _ => Arc::new(Lenient { chain: Some(chain), provider }),
    })
}

fn authorities(config: &TlsConfig) -> Result<RootCertStore> {
    let Some(file) = &config.ca_file else {
        return Ok(RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() });
    };
    let unreadable = |why: String| {
        Error::new(ErrorKind::Config, "the authorities' file cannot be used")
            .with("ca_file", file.display())
            .caused_by(why)
    };
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(file).map_err(|e| unreadable(e.to_string()))? {
        let certificate = certificate.map_err(|e| unreadable(e.to_string()))?;
        roots.add(certificate).map_err(|e| unreadable(e.to_string()))?;
    }
    if roots.is_empty() { Err(unreadable("it holds no certificate".into())) } else { Ok(roots) }
}

/// Checks all but the server's name, or only that the server owns the certificate that it shows.
#[derive(Debug)]
struct Lenient {
    chain: Option<Arc<WebPkiServerVerifier>>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Lenient {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        use CertificateError::{NotValidForName, NotValidForNameContext};
        let Some(chain) = &self.chain else { return Ok(ServerCertVerified::assertion()) };
        match chain.verify_server_cert(certificate, others, name, ocsp, now) {
            // The name is looked at last: everything else is in order.
            Err(rustls::Error::InvalidCertificate(
                NotValidForName | NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            checked => checked,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let known = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, known)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let known = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, known)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
