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
    /// How much of the store's log it has carried out.
    pub applied: u64,
    pub errors: Vec<String>,
}

/// The store's leader is another member now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moved {
    /// Endpoints.
    pub from: String,
    pub to: String,
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
            applied: answer.raft_applied_index(),
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

    /// The member at `endpoint` does not lead the store afterwards. Of the others, the one that answers soundly and has
    /// most of the log is asked to lead; takes about 0.1 s, in which writes wait.
    ///
    /// None when it did not lead. After an error it may or may not have moved; do it again. Refused while no other
    /// member is fit.
    pub async fn move_leader_away_from(&self, endpoint: &str) -> Result<Option<Moved>, StoreError> {
        let (_, mut leader) = self.known(endpoint)?;
        if !self.status(endpoint).await?.leader {
            return Ok(None);
        }
        let mut fit = Vec::new();
        for other in self.endpoints().iter().filter(|it| *it != endpoint) {
            // One that does not answer is no candidate, and no trouble.
            if let Ok(status) = self.status(other).await
                && status.healthy
            {
                fit.push((status.applied, status.id, other.clone()));
            }
        }
        // The first of equals, in the order of the endpoints.
        let Some((_, id, to)) = fit.into_iter().rev().max_by_key(|(applied, ..)| *applied) else {
            return Err(StoreError::Refused {
                endpoint: endpoint.to_owned(),
                reason: "no other member is fit to lead the store".to_owned(),
            });
        };
        // Only the leader itself can give it away.
        self.call(leader.move_leader(id))
            .await
            .map_err(|miss| self.missed(endpoint, miss))?;
        let from = endpoint.to_owned();
        Ok(Some(Moved { from, to }))
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
