//! TLS by rustls: chain and host name are checked, as libpq does for `sslmode=verify-full`.

use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
pub(super) use tokio_postgres_rustls::MakeRustlsConnect as Connector;

use crate::error::{Error, ErrorKind, Result};
use crate::home::read_file;

/// Trusts what the system trusts, or only what stands in this file.
///
/// # Errors
/// `Invalid` when there is no certificate to trust; of the file.
pub(super) fn connector(roots: Option<&Path>) -> Result<Connector> {
    let mut trusted = RootCertStore::empty();
    match roots {
        Some(file) => {
            let text =
                read_file(file).map_err(|error| Error::io("read the certificates to trust", file, error))?;
            trusted.add_parsable_certificates(CertificateDer::pem_slice_iter(&text).flatten());
        }
        None => {
            trusted.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    if trusted.is_empty() {
        let error = Error::new(ErrorKind::Invalid, "there is no certificate by which to trust the server");
        return Err(match roots {
            Some(file) => error.at_path(file).advise("put the server's certificate authority there, as PEM"),
            None => error.advise("name a file of certificates: root_cert under [state.postgres]"),
        });
    }
    // The provider is named: a process may have several, and none that is the default.
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::new(ErrorKind::Unsupported, "there is no TLS").caused_by(error))?
        .with_root_certificates(trusted)
        .with_no_client_auth();
    Ok(Connector::new(config))
}
