//! Lists in pages, read so that nothing is missed while others change them.

use std::{collections::BTreeSet, time::Duration};

use futures::future::try_join_all;
use http::Method;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{Backoff, Fault, Query, Rest, RestError};

/// How one list is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Listing<'a> {
    pub path: &'a str,
    /// Filters; `page` and `per_page` are added.
    pub query: Query<'a>,
    /// The field of the answer that has the items.
    pub items: &'a str,
    /// The field of an item that tells it from the others.
    pub id: &'a str,
    /// The most that the provider gives at once.
    pub per_page: usize,
    /// What one answer tells about the rest.
    pub page: fn(&Value) -> Page,
}

/// What one page tells about the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page {
    /// Of all pages; none where the provider does not count.
    pub total: Option<u64>,
    /// Another page follows.
    pub more: bool,
}

/// The list as it was read once.
struct Reading<T> {
    items: Vec<T>,
    ids: BTreeSet<String>,
    /// It fits together by itself: the pages agree on how many there are, and so many were seen.
    whole: bool,
}

/// One page, each item with its id.
struct Read<T> {
    items: Vec<(String, T)>,
    told: Page,
}

/// Read so often before it is an error: a list that changes under five readings is being changed by a machine.
const READINGS: u32 = 5;

impl Rest {
    /// The whole list, each item once; pages side by side where the provider tells how many there are.
    ///
    /// Pages are counted from the start, so an item that comes or goes while they are read moves others between
    /// them. The list is read again until it fits together.
    ///
    /// # Errors
    ///
    /// Any page that could not be had, and [`Fault::Shifting`]: never a shorter list.
    pub async fn list<T: DeserializeOwned>(&self, listing: &Listing<'_>) -> Result<Vec<T>, RestError> {
        let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(1));
        let mut before: Option<BTreeSet<String>> = None;
        for _ in 0..READINGS {
            let reading = self.reading(listing).await?;
            // Where nothing can be counted, two readings that agree are the proof.
            if reading.whole || before.as_ref() == Some(&reading.ids) {
                return Ok(reading.items);
            }
            before = Some(reading.ids);
            tokio::time::sleep(backoff.pause()).await;
        }
        Err(self.fault(listing, Fault::Shifting))
    }

    async fn reading<T: DeserializeOwned>(&self, listing: &Listing<'_>) -> Result<Reading<T>, RestError> {
        let first = self.page(listing, 1).await?;
        let told = first.told;
        // Some providers give fewer at once than they were asked for.
        let size = first.items.len().max(1) as u64;
        let mut pages = vec![first];
        match told.total {
            Some(total) if told.more => {
                let rest = (2..=total.div_ceil(size)).map(|number| self.page(listing, number));
                pages.extend(try_join_all(rest).await?);
            }
            _ => {
                while pages.last().is_some_and(|page| page.told.more) {
                    pages.push(self.page(listing, pages.len() as u64 + 1).await?);
                }
            }
        }
        let last = pages.len() - 1;
        let ends = pages
            .iter()
            .enumerate()
            .all(|(index, page)| page.told.more == (index < last));
        let agree = pages.iter().all(|page| page.told.total == told.total);
        let mut ids = BTreeSet::new();
        let mut items = Vec::new();
        for (id, item) in pages.into_iter().flat_map(|page| page.items) {
            if ids.insert(id) {
                items.push(item);
            }
        }
        let counted = told.total.map_or(last == 0, |total| total == ids.len() as u64);
        Ok(Reading {
            whole: ends && agree && counted,
            items,
            ids,
        })
    }

    /// Items are taken out of their JSON page by page: as JSON, all pages together are several times as large.
    async fn page<T: DeserializeOwned>(&self, listing: &Listing<'_>, number: u64) -> Result<Read<T>, RestError> {
        let mut query = listing.query.to_vec();
        query.push(("page", number.to_string()));
        query.push(("per_page", listing.per_page.to_string()));
        let (mut answer, took) = self.call(&Method::GET, listing.path, &query, None).await?;
        let told = (listing.page)(&answer);
        let Some(Value::Array(found)) = answer.get_mut(listing.items).map(Value::take) else {
            let why = format!("it has no list {}", listing.items);
            return Err(self.fault(listing, Fault::Shape { why }));
        };
        let mut items = Vec::with_capacity(found.len());
        for item in found {
            let id = match item.get(listing.id) {
                Some(Value::String(id)) => id.clone(),
                Some(Value::Number(id)) => id.to_string(),
                _ => {
                    let why = format!("an item of {} has no {}", listing.items, listing.id);
                    return Err(self.fault(listing, Fault::Shape { why }));
                }
            };
            items.push((id, self.parse(&Method::GET, listing.path, took, item)?));
        }
        Ok(Read { items, told })
    }

    fn fault(&self, listing: &Listing<'_>, fault: Fault) -> RestError {
        self.error(&Method::GET, listing.path, Duration::ZERO, fault)
    }
}
