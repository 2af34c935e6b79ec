//! Physical replication slots: they keep the log that a replica still needs.

use super::{
    Session,
    names::{PROMPT, within},
};
use crate::DataError;

/// Each of these physical slots exists and holds the log back. Answers with those that were made now.
pub async fn ensure_slots(session: &Session, slots: &[String]) -> Result<Vec<String>, DataError> {
    within(
        PROMPT,
        &format!("making slots at {}", session.address()),
        make(session, slots),
    )
    .await
}

async fn make(session: &Session, slots: &[String]) -> Result<Vec<String>, DataError> {
    let mut made = Vec::new();
    for slot in slots {
        // One that was invalidated (its node stayed away for too long) keeps nothing any more.
        session
            .execute(
                "select pg_drop_replication_slot(slot_name) from pg_replication_slots
                  where slot_name = $1::text::name and wal_status = 'lost' and not active",
                &[slot],
            )
            .await
            .map_err(|error| session.error(&error))?;
        let created = session
            .execute(
                "select pg_create_physical_replication_slot($1::text::name, true)
                  where not exists (select from pg_replication_slots where slot_name = $1::text::name)",
                &[slot],
            )
            .await;
        match created.map_err(|error| session.error(&error)) {
            Ok(0) => {}
            Ok(_) => made.push(slot.clone()),
            // Made by somebody else in the same moment.
            Err(DataError::Refused { code, .. }) if code == "42710" => {}
            Err(error) => return Err(error),
        }
    }
    Ok(made)
}

/// This slot is gone, unless somebody streams from it. Answers whether it was removed now.
pub async fn drop_slot(session: &Session, slot: &str) -> Result<bool, DataError> {
    let work = async {
        let dropped = session
            .execute(
                "select pg_drop_replication_slot(slot_name) from pg_replication_slots
                  where slot_name = $1::text::name and not active",
                &[&slot],
            )
            .await;
        dropped.map(|rows| rows > 0).map_err(|error| session.error(&error))
    };
    within(PROMPT, &format!("removing a slot at {}", session.address()), work).await
}

/// On a replica: each of these slots exists and keeps the log from what is replayed here on, so that it is there for
/// the others on the day this node is made primary. Slots that somebody streams from move by themselves.
pub async fn tend_replica_slots(session: &Session, slots: &[String]) -> Result<(), DataError> {
    const ADVANCE: &str = "
select pg_replication_slot_advance(slot_name, pg_last_wal_replay_lsn())
  from pg_replication_slots
 where slot_name = $1::text::name and slot_type = 'physical' and not active
   and pg_is_in_recovery() and restart_lsn < pg_last_wal_replay_lsn()";
    let work = async {
        make(session, slots).await?;
        for slot in slots {
            match session
                .execute(ADVANCE, &[slot])
                .await
                .map_err(|error| session.error(&error))
            {
                Ok(_) => {}
                // Somebody began to stream from it, or removed it, in this moment.
                Err(DataError::Refused { code, .. }) if ["55006", "42704"].contains(&code.as_str()) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    };
    within(PROMPT, &format!("moving the slots at {}", session.address()), work).await
}
