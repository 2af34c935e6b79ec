//! Where the files of a node are: in folders of this machine, or behind a session with its database
//! ([`super::by_sql`]). What is done to a node is the same either way, in the same order.

use std::path::{Path, PathBuf};

use ha_core::{agent::PostgresConfig, lsn::Lsn};

use super::{
    Session,
    follow::{self, write_passfile},
    identify::{self, Identity},
    names::PROMPT,
    seal::{self, take_credential_away},
    timeline,
};
use crate::DataError;

pub(super) trait Place {
    /// Of the authority that signs every node's certificate, on the node.
    fn ca(&self) -> &Path;

    fn passfile(&self) -> PathBuf;

    /// As [`take_credential_away`].
    async fn take_credential_away(&self, session: &Session) -> Result<(), DataError>;

    /// As [`write_passfile`].
    async fn give_credential(&self, session: &Session) -> Result<(), DataError>;

    /// No walreceiver is left, also none that is only connecting. The credential and whom to follow are gone already.
    async fn end_receivers(&self, session: &Session) -> Result<(), DataError>;

    async fn identify(&self) -> Result<Identity, DataError>;

    /// As [`timeline::reserve_timeline`].
    async fn reserve_timeline(&self, session: &Session, own: u32, wanted: u32) -> Result<(), DataError>;

    /// As [`timeline::history`].
    async fn history(&self, session: &Session, timeline: u32) -> Result<Vec<(u32, Lsn)>, DataError>;
}

impl Place for PostgresConfig {
    fn ca(&self) -> &Path {
        &self.tls.ca
    }

    fn passfile(&self) -> PathBuf {
        follow::passfile(self)
    }

    async fn take_credential_away(&self, _: &Session) -> Result<(), DataError> {
        take_credential_away(self)
    }

    async fn give_credential(&self, _: &Session) -> Result<(), DataError> {
        write_passfile(self)
    }

    async fn end_receivers(&self, session: &Session) -> Result<(), DataError> {
        seal::end_receivers(session, self).await
    }

    async fn identify(&self) -> Result<Identity, DataError> {
        identify::identify(self, PROMPT).await
    }

    async fn reserve_timeline(&self, _: &Session, own: u32, wanted: u32) -> Result<(), DataError> {
        timeline::reserve_timeline(self, own, wanted)
    }

    async fn history(&self, _: &Session, wanted: u32) -> Result<Vec<(u32, Lsn)>, DataError> {
        timeline::history(self, wanted)
    }
}
