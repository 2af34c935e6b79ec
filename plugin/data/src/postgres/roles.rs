//! Who may do what in a cluster: the replicas' user, the application's user and database.

use ha_core::agent::PostgresConfig;
use postgres_protocol::password::scram_sha_256;

use super::{REPLICATION_USER, Session, connect::read_password};
use crate::DataError;

/// The replication user, the application's user and its database exist. Those that exist are left as they are.
///
/// Passwords do not travel: the server gets what it stores (SCRAM verifiers), and logs no statement of this session
/// meanwhile.
pub async fn ensure_roles(session: &Session, config: &PostgresConfig) -> Result<(), DataError> {
    // A new cluster has these before it has replicas that could acknowledge them.
    run(
        session,
        "set synchronous_commit = local; set log_statement = none; set log_min_duration_statement = -1; \
         set log_min_error_statement = panic",
    )
    .await?;
    let made = make(session, config).await;
    // The session goes on to other things, also when this failed.
    let reset = run(
        session,
        "reset synchronous_commit; reset log_statement; reset log_min_duration_statement; \
         reset log_min_error_statement",
    );
    made.and(reset.await)
}

async fn make(session: &Session, config: &PostgresConfig) -> Result<(), DataError> {
    let replication = read_password(&config.replication_password_file)?;
    ensure_role(session, REPLICATION_USER, "login replication", &replication).await?;
    let app = read_password(&config.app_password_file)?;
    ensure_role(session, &config.app_user, "login", &app).await?;
    let there = session
        .query_opt("select from pg_database where datname = $1", &[&config.app_database])
        .await
        .map_err(|error| session.error(&error))?;
    if there.is_none() {
        let (database, owner) = (identifier(&config.app_database), identifier(&config.app_user));
        run(session, &format!("create database {database} owner {owner}")).await?;
    }
    Ok(())
}

async fn ensure_role(session: &Session, name: &str, rights: &str, password: &str) -> Result<(), DataError> {
    let there = session
        .query_opt("select from pg_roles where rolname = $1", &[&name])
        .await
        .map_err(|error| session.error(&error))?;
    if there.is_some() {
        return Ok(());
    }
    // Base64, digits, colons and dollar signs: nothing in it needs escaping.
    let verifier = scram_sha_256(password.as_bytes());
    run(
        session,
        &format!("create role {} {rights} password '{verifier}'", identifier(name)),
    )
    .await
}

async fn run(session: &Session, statement: &str) -> Result<(), DataError> {
    session
        .batch_execute(statement)
        .await
        .map_err(|error| session.error(&error))
}

fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_leave_their_quotes() {
        assert_eq!(identifier(r#"a"; drop table x"#), r#""a""; drop table x""#);
    }
}
