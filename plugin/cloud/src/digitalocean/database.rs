//! Managed databases: clusters, and read replicas that can be promoted.
//!
//! A replica is known by its cluster and its name, has the cluster's engine and version, and is one node. Promoted, it
//! is a cluster of its own.

use ha_core::{
    names::{RegionName, WorkspaceName},
    resource::{Kind, Live, Resource, ResourceId, Status},
};
use http::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    api::{Database, Rule, Vpc},
    cloud::Cloud,
    errors,
    labels::{self, Tags},
    observe::{blank, cannot_become, text, texts, whole},
    tagging::Tagged,
};
use crate::{
    ProviderError,
    rest::{RestError, segment},
};

/// A cluster, or a replica with what it has from its cluster filled in.
#[derive(Clone, Debug)]
pub(super) struct Managed {
    pub(super) now: Database,
    copies: Option<Source>,
}

#[derive(Clone, Debug)]
struct Source {
    id: String,
    name: String,
}

impl Managed {
    pub(super) fn cluster(now: Database) -> Self {
        Self { now, copies: None }
    }

    fn replica(now: Database, of: &Database) -> Self {
        let own = |own: String, theirs: &String| if own.is_empty() { theirs.clone() } else { own };
        Self {
            copies: Some(Source {
                id: of.id.clone(),
                name: of.name.clone(),
            }),
            now: Database {
                engine: of.engine.clone(),
                version: of.version.clone(),
                num_nodes: 1,
                size: own(now.size, &of.size),
                region: own(now.region, &of.region),
                ..now
            },
        }
    }

    fn path(&self) -> String {
        match &self.copies {
            None => format!("/v2/databases/{}", self.now.id),
            Some(source) => format!("/v2/databases/{}/replicas/{}", source.id, segment(&self.now.name)),
        }
    }

    fn copies(&self) -> Option<&str> {
        self.copies.as_ref().map(|it| it.name.as_str())
    }
}

/// A wanted database, read.
struct Wanted<'a> {
    size: &'a str,
    nodes: u64,
    version: &'a str,
    copies: Option<&'a str>,
    rules: Vec<Value>,
    tags: Tags,
}

impl<'a> Wanted<'a> {
    fn read(ws: &WorkspaceName, want: &'a Resource) -> Result<Self, ProviderError> {
        let mut tags = labels::identity(ws, want);
        tags.extend(labels::from_labels(want)?);
        let copies = want.spec.get("replicate_from").and_then(Value::as_str);
        let sources = texts(&want.spec, "trusted_sources");
        if copies.is_some() && !sources.is_empty() {
            return Err(ProviderError::Refused {
                what: format!(
                    "{} has trusted sources, and a replica has those of what it copies",
                    want.id
                ),
                help: format!("write them there instead of at {} in workspace.ncl", want.path),
            });
        }
        let rules: Vec<Value> = sources.into_iter().map(|it| rule(ws, &want.id.region, it)).collect();
        let mut referred: Tags = rules.iter().filter(|it| it["type"] == "tag").map(value_of).collect();
        referred.extend(tags.iter().cloned());
        labels::check(&referred, &want.id)?;
        Ok(Self {
            size: text(want, "size")?,
            nodes: whole(want, "num_nodes")?,
            version: text(want, "version")?,
            copies,
            rules,
            tags,
        })
    }
}

impl Cloud {
    pub(super) async fn ensure_managed(&self, want: &Resource) -> Result<Live, ProviderError> {
        let id = &want.id;
        let wanted = Wanted::read(&self.options.workspace, want)?;
        let (region, engine) = (text(want, "region")?, text(want, "engine")?);
        let needed = self.needed(want).await?;
        let network = needed.networks.iter().find(|it| {
            let owned = self.owns_network(it);
            owned.is_some_and(|owned| want.depends_on.contains(&owned.id))
        });
        let found = match self.database(id).await? {
            Some(found) => found,
            None => self.create_managed(want, &wanted, network).await?,
        };
        let mut now = self.online(found, id, |_| true).await?;
        if now.now.region != region {
            return Err(cannot_become(want, "location", &now.now.region, region));
        }
        if now.now.engine != engine {
            return Err(cannot_become(want, "engine", &now.now.engine, engine));
        }
        if now.copies() != wanted.copies {
            now = self.promote(now, want, &wanted).await?;
        }
        let now = self.change_managed(now, id, &wanted).await?;
        let replaced = |tag: &str| {
            let ours = labels::IDENTITY
                .iter()
                .any(|key| tag.starts_with(&labels::tag(key, "")));
            ours || labels::is_users(&now.now.tags, tag)
        };
        self.bring(
            Tagged::Database(now.now.id.clone()),
            &now.now.tags,
            &wanted.tags,
            replaced,
            id,
        )
        .await?;
        let all = self.databases().await.map_err(|error| errors::outcome(error, id))?;
        let now = all.iter().find(|it| it.now.id == now.now.id).unwrap_or(&now);
        let sources = self
            .trusted_sources(now)
            .await
            .map_err(|error| errors::outcome(error, id))?;
        let live = self.managed(now, &sources, &all, &needed.networks);
        live.ok_or_else(|| ProviderError::NotReady {
            id: id.clone(),
            detail: "its tags were taken away again".into(),
        })
    }

    /// The one that carries our tags.
    pub(super) async fn database(&self, id: &ResourceId) -> Result<Option<Managed>, ProviderError> {
        let all = self.databases().await.map_err(|error| errors::outcome(error, id))?;
        let is = |it: &Managed| {
            self.owns(Kind::Database, &it.now.tags)
                .is_some_and(|owned| owned.id == *id)
        };
        Ok(all.into_iter().find(is))
    }

    async fn create_managed(
        &self,
        want: &Resource,
        wanted: &Wanted<'_>,
        network: Option<&Vpc>,
    ) -> Result<Managed, ProviderError> {
        let id = &want.id;
        let network = network.map(|it| it.id.as_str());
        let clusters: Vec<Database> = self
            .whole("/v2/databases", "databases", &[])
            .await
            .map_err(|error| errors::outcome(error, id))?;
        let Some(name) = wanted.copies else {
            not_taken(&clusters, id)?;
            let _no_sweep = self.making().await;
            self.groups_exist(wanted, id).await?;
            let made = self.create::<Database>(&request(want, wanted, network)).await;
            return made.map(Managed::cluster).map_err(|error| errors::outcome(error, id));
        };
        let ours = |it: &&Database| it.name == name && self.owns(Kind::Database, &it.tags).is_some();
        let source = clusters.iter().find(ours).ok_or_else(|| ProviderError::Missing {
            id: id.clone(),
            needs: format!("managed database {name}"),
        })?;
        let replicas = self
            .replicas(source)
            .await
            .map_err(|error| errors::outcome(error, id))?;
        let replicas: Vec<Database> = replicas.into_iter().map(|it| it.now).collect();
        not_taken(&replicas, id)?;
        let body = replica_request(want, wanted, network);
        let path = format!("/v2/databases/{}/replicas", source.id);
        let _no_sweep = self.making().await;
        // Online is not yet ready to be copied.
        let made = self
            .send_when_free::<Replica>(Method::POST, &path, Some(&body), errors::is_early)
            .await;
        let made = made.map_err(|error| errors::outcome(error, id))?;
        Ok(Managed::replica(made.replica, source))
    }

    /// The tags that trusted sources refer to: a group may have no server yet.
    async fn groups_exist(&self, wanted: &Wanted<'_>, id: &ResourceId) -> Result<(), ProviderError> {
        for rule in wanted.rules.iter().filter(|it| it["type"] == "tag") {
            self.tag_exists(&value_of(rule), id).await?;
        }
        Ok(())
    }

    /// Makes a replica a cluster of its own; nothing else of what something copies can be changed.
    async fn promote(&self, now: Managed, want: &Resource, wanted: &Wanted<'_>) -> Result<Managed, ProviderError> {
        let id = &want.id;
        let is = now.copies().unwrap_or("nothing").to_owned();
        if let Some(other) = wanted.copies {
            return Err(cannot_become(want, "source", &is, other));
        }
        let path = format!("{}/promote", now.path());
        let answer = self
            .send_when_free::<Value>(Method::PUT, &path, None, errors::is_early)
            .await;
        answer.map_err(|error| errors::outcome(error, id))?;
        let mut wait = self.wait();
        loop {
            let found = self.database(id).await?;
            if let Some(promoted) = found.filter(|it| it.copies.is_none()) {
                return self.online(promoted, id, |_| true).await;
            }
            if !wait.pause().await {
                return Err(ProviderError::NotReady {
                    id: id.clone(),
                    detail: format!("it was promoted and still copies {is} after {:?}", wait.patience),
                });
            }
        }
    }

    async fn change_managed(
        &self,
        now: Managed,
        id: &ResourceId,
        wanted: &Wanted<'_>,
    ) -> Result<Managed, ProviderError> {
        let mut now = now;
        let path = now.path();
        let put = async |what: &str, body: Value| {
            let answer = self
                .send_when_free::<Value>(Method::PUT, &format!("{path}/{what}"), Some(&body), errors::is_early)
                .await;
            answer.map(drop).map_err(|error| errors::outcome(error, id))
        };
        let same_size = now.now.size == wanted.size && now.now.num_nodes == wanted.nodes;
        let same = same_size && now.now.version == wanted.version;
        if now.copies.is_some() {
            return if same {
                Ok(now)
            } else {
                Err(ProviderError::Refused {
                    what: format!("{id} is a replica, and DigitalOcean changes neither its size nor its version"),
                    help: "remove it and make another, or change what it copies".into(),
                })
            };
        }
        if now.now.version != wanted.version {
            put("upgrade", json!({ "version": wanted.version })).await?;
            now = self.online(now, id, |it| it.version == wanted.version).await?;
        }
        if !same_size {
            put("resize", json!({ "size": wanted.size, "num_nodes": wanted.nodes })).await?;
            let done = |it: &Database| it.size == wanted.size && it.num_nodes == wanted.nodes;
            now = self.online(now, id, done).await?;
        }
        let is = self
            .trusted_sources(&now)
            .await
            .map_err(|error| errors::outcome(error, id))?;
        let is: Vec<Value> = is
            .iter()
            .map(|it| json!({ "type": it.kind, "value": it.value }))
            .collect();
        if is != wanted.rules {
            let _no_sweep = self.making().await;
            self.groups_exist(wanted, id).await?;
            put("firewall", json!({ "rules": wanted.rules })).await?;
        }
        Ok(now)
    }

    /// The database once it serves, and is as `done` says.
    async fn online(
        &self,
        it: Managed,
        id: &ResourceId,
        done: impl Fn(&Database) -> bool,
    ) -> Result<Managed, ProviderError> {
        let field = if it.copies.is_some() { "replica" } else { "database" };
        let path = it.path();
        let not_ready = |detail: String| ProviderError::NotReady { id: id.clone(), detail };
        let mut wait = self.wait();
        loop {
            let found = self.field::<Database>(&path, field).await;
            let found = found.map_err(|error| errors::outcome(error, id))?;
            let now = found.ok_or_else(|| not_ready("DigitalOcean no longer knows it: it was removed".into()))?;
            let status = now.status.clone();
            let now = match &it.copies {
                None => Managed::cluster(now),
                Some(source) => Managed {
                    copies: Some(source.clone()),
                    now: Database {
                        engine: it.now.engine.clone(),
                        version: it.now.version.clone(),
                        num_nodes: 1,
                        ..now
                    },
                },
            };
            if status == "online" && done(&now.now) {
                return Ok(now);
            }
            if !wait.pause().await {
                return Err(not_ready(format!(
                    "DigitalOcean calls it {status} after {:?}",
                    wait.patience
                )));
            }
        }
    }

    pub(super) async fn replicas(&self, of: &Database) -> Result<Vec<Managed>, RestError> {
        // Only these two can be copied.
        if !matches!(of.engine.as_str(), "pg" | "mysql") {
            return Ok(Vec::new());
        }
        let path = format!("/v2/databases/{}/replicas", of.id);
        let found: Vec<Database> = self.whole(&path, "replicas", &[]).await?;
        Ok(found.into_iter().map(|it| Managed::replica(it, of)).collect())
    }

    /// Who may connect; everybody with the password where there is none.
    pub(super) async fn trusted_sources(&self, of: &Managed) -> Result<Vec<Rule>, RestError> {
        if of.copies.is_some() {
            return Ok(Vec::new());
        }
        self.whole(&format!("{}/firewall", of.path()), "rules", &[]).await
    }

    pub(super) async fn remove_managed(&self, id: &ResourceId) -> Result<(), ProviderError> {
        if let Some(now) = self.database(id).await? {
            self.delete_to_the_end(id, &now.path()).await?;
        }
        self.sweep(id).await
    }

    /// `all` and `networks` are those of this workspace.
    pub(super) fn managed(&self, of: &Managed, sources: &[Rule], all: &[Managed], networks: &[Vpc]) -> Option<Live> {
        let now = &of.now;
        let owned = self.owns(Kind::Database, &now.tags)?;
        let within = networks
            .iter()
            .filter(|it| Some(&it.id) == now.private_network_uuid.as_ref());
        let mut depends_on: Vec<ResourceId> = within.filter_map(|it| self.owns_network(it)).map(|it| it.id).collect();
        if let Some(source) = &of.copies {
            let source = all.iter().find(|it| it.now.id == source.id);
            depends_on.extend(
                source
                    .and_then(|it| self.owns(Kind::Database, &it.now.tags))
                    .map(|it| it.id),
            );
        }
        let (status, detail) = match now.status.as_str() {
            "online" => (Status::Running, None),
            other => (Status::Pending, Some(other.to_owned())),
        };
        let host = |connection: &Option<super::api::Connection>| {
            let host = connection.as_ref().map(|it| it.host.clone());
            host.filter(|host| !host.is_empty())
        };
        Some(Live {
            status,
            detail,
            address: host(&now.connection),
            private_address: host(&now.private_connection),
            size: Some(now.size.clone()),
            created_at: now.created_at,
            depends_on,
            ..blank(
                &owned,
                spec(&self.options.workspace, &owned.id.region, of, sources, owned.protect),
            )
        })
    }
}

#[derive(Deserialize)]
struct Replica {
    replica: Database,
}

/// # Errors
///
/// [`ProviderError::Taken`]: whoever is called so does not carry our tags, or it would have been found by them.
fn not_taken(all: &[Database], id: &ResourceId) -> Result<(), ProviderError> {
    match all.iter().find(|it| it.name == id.name) {
        None => Ok(()),
        Some(other) => Err(ProviderError::Taken {
            what: format!("the name {}", id.name),
            by: format!(
                "the database {} at DigitalOcean, which does not carry the tags of {id}",
                other.id
            ),
        }),
    }
}

fn request(want: &Resource, wanted: &Wanted, network: Option<&str>) -> Value {
    let mut body = replica_request(want, wanted, network);
    body["engine"] = want.spec["engine"].clone();
    body["version"] = wanted.version.into();
    body["num_nodes"] = wanted.nodes.into();
    if !wanted.rules.is_empty() {
        body["rules"] = wanted.rules.clone().into();
    }
    body
}

fn replica_request(want: &Resource, wanted: &Wanted, network: Option<&str>) -> Value {
    let mut body = json!({
        "name": want.id.name,
        "region": want.spec["region"],
        "size": wanted.size,
        "tags": wanted.tags,
    });
    if let Some(network) = network {
        body["private_network_uuid"] = network.into();
    }
    body
}

/// What a trusted source can be, in DigitalOcean's words, where it is neither a range nor a group.
const OTHERS: [&str; 4] = ["droplet", "k8s", "tag", "app"];

/// A range (`10.0.0.0/8`), the name of a group, or one of the others by its kind: `app:4f6c71e2-…`.
fn rule(ws: &WorkspaceName, region: &RegionName, source: &str) -> Value {
    if let Some((kind, value)) = source.split_once(':').filter(|(kind, _)| OTHERS.contains(kind)) {
        return json!({ "type": kind, "value": value });
    }
    if source.contains(['.', ':', '/']) {
        return json!({ "type": "ip_addr", "value": source });
    }
    json!({ "type": "tag", "value": labels::group(ws, region, source) })
}

fn source(ws: &WorkspaceName, region: &RegionName, rule: &Rule) -> String {
    let group = labels::read_group(ws, region, &rule.value).filter(|_| rule.kind == "tag");
    match (group, rule.kind.as_str()) {
        (Some(group), _) => group.to_owned(),
        (None, "ip_addr") => rule.value.clone(),
        (None, kind) => format!("{kind}:{}", rule.value),
    }
}

fn value_of(rule: &Value) -> String {
    rule["value"].as_str().unwrap_or_default().to_owned()
}

fn spec(ws: &WorkspaceName, region: &RegionName, of: &Managed, sources: &[Rule], protect: bool) -> Value {
    let now = &of.now;
    let mut spec = json!({
        "kind": "digitalocean.Database",
        "name": now.name,
        "region": now.region,
        "engine": now.engine,
        "version": now.version,
        "size": now.size,
        "num_nodes": now.num_nodes,
        "trusted_sources": sources.iter().map(|it| source(ws, region, it)).collect::<Vec<_>>(),
        "labels": labels::to_labels(&now.tags),
        "protect": protect,
    });
    if let Some(name) = of.copies() {
        spec["replicate_from"] = name.into();
    }
    spec
}

#[cfg(test)]
mod tests {
    use ha_core::names::ProviderName;
    use proptest::prelude::*;

    use super::*;

    fn want(mut spec: Value) -> Resource {
        let protect = spec["protect"].as_bool().unwrap_or_default();
        spec["kind"] = "digitalocean.Database".into();
        spec["name"] = "us-managed".into();
        Resource {
            id: ResourceId::new(&RegionName::new("us-east"), Kind::Database, "us-managed"),
            provider: ProviderName::Digitalocean,
            spec,
            depends_on: Vec::new(),
            protect,
            path: "region_us_east.managed".into(),
        }
    }

    fn read(mut answer: Value, want: &Resource, of: Option<&Database>) -> Value {
        let ws = WorkspaceName::new("shop");
        answer["id"] = "9cc10173-e9ea-4176-9dbc-a4cee4c4ff30".into();
        answer["status"] = "online".into();
        answer["connection"] = json!({ "host": "db.example.com", "password": "wv78n3zpz42xezdk" });
        let rules = answer.get("rules").cloned().unwrap_or_else(|| json!([]));
        let rules: Vec<Rule> = serde_json::from_value(rules).expect("rules");
        let now: Database = serde_json::from_value(answer).expect("a database");
        assert!(
            !format!("{now:?}").contains("wv78n3zpz42xezdk"),
            "a password is not kept"
        );
        let now = match of {
            None => Managed::cluster(now),
            Some(of) => Managed::replica(now, of),
        };
        let protect = labels::is_set(&now.now.tags, labels::PROTECT);
        spec(&ws, &want.id.region, &now, &rules, protect)
    }

    #[test]
    fn a_replica_has_what_its_cluster_has() {
        let ws = WorkspaceName::new("shop");
        let want = want(
            json!({ "region": "nyc1", "engine": "pg", "version": "16", "size": "db-s-2vcpu-4gb",
            "num_nodes": 1, "replicate_from": "us-main", "trusted_sources": [], "labels": {}, "protect": true }),
        );
        let wanted = Wanted::read(&ws, &want).expect("it is whole");
        let cluster = json!({ "id": "1", "name": "us-main", "engine": "pg", "version": "16", "num_nodes": 3 });
        let cluster: Database = serde_json::from_value(cluster).expect("a database");
        let answer = replica_request(&want, &wanted, None);
        assert_eq!(read(answer, &want, Some(&cluster)), want.spec);
    }

    prop_compose! {
        fn trusted()(
            range in prop::sample::select(&["10.0.0.0/8", "::/0", "1.2.3.4"][..]),
            group in "[a-z][a-z0-9-]{0,8}",
            other in prop::sample::select(&["tag:bastion", "app:4f6c71e2", "droplet:7", "k8s:9"][..]),
            which in 0..3,
        ) -> String {
            [range.to_owned(), group, other.to_owned()][which as usize].clone()
        }
    }

    proptest! {
        #[test]
        fn what_is_asked_for_is_what_is_read(
            nodes in 1u64..=3,
            version in prop::sample::select(&["15", "16", "8"][..]),
            sources in prop::collection::vec(trusted(), 0..4),
            user in prop::collection::btree_map("[a-z][a-z0-9_-]{0,8}", "[a-zA-Z0-9_:-]{1,9}", 0..3),
            protect: bool,
        ) {
            let ws = WorkspaceName::new("shop");
            let want = want(json!({ "region": "nyc3", "engine": "pg", "version": version, "size": "db-s-2vcpu-4gb",
                "num_nodes": nodes, "trusted_sources": sources, "labels": user, "protect": protect }));
            let wanted = Wanted::read(&ws, &want).expect("it is whole");
            prop_assert_eq!(read(request(&want, &wanted, None), &want, None), want.spec);
        }
    }
}
