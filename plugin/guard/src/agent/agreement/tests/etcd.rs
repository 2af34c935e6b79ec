//! Three members of a real etcd, one of which is killed.

use std::{
    fs,
    net::TcpListener,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Instant,
};

use ha_store::{Etcd, Options, Store};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, SanType};
use tokio_util::sync::CancellationToken;

use super::{view::until, *};

struct Members {
    folder: tempfile::TempDir,
    running: Vec<(String, Child)>,
}

impl Drop for Members {
    fn drop(&mut self) {
        for (_, child) in &mut self.running {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Members {
    fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        certificates(folder.path());
        // Held together until all are known, so that no number is given twice.
        let sockets: Vec<TcpListener> = (0..6)
            .map(|_| TcpListener::bind("127.0.0.1:0").expect("a free port"))
            .collect();
        let ports: Vec<u16> = sockets
            .iter()
            .map(|it| it.local_addr().expect("its address").port())
            .collect();
        drop(sockets);
        let peer = |index: usize| format!("http://127.0.0.1:{}", ports[index + 3]);
        let all: Vec<String> = (0..3).map(|index| format!("m{index}={}", peer(index))).collect();
        let running = (0..3)
            .map(|index| {
                let file = |name: &str| folder.path().join(name).display().to_string();
                let url = format!("https://127.0.0.1:{}", ports[index]);
                let log = fs::File::create(folder.path().join(format!("log{index}"))).expect("a log");
                let child = Command::new("etcd")
                    .env_clear()
                    .env("PATH", "/usr/bin:/bin:/usr/local/bin")
                    .args([
                        "--name",
                        &format!("m{index}"),
                        "--data-dir",
                        &file(&format!("data{index}")),
                    ])
                    .args(["--listen-client-urls", &url, "--advertise-client-urls", &url])
                    .args(["--listen-peer-urls", &peer(index)])
                    .args(["--initial-advertise-peer-urls", &peer(index)])
                    .args(["--initial-cluster", &all.join(",")])
                    .args(["--cert-file", &file("cert.pem"), "--key-file", &file("key.pem")])
                    .args(["--trusted-ca-file", &file("ca.pem"), "--client-cert-auth"])
                    .args(["--heartbeat-interval", "100", "--election-timeout", "1000"])
                    .stdout(Stdio::from(log.try_clone().expect("a log")))
                    .stderr(Stdio::from(log))
                    .spawn()
                    .expect("etcd is installed");
                (url, child)
            })
            .collect();
        Self { folder, running }
    }

    async fn client(&self) -> Etcd {
        let file = |name: &str| self.folder.path().join(name);
        let endpoints = self.running.iter().map(|it| it.0.clone()).collect();
        let timing = ha_core::model::TimingProfile::Near.timing();
        let options =
            Options::new(endpoints, file("ca.pem"), file("cert.pem"), file("key.pem")).timeout(timing.call_timeout);
        let client = Etcd::new(&options).await.expect("good options");
        let began = Instant::now();
        while client.get("/up").await.is_err() {
            assert!(began.elapsed() < 60 * SECOND, "no quorum");
            tokio::time::sleep(SECOND / 20).await;
        }
        client
    }

    async fn leader(&self, client: &Etcd) -> String {
        let began = Instant::now();
        loop {
            for (url, _) in &self.running {
                if client.status(url).await.is_ok_and(|it| it.leader) {
                    return url.clone();
                }
            }
            assert!(began.elapsed() < 60 * SECOND, "no leader");
        }
    }

    fn kill(&mut self, url: &str) {
        let index = self.running.iter().position(|it| it.0 == url).expect("a member");
        let (_, mut child) = self.running.remove(index);
        child.kill().expect("killed");
        child.wait().expect("ended");
    }
}

fn certificates(folder: &Path) {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("a CA");
    let key = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::default();
    params.subject_alt_names = vec![SanType::IpAddress([127, 0, 0, 1].into())];
    let cert = params.signed_by(&key, &ca).expect("a certificate");
    for (name, text) in [
        ("ca.pem", ca.pem()),
        ("cert.pem", cert.pem()),
        ("key.pem", key.serialize_pem()),
    ] {
        fs::write(folder.join(name), text).expect("written");
    }
}

async fn agreement(folder: &Path, client: Etcd, cancel: &CancellationToken) -> Arc<Agreement> {
    Agreement::start(&config(folder), Arc::new(client), cancel.clone()).expect("its promises")
}

#[tokio::test]
async fn a_lease_outlives_the_stores_leader_and_another_guard_sees_it() {
    let mut members = Members::start();
    let cancel = CancellationToken::new();
    let folders = [tempfile::tempdir(), tempfile::tempdir()].map(|it| it.expect("a folder"));
    let client = members.client().await;
    let a = agreement(folders[0].path(), client.clone(), &cancel).await;
    let b = agreement(folders[1].path(), members.client().await, &cancel).await;
    until(&a, "an answer", |a| a.view().answers).await;
    let (term, history) = first();
    assert_eq!(a.found(&a.look().basis, term, history).await, Swapped::Done);
    until(&b, "the term", |b| b.view().term.is_some()).await;
    assert_eq!(a.renew(&a.look().basis, None).await, Swapped::Done);

    let leader = members.leader(&client).await;
    members.kill(&leader);
    let killed = Instant::now();
    let mut least = a.timing.hold;
    let mut longest = Duration::ZERO;
    let mut last = killed;
    let before = b.view().lease.map_or(0, |it| it.counter);
    while killed.elapsed() < 8 * SECOND {
        let swapped = a.renew(&a.look().basis, None).await;
        if swapped == Swapped::Done {
            longest = longest.max(last.elapsed());
            last = Instant::now();
        }
        least = least.min(a.holding().left.unwrap_or_default());
        tokio::time::sleep(a.timing.renew / 2).await;
    }
    eprintln!("longest without a renewal {longest:?}, least left {least:?}");
    assert!(last.elapsed() < 2 * SECOND, "renewed again");
    assert!(
        !least.is_zero(),
        "C2: an election does not end a lease; {longest:?} without one"
    );
    until(&b, "renewals at the other guard", |b| {
        b.view().lease.is_some_and(|it| it.counter > before + 3) && b.view().answers
    })
    .await;
    assert!(b.view().lease_age < a.timing.take);
    cancel.cancel();
}

#[tokio::test]
async fn the_stores_leader_is_moved_out_of_a_region() {
    let members = Members::start();
    let client = members.client().await;
    let leader = members.leader(&client).await;
    let other = client.endpoints().into_iter().find(|it| *it != leader).expect("three");
    assert_eq!(client.move_leader_away_from(&other).await.expect("an answer"), None);
    let began = Instant::now();
    let moved = client
        .move_leader_away_from(&leader)
        .await
        .expect("moved")
        .expect("it led");
    eprintln!("moved in {:?}", began.elapsed());
    assert_eq!(moved.from, leader);
    assert_eq!(members.leader(&client).await, moved.to);
    assert!(client.status(&moved.to).await.expect("an answer").leader);
}
