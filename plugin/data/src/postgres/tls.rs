//! TLS towards a database: the workspace's own CA, and only it.

use std::{fs, path::Path, sync::Arc};

use rustls::{
    ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    client::{
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_cert_signed_by_trust_anchor,
    },
    crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject},
    server::ParsedCertificate,
};

use crate::DataError;

/// libpq's `verify-ca`: the chain, the dates and the handshake's signature are checked as always; the name is not,
/// because one database is reached under many addresses (relays, balancers). The CA signs nothing but nodes of
/// one workspace, so whoever holds such a certificate is one of them.
#[derive(Debug)]
struct AnyNodeOfTheWorkspace {
    roots: RootCertStore,
    crypto: Arc<CryptoProvider>,
}

impl ServerCertVerifier for AnyNodeOfTheWorkspace {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let certificate = ParsedCertificate::try_from(end_entity)?;
        verify_server_cert_signed_by_trust_anchor(
            &certificate,
            &self.roots,
            intermediates,
            now,
            self.crypto.signature_verification_algorithms.all,
        )?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.crypto.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.crypto.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.crypto.signature_verification_algorithms.supported_schemes()
    }
}

/// Trusts the certificates in `ca` (PEM) and no others.
pub(super) fn client_config(ca: &Path) -> Result<ClientConfig, DataError> {
    let bad = |reason: String| DataError::BadFile {
        path: ca.to_owned(),
        reason,
    };
    let pem = fs::read(ca).map_err(DataError::file(ca))?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate = certificate.map_err(|error| bad(error.to_string()))?;
        roots.add(certificate).map_err(|error| bad(error.to_string()))?;
    }
    if roots.is_empty() {
        return Err(bad("holds no certificate".to_owned()));
    }
    let crypto = Arc::new(ring::default_provider());
    let config = ClientConfig::builder_with_provider(Arc::clone(&crypto))
        .with_safe_default_protocol_versions()
        .map_err(|error| bad(error.to_string()))?
        .dangerous() // only the name is left out, see above
        .with_custom_certificate_verifier(Arc::new(AnyNodeOfTheWorkspace { roots, crypto }))
        .with_no_client_auth();
    Ok(config)
}

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd};
    use rustls::CertificateError;

    use super::*;

    fn authority() -> CertifiedIssuer<'static, KeyPair> {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("a CA")
    }

    fn node(ca: &CertifiedIssuer<'static, KeyPair>, last_year: i32) -> CertificateDer<'static> {
        let mut params = CertificateParams::new(vec!["a.node".to_owned()]).expect("a name");
        params.distinguished_name.push(DnType::CommonName, "node");
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(last_year, 1, 1);
        let key = KeyPair::generate().expect("a key");
        params.signed_by(&key, ca).expect("a certificate").der().clone()
    }

    fn verdict(trusted: &CertifiedIssuer<'static, KeyPair>, shown: &CertificateDer<'static>) -> Result<(), Error> {
        let mut roots = RootCertStore::empty();
        roots.add(trusted.der().clone()).expect("a root");
        let verifier = AnyNodeOfTheWorkspace {
            roots,
            crypto: Arc::new(ring::default_provider()),
        };
        let name = ServerName::try_from("127.9.101.11").expect("an address");
        let now = UnixTime::since_unix_epoch(std::time::Duration::from_secs(1_800_000_000)); // 2027
        verifier.verify_server_cert(shown, &[], &name, &[], now).map(drop)
    }

    #[test]
    fn a_node_of_this_workspace_is_trusted_under_any_name() {
        let ca = authority();
        assert_eq!(verdict(&ca, &node(&ca, 2040)), Ok(()));
    }

    #[test]
    fn another_authority_is_not_trusted_nor_is_an_expired_certificate() {
        let (ca, other) = (authority(), authority());
        let strange = verdict(&ca, &node(&other, 2040));
        assert!(
            matches!(&strange, Err(Error::InvalidCertificate(_))),
            "signed by somebody else: {strange:?}"
        );
        let expired = verdict(&ca, &node(&ca, 2025));
        assert!(
            matches!(
                &expired,
                Err(Error::InvalidCertificate(
                    CertificateError::Expired | CertificateError::ExpiredContext { .. }
                ))
            ),
            "{expired:?}"
        );
    }
}
