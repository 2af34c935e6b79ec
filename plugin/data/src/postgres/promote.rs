//! A sealed replica becomes the primary of an epoch, on the timeline that was given out for it.

use std::time::Duration;

use ha_core::{
    agent::PostgresConfig,
    lsn::{Lsn, Position},
};
use tokio::time::sleep;

use super::{
    Session,
    names::{self, LOOK, within},
    place::Place,
    seal::read_to_the_end,
    slots::ensure_slots,
};
use crate::DataError;

/// The sealed replica behind `session` is primary on `timeline`, and commits wait for `names` from the first one on;
/// answers with where the timeline begins. `slots` exist before, so that nobody misses a byte.
///
/// Done already it answers the same. After an error before the promotion itself it is a sealed replica still; after
/// [`DataError::Timeout`] either: call it again. [`DataError::WrongTimeline`] means a primary that must be ended.
pub async fn promote(
    session: &Session,
    config: &PostgresConfig,
    timeline: u32,
    names: &str,
    slots: &[String],
    patience: Duration,
) -> Result<Position, DataError> {
    let begun = promote_at(session, config, timeline, names, slots, patience).await?;
    let lsn = begun.last().map_or(Lsn(0), |(_, end)| *end);
    Ok(Position { timeline, lsn })
}

/// Answers with the timelines that it came from, and where each ended.
pub(super) async fn promote_at(
    session: &Session,
    place: &impl Place,
    timeline: u32,
    names: &str,
    slots: &[String],
    patience: Duration,
) -> Result<Vec<(u32, Lsn)>, DataError> {
    let work = async {
        if replica(session).await? {
            not_following(session).await?;
            read_to_the_end(session).await?;
            ensure_slots(session, slots).await?;
            let own = place.identify().await?.position.timeline;
            place.reserve_timeline(session, own, timeline).await?;
            // Before there can be a commit: afterwards the first ones would be acknowledged by nobody.
            names::set(session, "synchronous_standby_names", names).await?;
            // Waiting here would look ten times a second only.
            names::run(session, &["select pg_promote(false)"]).await?;
            while replica(session).await? {
                sleep(LOOK).await;
            }
        }
        writes_on(session, timeline).await?;
        place.history(session, timeline).await
    };
    within(
        patience,
        &format!("promoting the replica at {}", session.address()),
        work,
    )
    .await
}

async fn replica(session: &Session) -> Result<bool, DataError> {
    let row = session
        .query_one("select pg_is_in_recovery()", &[])
        .await
        .map_err(|error| session.error(&error))?;
    Ok(row.get(0))
}

async fn not_following(session: &Session) -> Result<(), DataError> {
    let row = session
        .query_one("select current_setting('primary_conninfo') = ''", &[])
        .await
        .map_err(|error| session.error(&error))?;
    if row.get(0) {
        return Ok(());
    }
    Err(DataError::Unexpected(format!(
        "{} follows somebody; only a sealed replica is made primary",
        session.address()
    )))
}

async fn writes_on(session: &Session, wanted: u32) -> Result<(), DataError> {
    let row = session
        .query_one(
            "select ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::int4",
            &[],
        )
        .await
        .map_err(|error| session.error(&error))?;
    let found = row.get::<_, i32>(0).cast_unsigned();
    if found != wanted {
        return Err(DataError::WrongTimeline {
            address: session.address().to_owned(),
            found,
            wanted,
        });
    }
    Ok(())
}
