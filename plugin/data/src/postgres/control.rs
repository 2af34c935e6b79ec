//! What a folder's control file says: the state it was left in, and where its last checkpoint is.

use std::path::Path;

use ha_core::{
    agent::PostgresConfig,
    lsn::{Lsn, Position},
};

use super::program;
use crate::DataError;

/// As in the control file; what a server that was killed leaves behind is the state it ran in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClusterState {
    StartingUp,
    ShutDown,
    ShutDownInRecovery,
    ShuttingDown,
    InCrashRecovery,
    InArchiveRecovery,
    InProduction,
}

impl ClusterState {
    /// Nothing is left to recover.
    pub const fn is_clean(self) -> bool {
        matches!(self, Self::ShutDown | Self::ShutDownInRecovery)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Control {
    pub system_identifier: String,
    pub state: ClusterState,
    /// Where the record of the last checkpoint begins.
    pub checkpoint: Lsn,
    /// Where a recovery from it begins.
    pub redo: Lsn,
    /// Of the last checkpoint; the log may go on on a later one.
    pub timeline: u32,
    /// A replica is consistent from here on; none when it is anywhere.
    pub consistent_from: Option<Position>,
}

/// What the control file says. Of a running server it is as old as its last checkpoint.
pub async fn control(config: &PostgresConfig) -> Result<Control, DataError> {
    let dir = &config.data_dir;
    let args = ["-D".to_owned(), dir.display().to_string()];
    let printed = program::run(config, "pg_controldata", &args, dir).await?;
    read(&printed, dir)
}

fn read(printed: &str, dir: &Path) -> Result<Control, DataError> {
    let bad = |what: &str| DataError::BadFile {
        path: dir.join("global/pg_control"),
        reason: format!("{what}; it is damaged"),
    };
    let word = |name: &str| {
        printed
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
            .map(str::trim)
            .ok_or_else(|| bad(&format!("names no {}", name.to_lowercase())))
    };
    let lsn = |name: &str| word(name)?.parse::<Lsn>().map_err(|error| bad(&error.to_string()));
    let number = |name: &str| word(name)?.parse::<u32>().map_err(|error| bad(&error.to_string()));
    let state = match word("Database cluster state")? {
        "starting up" => ClusterState::StartingUp,
        "shut down" => ClusterState::ShutDown,
        "shut down in recovery" => ClusterState::ShutDownInRecovery,
        "shutting down" => ClusterState::ShuttingDown,
        "in crash recovery" => ClusterState::InCrashRecovery,
        "in archive recovery" => ClusterState::InArchiveRecovery,
        "in production" => ClusterState::InProduction,
        other => return Err(bad(&format!("names the state \"{other}\""))),
    };
    let least = Position {
        timeline: number("Min recovery ending loc's timeline")?,
        lsn: lsn("Minimum recovery ending location")?,
    };
    Ok(Control {
        system_identifier: word("Database system identifier")?.to_owned(),
        state,
        checkpoint: lsn("Latest checkpoint location")?,
        redo: lsn("Latest checkpoint's REDO location")?,
        timeline: number("Latest checkpoint's TimeLineID")?,
        consistent_from: (least.lsn > Lsn(0)).then_some(least),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRINTED: &str = "\
pg_control version number:            1300
Database system identifier:           7443001122334455667
Database cluster state:               shut down in recovery
Latest checkpoint location:           0/30000D8
Latest checkpoint's REDO location:    0/30000A0
Latest checkpoint's TimeLineID:       4
Latest checkpoint's PrevTimeLineID:   4
Minimum recovery ending location:     0/3000150
Min recovery ending loc's timeline:   4
";

    #[test]
    fn a_control_file_is_read_and_a_damaged_one_is_told() {
        let control = read(PRINTED, Path::new("/data")).expect("whole");
        assert_eq!(control.system_identifier, "7443001122334455667");
        assert!(control.state.is_clean());
        assert_eq!((control.checkpoint, control.redo), (Lsn(0x300_00D8), Lsn(0x300_00A0)));
        assert_eq!(control.timeline, 4);
        let least = control.consistent_from.expect("a replica's");
        assert_eq!(
            least,
            Position {
                timeline: 4,
                lsn: Lsn(0x300_0150)
            }
        );
        let error = read(&PRINTED.replace("shut down in recovery", "on fire"), Path::new("/data"));
        assert!(error.is_err_and(|it| it.to_string().contains("on fire")));
        assert!(read("", Path::new("/data")).is_err());
    }
}
