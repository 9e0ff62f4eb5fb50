//! What is needed to speak TLS, to the daemon and to the broker: whom to trust, and a certificate of our own.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

/// Files in PEM. None of them: the system's authorities, and no certificate.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct TlsFiles {
    pub(crate) ca: Option<PathBuf>,
    pub(crate) cert: Option<PathBuf>,
    pub(crate) key: Option<PathBuf>,
}

/// Why TLS can't be spoken.
#[derive(Debug)]
pub(crate) enum Unfit {
    /// A file can't be read; it may be there in a moment.
    Unreadable(String),
    /// What it holds is no certificate, or no key, or the two don't belong together.
    Wrong(String),
}

/// What tells one content of the files from another without reading them.
pub(crate) type Stamp = Vec<(u64, i64, i64, u64)>;

impl TlsFiles {
    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Tells whether certificate and key come together.
    pub(crate) fn is_paired(&self) -> bool {
        self.cert.is_some() == self.key.is_some()
    }

    /// Returns what the files look like now; the error names the file that isn't there.
    pub(crate) fn stamp(&self) -> Result<Stamp, Unfit> {
        let files = [&self.ca, &self.cert, &self.key];
        files
            .into_iter()
            .flatten()
            .map(|path| stamp_of(path).map_err(|error| unreadable(path, &error)))
            .collect()
    }

    /// Reads the files. Blocks, for as long as reading three small files takes.
    pub(crate) fn load(&self) -> Result<ClientConfig, Unfit> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let trusting = self.trusting(provider)?;
        match (&self.cert, &self.key) {
            (Some(cert), Some(key)) => {
                let chain = certificates(cert)?;
                let pem = std::fs::read(key).map_err(|error| unreadable(key, &error))?;
                let private = PrivateKeyDer::from_pem_slice(&pem).map_err(|_| {
                    Unfit::Wrong(format!("{} holds no private key without a passphrase", key.display()))
                })?;
                trusting.with_client_auth_cert(chain, private).map_err(|_| {
                    Unfit::Wrong(format!(
                        "{} and {} don't belong together",
                        cert.display(),
                        key.display()
                    ))
                })
            }
            _ => Ok(trusting.with_no_client_auth()),
        }
    }

    fn trusting(
        &self,
        provider: Arc<CryptoProvider>,
    ) -> Result<rustls::ConfigBuilder<ClientConfig, rustls::client::WantsClientCert>, Unfit> {
        let wrong = |error: rustls::Error| Unfit::Wrong(format!("TLS can't be set up: {error}"));
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(wrong)?;
        let Some(ca) = &self.ca else {
            let verifier = rustls_platform_verifier::Verifier::new(provider).map_err(wrong)?;
            return Ok(builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier)));
        };
        let mut roots = RootCertStore::empty();
        for certificate in certificates(ca)? {
            roots
                .add(certificate)
                .map_err(|_| Unfit::Wrong(format!("{} holds a certificate that can't be read", ca.display())))?;
        }
        Ok(builder.with_root_certificates(roots))
    }
}

/// A configuration that trusts nobody, for connections that are never made with TLS.
pub(crate) fn trusting_nobody() -> Result<ClientConfig, Unfit> {
    let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| Unfit::Wrong(format!("TLS can't be set up: {error}")))?;
    Ok(builder
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth())
}

/// Returns what tells one content of a file from another without reading it.
pub(crate) fn stamp_of(path: &Path) -> std::io::Result<(u64, i64, i64, u64)> {
    let seen = std::fs::metadata(path)?;
    Ok((seen.ino(), seen.mtime(), seen.mtime_nsec(), seen.len()))
}

fn unreadable(path: &Path, error: &std::io::Error) -> Unfit {
    Unfit::Unreadable(format!("{} can't be read: {}", path.display(), error.kind()))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Unfit> {
    let pem = std::fs::read(path).map_err(|error| unreadable(path, &error))?;
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    read.ok()
        .filter(|chain| !chain.is_empty())
        .ok_or_else(|| Unfit::Wrong(format!("{} holds no certificate in PEM", path.display())))
}
