//! Members of the store: who they are, how they are, adding and removing them.

use std::time::{Duration, Instant};

use serde::Serialize;

use crate::{Etcd, StoreError, etcd::Miss};

/// A member as the cluster knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Member {
    pub id: u64,
    /// Empty until it has started for the first time.
    pub name: String,
    pub peer_urls: Vec<String>,
    pub client_urls: Vec<String>,
}

impl From<&etcd_client::Member> for Member {
    fn from(member: &etcd_client::Member) -> Self {
        Self {
            id: member.id(),
            name: member.name().to_owned(),
            peer_urls: member.peer_urls().to_vec(),
            client_urls: member.client_urls().to_vec(),
        }
    }
}

/// What one member says about itself; says nothing about a majority, see [`Etcd::health`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MemberStatus {
    pub id: u64,
    /// This member leads.
    pub leader: bool,
    /// It knows a leader and reports no error of its own (corruption, no space).
    pub healthy: bool,
    pub version: String,
    pub db_size: u64,
    pub term: u64,
    pub errors: Vec<String>,
}

impl Etcd {
    /// All members, as the first one that answers knows them.
    pub async fn members(&self) -> Result<Vec<Member>, StoreError> {
        let answer = self
            .read(|mut client| async move { client.member_list().await })
            .await?;
        Ok(answer.members().iter().map(Member::from).collect())
    }

    /// What the member at `endpoint` (one of the options' endpoints) says about itself.
    pub async fn status(&self, endpoint: &str) -> Result<MemberStatus, StoreError> {
        let (_, mut client) = self.known(endpoint)?;
        let answer = self
            .call(client.status())
            .await
            .map_err(|miss| self.missed(endpoint, miss))?;
        let id = answer.header().map_or(0, |header| header.member_id());
        Ok(MemberStatus {
            id,
            leader: id != 0 && answer.leader() == id,
            healthy: answer.leader() != 0 && answer.errors().is_empty(),
            version: answer.version().to_owned(),
            db_size: u64::try_from(answer.db_size()).unwrap_or_default(),
            term: answer.raft_term(),
            errors: answer.errors().to_vec(),
        })
    }

    /// A read through the member at `endpoint` that needs a majority, and how long it took.
    pub async fn health(&self, endpoint: &str) -> Result<Duration, StoreError> {
        let (_, mut client) = self.known(endpoint)?;
        let sent = Instant::now();
        self.call(client.get("/ha/health", None))
            .await
            .map_err(|miss| self.missed(endpoint, miss))?;
        Ok(sent.elapsed())
    }

    /// The member with this peer URL is part of the cluster, added now or before.
    ///
    /// After [`StoreError::OutcomeUnknown`] do it again: a member that was added is found.
    pub async fn member_add(&self, peer_url: &str) -> Result<Member, StoreError> {
        let known = self.members().await?;
        if let Some(member) = known
            .into_iter()
            .find(|it| it.peer_urls.iter().any(|url| url == peer_url))
        {
            return Ok(member);
        }
        let answer = self
            .write(&format!("member {peer_url}"), |mut client| async move {
                client.member_add([peer_url], None).await
            })
            .await?;
        answer.member().map(Member::from).ok_or_else(|| StoreError::Refused {
            endpoint: peer_url.to_owned(),
            reason: "the answer to adding it names no member".to_owned(),
        })
    }

    /// No member has this id; one that was not there is no error.
    pub async fn member_remove(&self, id: u64) -> Result<(), StoreError> {
        if !self.members().await?.iter().any(|member| member.id == id) {
            return Ok(());
        }
        let what = format!("member {id:x}");
        self.write(&what, |mut client| async move { client.member_remove(id).await })
            .await
            .map(drop)
    }

    fn known(&self, endpoint: &str) -> Result<(&str, etcd_client::Client), StoreError> {
        self.member(endpoint)
            .ok_or_else(|| StoreError::Options(format!("{endpoint} is not among the endpoints given")))
    }

    fn missed(&self, endpoint: &str, miss: Miss) -> StoreError {
        let endpoint = endpoint.to_owned();
        match miss {
            Miss::NotSent(reason) => StoreError::Unreachable {
                endpoints: vec![endpoint],
                reason,
            },
            Miss::Lost(reason) => StoreError::NoAnswer {
                endpoint,
                timeout: self.timeout,
                reason,
            },
            Miss::Refused(reason) => StoreError::Refused { endpoint, reason },
        }
    }
}
