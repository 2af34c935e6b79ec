//! What a guard does to its database, done by a person's session where no guard runs: from anywhere, with nothing but
//! the admin's login.
//!
//! Settings and slots are SQL. Files of the node (the password that lets it follow, placeholders of timelines) are
//! reached with `COPY … TO PROGRAM`, which a superuser may use, on a replica, too
//! (<https://www.postgresql.org/docs/current/sql-copy.html>): the line runs as the server's own user in its own folder.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use ha_core::{
    agreement::Epoch,
    lsn::{Lsn, Position},
};
use tokio::time::sleep;

use super::{
    ConnectOptions, Identity, REPLICATION_USER, Session, beside, connect,
    follow::{Upstream, follow_at, password_line},
    identify::identify_at,
    names::{self, LOOK, PROMPT, within},
    place::Place,
    promote::promote_at,
    seal::seal_at,
    timeline::{PLACEHOLDER, file, in_the_way, is_real, number_of, real_history},
};
use crate::DataError;

/// A node that is reached through its database alone.
#[derive(Debug)]
pub struct Node {
    session: Session,
    options: ConnectOptions,
    /// Holds the replicas' password, on this machine.
    replication_password_file: PathBuf,
    /// The following are on the node.
    data_dir: PathBuf,
    ca: PathBuf,
}

impl Node {
    /// Nothing was changed yet. What is done later does not show in the server's log where it would hold a secret.
    ///
    /// # Errors
    /// Nobody answers; or the server's certificate lies where its authority's does not.
    pub async fn open(options: ConnectOptions, replication_password_file: PathBuf) -> Result<Self, DataError> {
        let session = connect(&options).await?;
        let work = async {
            let row = session
                .query_one(
                    "select current_setting('data_directory'), current_setting('ssl_cert_file')",
                    &[],
                )
                .await
                .map_err(|error| session.error(&error))?;
            Ok((
                PathBuf::from(row.get::<_, String>(0)),
                PathBuf::from(row.get::<_, String>(1)),
            ))
        };
        let (data_dir, certificate) =
            within(PROMPT, &format!("asking {} for its folders", session.address()), work).await?;
        Ok(Self {
            ca: certificate.with_file_name("ca.pem"),
            session,
            options,
            replication_password_file,
            data_dir,
        })
    }

    pub fn session(&self) -> &Session {
        &self.session
    }

    /// Which cluster it is of, and how far its log goes on which timeline.
    pub async fn identify(&self) -> Result<Identity, DataError> {
        Place::identify(self).await
    }

    /// As [`super::seal`]: what it received later than now is never acknowledged to anybody.
    pub async fn seal(&self, patience: Duration) -> Result<Position, DataError> {
        seal_at(&self.session, self, patience).await
    }

    /// As [`super::promote`]; answers with the timelines that it came from, and where each ended: the last end is where
    /// the new one begins.
    pub async fn promote(
        &self,
        timeline: u32,
        names: &str,
        slots: &[String],
        patience: Duration,
    ) -> Result<Vec<(u32, Lsn)>, DataError> {
        promote_at(&self.session, self, timeline, names, slots, patience).await
    }

    /// Where each timeline ended on the way to this one.
    pub async fn history(&self, timeline: u32) -> Result<Vec<(u32, Lsn)>, DataError> {
        let what = format!(
            "reading where timeline {timeline} of {} came from",
            self.session.address()
        );
        within(PROMPT, &what, Place::history(self, &self.session, timeline)).await
    }

    /// As [`super::follow`].
    pub async fn follow(&self, node: &str, upstream: &Upstream, epoch: Epoch) -> Result<(), DataError> {
        follow_at(&self.session, self, node, upstream, epoch).await
    }

    /// Runs a line of the server's shell, in the data folder, with what `query` gives as its input.
    async fn run(&self, query: &str, line: &str) -> Result<(), DataError> {
        // In this form a line goes out as it is: neither of the two can be in it.
        let form = "(format csv, quote E'\\x01', delimiter E'\\x02')";
        let line = line.replace('\'', "''");
        names::run(&self.session, &[&format!("copy ({query}) to program '{line}' {form}")]).await
    }

    /// Each history file, and its text.
    async fn histories(&self) -> Result<Vec<(u32, String)>, DataError> {
        let rows = self
            .session
            .query_typed(
                "select name, pg_read_file('pg_wal/' || name) from pg_ls_waldir() where name like '%.history' order by 1",
                &[],
            )
            .await
            .map_err(|error| self.session.error(&error))?;
        let numbered = rows.iter().filter_map(|row| Some((number_of(row.get(0))?, row.get(1))));
        Ok(numbered.collect())
    }
}

/// A word of the server's shell.
fn word(path: &Path) -> String {
    format!("'{}'", path.to_string_lossy().replace('\'', "'\\''"))
}

impl Place for Node {
    fn ca(&self) -> &Path {
        &self.ca
    }

    fn passfile(&self) -> PathBuf {
        beside(&self.data_dir, ".passfile")
    }

    async fn take_credential_away(&self, _: &Session) -> Result<(), DataError> {
        self.run("select 1", &format!("rm -f {}", word(&self.passfile()))).await
    }

    /// The password travels as a parameter, and this session's are not logged.
    async fn give_credential(&self, session: &Session) -> Result<(), DataError> {
        let line = password_line(REPLICATION_USER, &self.replication_password_file)?;
        let line = line.trim_end();
        let quiet = "set log_statement = none; set log_min_duration_statement = -1; set log_min_error_statement = panic; \
                     set log_parameter_max_length_on_error = 0; set log_duration = off";
        names::run(session, &[quiet]).await?;
        session
            .query("select set_config('ha.line', $1, false)", &[&line])
            .await
            .map_err(|error| session.error(&error))?;
        let path = self.passfile();
        let (new, path) = (word(&beside(&path, ".new")), word(&path));
        let written = self
            .run(
                "select current_setting('ha.line')",
                &format!("umask 077 && cat > {new} && mv -f {new} {path}"),
            )
            .await;
        names::run(session, &["reset ha.line"]).await?;
        written
    }

    /// They are no backends, and SQL can signal none of them. Nobody asks for one any more: the startup process ends what
    /// it had asked for as soon as it reads whom to follow, and a login that had begun before fails or is ended.
    async fn end_receivers(&self, session: &Session) -> Result<(), DataError> {
        loop {
            let row = session
                .query_one(
                    "select exists (select from pg_stat_activity where backend_type = 'walreceiver')",
                    &[],
                )
                .await
                .map_err(|error| session.error(&error))?;
            if !row.get::<_, bool>(0) {
                return Ok(());
            }
            sleep(LOOK).await;
        }
    }

    async fn identify(&self) -> Result<Identity, DataError> {
        identify_at(&self.options, PROMPT).await
    }

    async fn reserve_timeline(&self, _: &Session, own: u32, wanted: u32) -> Result<(), DataError> {
        let found = self.histories().await?;
        let found = found.iter().map(|(number, text)| (*number, is_real(text)));
        let gone = in_the_way(&self.data_dir, found.collect(), own, wanted)?;
        let name = |number: u32| format!("{number:08X}.history");
        let gone: Vec<String> = gone.into_iter().map(name).collect();
        let placed: Vec<String> = (own + 1..wanted).map(name).collect();
        let line = format!(
            "cd pg_wal && umask 077 && text=$(cat) && rm -f {} .none && for name in {}; do test -e $name || printf \"%s\\n\" \"$text\" > $name || exit 1; done",
            gone.join(" "),
            placed.join(" ")
        );
        self.run(&format!("select '{}'", PLACEHOLDER.trim_end()), &line).await
    }

    async fn history(&self, _: &Session, timeline: u32) -> Result<Vec<(u32, Lsn)>, DataError> {
        if timeline <= 1 {
            return Ok(Vec::new());
        }
        let path = file(&self.data_dir, timeline);
        let found = self
            .histories()
            .await?
            .into_iter()
            .find(|(number, _)| *number == timeline);
        match found {
            Some((_, text)) => real_history(path, &text),
            None => Err(DataError::BadFile {
                path,
                reason: "is not there".to_owned(),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_stays_one_word() {
        assert_eq!(word(Path::new("/a b/it's")), r"'/a b/it'\''s'");
    }
}
