//! The workspace's certificate authority and passwords: made here, kept here in files of mode 0600.

use std::{fs, net::Ipv4Addr, path::Path, sync::Mutex, sync::PoisonError};

use ha_core::resource::spec_hash;
use jiff::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    SanType,
};
use rustix::rand::{GetRandomFlags, getrandom};
use serde::{Deserialize, Serialize};

use crate::ProviderError;
use crate::local::state::{
    files::{Files, PLAIN, SECRET, failed, read_json},
    layout::{Host, Layout},
};

const DAY: time::Duration = time::Duration::days(1);
/// Clocks of the processes are one clock; this is for whoever set it back.
const BACKDATED: time::Duration = DAY;
const AUTHORITY_LASTS: time::Duration = time::Duration::days(3650);
const CERTIFICATE_LASTS: time::Duration = time::Duration::days(825);
/// A certificate that ends sooner is made anew at the next opportunity.
const RENEW_BEFORE: time::Duration = time::Duration::days(60);

/// Passwords of the database's users; the name of the file is the name of the user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Password {
    Admin,
    Replication,
    App,
}

impl Password {
    pub(crate) const fn file(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Replication => "replication",
            Self::App => "app",
        }
    }
}

/// What a host's certificate was made for; beside it, so that nobody has to take it apart.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Made {
    addresses: Vec<Ipv4Addr>,
    /// Hash of the authority's certificate.
    authority: String,
    /// Seconds since 1970.
    ends: i64,
}

#[derive(Debug)]
pub(crate) struct Secrets {
    layout: Layout,
    files: Files,
    /// Regions are made side by side, and all of them want the one authority.
    making: Mutex<()>,
}

impl Secrets {
    pub(crate) fn new(layout: &Layout, files: &Files) -> Self {
        Self {
            layout: layout.clone(),
            files: files.clone(),
            making: Mutex::new(()),
        }
    }

    /// Afterwards the authority and all passwords exist; the same ones each time.
    pub(crate) fn ensure(&self) -> Result<(), ProviderError> {
        let _making = self.making.lock().unwrap_or_else(PoisonError::into_inner);
        let folder = self.layout.secrets();
        self.files.folder(&folder, 0o700)?;
        for password in [Password::Admin, Password::Replication, Password::App] {
            let path = folder.join(password.file());
            if !path.exists() {
                self.files.write(&path, random_text()?.as_bytes(), SECRET)?;
            }
        }
        // The key comes first: a certificate can always be made from it again.
        let key_path = folder.join("ca.key");
        if !key_path.exists() {
            let key = KeyPair::generate().map_err(certificate)?;
            self.files.write(&key_path, key.serialize_pem().as_bytes(), SECRET)?;
        }
        let path = folder.join("ca.pem");
        if !path.exists() {
            let made = authority(&self.layout)?
                .self_signed(&read_key(&key_path)?)
                .map_err(certificate)?;
            self.files.write(&path, made.pem().as_bytes(), PLAIN)?;
        }
        Ok(())
    }

    /// Afterwards the host has the authority, and a certificate and key for these addresses that last.
    /// Says whether they are new, so that who read them at its start is restarted.
    pub(crate) fn certificate(&self, host: &Host, addresses: &[Ipv4Addr]) -> Result<bool, ProviderError> {
        self.ensure()?;
        self.files.folder(&host.tls(""), 0o700)?;
        let (ca, ca_key) = (
            self.layout.secrets().join("ca.pem"),
            self.layout.secrets().join("ca.key"),
        );
        let authority = fs::read_to_string(&ca).map_err(|source| failed("cannot read", &ca, source))?;
        let now = now()?;
        let wanted = Made {
            addresses: addresses.to_vec(),
            authority: spec_hash(&authority.as_str().into()),
            ends: (now + CERTIFICATE_LASTS).unix_timestamp(),
        };
        let made: Option<Made> = read_json(&host.tls("made.json")).unwrap_or_default();
        let lasts = |made: &Made| {
            made.addresses == wanted.addresses
                && made.authority == wanted.authority
                && made.ends > (now + RENEW_BEFORE).unix_timestamp()
        };
        let whole = ["ca.pem", "cert.pem", "key.pem", "combined.pem"]
            .iter()
            .all(|file| host.tls(file).exists());
        if whole && made.as_ref().is_some_and(lasts) {
            return Ok(false);
        }
        let key = KeyPair::generate().map_err(certificate)?;
        let issuer = Issuer::from_ca_cert_pem(&authority, read_key(&ca_key)?).map_err(certificate)?;
        let cert = leaf(host, addresses, now)
            .signed_by(&key, &issuer)
            .map_err(certificate)?;
        // What it was made for comes last: dying before that makes all of it once more.
        crate::local::state::files::remove_all(&host.tls("made.json"))?;
        self.files.write(&host.tls("ca.pem"), authority.as_bytes(), PLAIN)?;
        self.files
            .write(&host.tls("key.pem"), key.serialize_pem().as_bytes(), SECRET)?;
        self.files.write(&host.tls("cert.pem"), cert.pem().as_bytes(), PLAIN)?;
        let combined = format!("{}{}", cert.pem(), key.serialize_pem());
        self.files
            .write(&host.tls("combined.pem"), combined.as_bytes(), SECRET)?;
        self.files.write_json(&host.tls("made.json"), &wanted)?;
        Ok(true)
    }

    /// Afterwards the host's `etc` holds the password, for its processes to read.
    pub(crate) fn hand_out(&self, host: &Host, password: Password) -> Result<std::path::PathBuf, ProviderError> {
        self.ensure()?;
        let path = host.etc(password.file());
        self.files
            .write_if_changed(&path, self.read(password)?.as_bytes(), SECRET)?;
        Ok(path)
    }

    pub(crate) fn read(&self, password: Password) -> Result<String, ProviderError> {
        let path = self.layout.secrets().join(password.file());
        fs::read_to_string(&path).map_err(|source| failed("cannot read", &path, source))
    }
}

fn authority(layout: &Layout) -> Result<CertificateParams, ProviderError> {
    let now = now()?;
    let mut params = CertificateParams::default();
    let workspace = layout.root.file_name().unwrap_or_default().to_string_lossy();
    params
        .distinguished_name
        .push(DnType::CommonName, format!("ha workspace {workspace}"));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.not_before = now - BACKDATED;
    params.not_after = now + AUTHORITY_LASTS;
    Ok(params)
}

/// For servers and clients alike: members of the store are both to each other.
fn leaf(host: &Host, addresses: &[Ipv4Addr], now: time::OffsetDateTime) -> CertificateParams {
    let mut params = CertificateParams::default();
    let name = host.0.file_name().unwrap_or_default().to_string_lossy();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name.into_owned());
    params.subject_alt_names = addresses
        .iter()
        .map(|address| SanType::IpAddress((*address).into()))
        .collect();
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params.not_before = now - BACKDATED;
    params.not_after = now + CERTIFICATE_LASTS;
    params
}

fn now() -> Result<time::OffsetDateTime, ProviderError> {
    time::OffsetDateTime::from_unix_timestamp(Timestamp::now().as_second()).map_err(|error| ProviderError::Other {
        what: format!("this machine's clock cannot be used for certificates: {error}"),
    })
}

fn read_key(path: &Path) -> Result<KeyPair, ProviderError> {
    let text = fs::read_to_string(path).map_err(|source| failed("cannot read", path, source))?;
    KeyPair::from_pem(&text).map_err(|error| ProviderError::Refused {
        what: format!("{} is damaged: {error}", path.display()),
        help: "put it back from a copy, or: ha destroy, then ha provision".into(),
    })
}

fn certificate(error: rcgen::Error) -> ProviderError {
    ProviderError::Other {
        what: format!("cannot make a certificate: {error}"),
    }
}

/// 256 bits as hexadecimal digits: no character that a file, URL or SQL string would treat specially.
pub(crate) fn random_text() -> Result<String, ProviderError> {
    let mut bytes = [0_u8; 32];
    let got = getrandom(&mut bytes, GetRandomFlags::empty()).map_err(|errno| ProviderError::Io {
        what: "the kernel gives no random numbers".into(),
        source: errno.into(),
    })?;
    if got != bytes.len() {
        return Err(ProviderError::Other {
            what: format!("the kernel gave {got} random bytes of {}", bytes.len()),
        });
    }
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn secrets_are_made_once_and_only_their_owner_reads_them() {
        let dir = tempfile::tempdir().expect("temp");
        let layout = Layout::new(dir.path(), dir.path(), "shop");
        let secrets = Secrets::new(&layout, &Files::new(None));
        let host = layout.host("us-east", "us-db-1");
        let here = [Ipv4Addr::new(127, 9, 1, 11)];
        assert!(secrets.certificate(&host, &here).expect("made"));
        assert!(!secrets.certificate(&host, &here).expect("kept"));
        assert!(
            secrets
                .certificate(&host, &[Ipv4Addr::new(127, 9, 1, 12)])
                .expect("another address")
        );
        let handed = secrets.hand_out(&host, Password::App).expect("handed out");
        let before = fs::read(&handed).expect("read");
        assert_eq!(before.len(), 64);
        secrets.ensure().expect("again");
        assert_eq!(fs::read(layout.secrets().join("app")).expect("read"), before);
        for secret in [
            layout.secrets().join("ca.key"),
            host.tls("key.pem"),
            host.tls("combined.pem"),
            handed,
        ] {
            let mode = fs::metadata(&secret).expect("meta").permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{}", secret.display());
        }
    }

    #[test]
    fn a_lost_certificate_of_the_authority_is_made_again_from_its_key() {
        let dir = tempfile::tempdir().expect("temp");
        let layout = Layout::new(dir.path(), dir.path(), "shop");
        let secrets = Secrets::new(&layout, &Files::new(None));
        secrets.ensure().expect("made");
        let key = fs::read(layout.secrets().join("ca.key")).expect("read");
        fs::remove_file(layout.secrets().join("ca.pem")).expect("remove");
        secrets.ensure().expect("again");
        assert!(layout.secrets().join("ca.pem").exists());
        assert_eq!(fs::read(layout.secrets().join("ca.key")).expect("read"), key);
    }
}
