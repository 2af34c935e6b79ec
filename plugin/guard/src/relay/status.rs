//! What the relay tells about itself.

use std::{collections::BTreeSet, sync::Arc};

use axum::{Json, Router, extract::State, routing::get};
use serde::Serialize;
use serde_json::{Value, json};

use super::{
    connection::Row,
    fronts::States,
    links::{Network, condition},
};

#[derive(Clone)]
struct Served {
    network: Arc<Network>,
    states: States,
}

/// One row of `GET /links`: a direction between the relay's region and another.
#[derive(Debug, Serialize)]
struct LinkRow {
    from: String,
    to: String,
    delay_ms: u64,
    cut: bool,
    /// Open now.
    connections: u64,
    /// Passed since the relay started.
    bytes: u64,
}

pub(super) fn router(network: Arc<Network>, states: States) -> Router {
    Router::new()
        .route("/links", get(links))
        .route("/connections", get(connections))
        .route("/fronts", get(fronts))
        .with_state(Served { network, states })
}

async fn links(State(served): State<Served>) -> Json<Vec<LinkRow>> {
    let own = &served.network.region;
    let links = served.network.links();
    let counted = served.network.counted();
    let regions = served.states.regions.borrow().clone();
    let named = links.links.iter().flat_map(|it| [&it.from, &it.to]);
    let seen = counted.keys().flat_map(|(from, to)| [from, to]);
    let others: BTreeSet<&String> = regions
        .octets
        .values()
        .chain(named)
        .chain(seen)
        .filter(|it| *it != own)
        .collect();
    let pairs = others.into_iter().flat_map(|it| [(it, own), (own, it)]);
    Json(
        pairs
            .map(|(from, to)| {
                let condition = condition(&links, from, to);
                let (connections, bytes) = counted.get(&(from.clone(), to.clone())).copied().unwrap_or_default();
                LinkRow {
                    from: from.clone(),
                    to: to.clone(),
                    delay_ms: condition.delay.as_millis() as u64,
                    cut: condition.cut,
                    connections,
                    bytes,
                }
            })
            .collect(),
    )
}

async fn connections(State(served): State<Served>) -> Json<Vec<Row>> {
    Json(served.states.hub.registry.rows())
}

/// Which fronts are open and why not, and whether `links.json` could be read.
async fn fronts(State(served): State<Served>) -> Json<Value> {
    Json(json!({ "fronts": served.states.rows(), "error": served.network.trouble() }))
}
