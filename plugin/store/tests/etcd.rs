//! Against a real etcd on loopback, with certificates made here.

mod suite;

use std::{
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use ha_store::{Etcd, Options, Store, StoreError, Swap, Write};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, SanType};

/// A member of its own cluster, in a folder of its own; ends with the test.
struct Server {
    folder: tempfile::TempDir,
    child: Child,
    client: u16,
    peer: u16,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn free_port() -> u16 {
    let socket = TcpListener::bind("127.0.0.1:0").expect("a free port");
    socket.local_addr().expect("its address").port()
}

fn certificates(folder: &Path) {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("a CA");
    let key = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::default();
    params.subject_alt_names = vec![SanType::IpAddress([127, 0, 0, 1].into())];
    let cert = params.signed_by(&key, &ca).expect("a certificate");
    fs::write(folder.join("ca.pem"), ca.pem()).expect("written");
    fs::write(folder.join("cert.pem"), cert.pem()).expect("written");
    fs::write(folder.join("key.pem"), key.serialize_pem()).expect("written");
}

impl Server {
    fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        certificates(folder.path());
        let (client, peer) = (free_port(), free_port());
        let child = Self::spawn(folder.path(), client, peer);
        Self {
            folder,
            child,
            client,
            peer,
        }
    }

    fn spawn(folder: &Path, client: u16, peer: u16) -> Child {
        let file = |name: &str| folder.join(name).display().to_string();
        let log = fs::File::create(folder.join("log")).expect("a log");
        let client = format!("https://127.0.0.1:{client}");
        let peer = format!("http://127.0.0.1:{peer}");
        Command::new("etcd")
            .env_clear()
            .env("PATH", "/usr/bin:/bin:/usr/local/bin")
            .args(["--name", "one", "--data-dir", &file("data")])
            .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &format!("one={peer}")])
            .args(["--cert-file", &file("cert.pem"), "--key-file", &file("key.pem")])
            .args(["--trusted-ca-file", &file("ca.pem"), "--client-cert-auth"])
            .stdout(Stdio::from(log.try_clone().expect("a log")))
            .stderr(Stdio::from(log))
            .spawn()
            .expect("etcd is installed")
    }

    fn endpoint(&self) -> String {
        format!("https://127.0.0.1:{}", self.client)
    }

    fn options(&self, endpoints: Vec<String>) -> Options {
        let file = |name: &str| -> PathBuf { self.folder.path().join(name) };
        Options::new(endpoints, file("ca.pem"), file("cert.pem"), file("key.pem"))
    }

    async fn store(&self) -> Etcd {
        let store = Etcd::new(&self.options(vec![self.endpoint()]))
            .await
            .expect("good options");
        let began = Instant::now();
        while store.get("/up").await.is_err() {
            let log = || fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
            assert!(began.elapsed() < Duration::from_secs(30), "{}", log());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        store
    }
}

#[tokio::test]
async fn it_does_what_every_store_must() {
    let server = Server::start();
    suite::all(Arc::new(server.store().await)).await;
}

#[tokio::test]
async fn a_presence_that_is_not_kept_takes_its_keys_along() {
    let server = Server::start();
    let store = server.store().await;
    let presence = store.presence(Duration::from_secs(1)).await.expect("one");
    let write = Write {
        presence: Some(&presence),
        ..Write::create("/a", vec![1])
    };
    let at = suite::done(store.compare_and_swap(write)).await;
    let mut watch = store.watch("/a", at).await.expect("a watch");
    // etcd makes it no shorter than its election allows.
    let change = tokio::time::timeout(Duration::from_secs(30), watch.next()).await;
    assert_eq!(change.expect("in time").expect("a change").entry, None);
    assert!(!store.keep_alive(&presence).await.expect("an answer"));
    let late = Write {
        presence: Some(&presence),
        ..Write::create("/a", vec![1])
    };
    let late = store.compare_and_swap(late).await;
    assert!(matches!(late, Err(StoreError::Refused { .. })), "{late:?}");
}

#[tokio::test]
async fn members_are_listed_and_their_state_told() {
    let server = Server::start();
    let store = server.store().await;
    let members = store.members().await.expect("a list");
    assert_eq!(members.len(), 1);
    assert_eq!(members[0].name, "one");
    let status = store.status(&server.endpoint()).await.expect("a status");
    assert!(
        status.leader && status.healthy && status.id == members[0].id,
        "{status:?}"
    );
    assert!(status.version.starts_with("3."), "{status:?}");
    assert!(store.health(&server.endpoint()).await.expect("a quorum of one") < Duration::from_secs(2));

    // With a second member that never starts there is no majority any more, and a read that decides says so.
    let peer = format!("http://127.0.0.1:{}", free_port());
    let added = store.member_add(&peer).await.expect("one more");
    assert_eq!(store.member_add(&peer).await.expect("the same one").id, added.id);
    let health = store.health(&server.endpoint()).await;
    assert!(matches!(health, Err(StoreError::NoAnswer { .. })), "{health:?}");
    let write = store.compare_and_swap(Write::create("/late", b"1".to_vec())).await;
    assert!(matches!(write, Err(StoreError::OutcomeUnknown { .. })), "{write:?}");
}

#[tokio::test]
async fn a_dead_member_is_passed_over_and_none_at_all_is_named() {
    let server = Server::start();
    server.store().await;
    let dead = format!("https://127.0.0.1:{}", free_port());
    let options = server.options(vec![dead.clone(), server.endpoint()]);
    let store = Etcd::new(&options).await.expect("good options");
    assert_eq!(store.get("/a").await.expect("the second answers"), None);
    assert!(matches!(
        store.compare_and_swap(Write::create("/a", vec![1])).await,
        Ok(Swap::Done(_))
    ));

    let store = Etcd::new(&server.options(vec![dead.clone()]))
        .await
        .expect("good options");
    let error = store
        .compare_and_swap(Write::create("/b", vec![1]))
        .await
        .expect_err("nobody is there");
    assert!(matches!(error, StoreError::Unreachable { .. }), "{error:?}");
    assert!(error.to_string().contains(&dead), "{error}");
}

#[tokio::test]
async fn an_answer_that_is_lost_leaves_the_outcome_unknown() {
    let server = Server::start();
    let store = server.store().await;
    let pid = rustix::process::Pid::from_child(&server.child);
    rustix::process::kill_process(pid, rustix::process::Signal::STOP).expect("stopped");
    let write = store.compare_and_swap(Write::create("/a", b"1".to_vec())).await;
    let read = store.get("/a").await;
    rustix::process::kill_process(pid, rustix::process::Signal::CONT).expect("continued");
    assert!(matches!(write, Err(StoreError::OutcomeUnknown { .. })), "{write:?}");
    assert!(matches!(read, Err(StoreError::NoAnswer { .. })), "{read:?}");
    // Doing it again is harmless, whichever way it went.
    let again = store
        .compare_and_swap(Write::create("/a", b"1".to_vec()))
        .await
        .expect("an answer");
    assert!(matches!(again, Swap::Done(_) | Swap::Changed(Some(_))), "{again:?}");
}

#[tokio::test]
async fn a_certificate_of_another_authority_is_refused() {
    let server = Server::start();
    server.store().await;
    let other = tempfile::tempdir().expect("a folder");
    certificates(other.path());
    let file = |name: &str| other.path().join(name);
    let options = Options::new(
        vec![server.endpoint()],
        file("ca.pem"),
        file("cert.pem"),
        file("key.pem"),
    );
    let store = Etcd::new(&options).await.expect("good options");
    assert!(store.get("/a").await.is_err());
    assert_ne!(server.peer, server.client);
}
