//! A database that went its own way is brought back to where it left, and what is thrown away with that is kept and
//! counted.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use ha_core::{
    agent::{PostgresConfig, stream_name},
    lsn::{Lsn, Position},
};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};

use super::{
    ADMIN_DATABASE, ADMIN_USER,
    catch_up::catch_up,
    cluster::{mend, private_dir, ruin, write_config},
    connect::{ConnectOptions, Host, connect},
    control::{Control, control},
    follow::{self, Upstream},
    names::within,
    process, program,
    seal::{at_rest, seal_folder},
    timeline::{self, history_in, read_history},
};
use crate::DataError;

/// Log that is thrown away is kept up to this much.
const KEEP: u64 = 256 << 20;
/// So many relations are named, those with the most records first.
const RELATIONS: usize = 50;

/// How a rewind went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rewound {
    /// None when nothing had to be: all that it held is the upstream's, too.
    pub fork: Option<Position>,
    /// What was thrown away, a row for each of its timelines after the fork.
    pub lost: Vec<Lost>,
    /// Files of the log that was thrown away, in the folder that was given.
    pub kept: Vec<PathBuf>,
    /// Some were too much to keep.
    pub kept_in_part: bool,
    pub took: Duration,
}

/// Log that only this database had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lost {
    pub timeline: u32,
    pub from: Lsn,
    /// Where its last record begins; `from` when it has none.
    pub to: Lsn,
    pub records: u64,
    pub bytes: u64,
    /// Transactions that said they were done, whether anybody was told so or not.
    pub commits: u64,
    /// `tablespace/database/file` and how many records were about it, most first.
    pub relations: Vec<(String, u64)>,
}

/// What the upstream says of itself.
struct Source {
    timeline: u32,
    history: Vec<(u32, Lsn)>,
}

/// The folder, stopped cleanly, holds what `upstream` held at some point since the fork, and starts as a sealed
/// standby that can follow it. What only this folder had is in `keep_dir` and in the answer. Slots are gone, and its
/// own configuration is back.
///
/// Nothing is changed before `pg_rewind` said that it can do it; [`DataError::CannotRewind`] means that it cannot.
/// Dying or an error after that leaves a folder that is [`super::DataDir::Ruined`]: only a copy helps then.
pub async fn rewind(
    config: &PostgresConfig,
    node: &str,
    upstream: &Upstream,
    keep_dir: &Path,
    patience: Duration,
) -> Result<Rewound, DataError> {
    at_rest(config)?;
    let dir = &config.data_dir;
    let passfile = super::beside(dir, ".rewind-passfile");
    follow::write_private(
        &passfile,
        &follow::password_line(ADMIN_USER, &config.admin_password_file)?,
    )?;
    let work = rewind_with(config, node, upstream, keep_dir, &passfile);
    let done = within(patience, &format!("rewinding {}", dir.display()), work).await;
    match done {
        Ok(rewound) => process::remove(&passfile).map(|()| rewound),
        Err(error) => {
            if let Err(error) = process::remove(&passfile) {
                tracing::warn!(%error, "a passfile is left behind");
            }
            Err(error)
        }
    }
}

async fn rewind_with(
    config: &PostgresConfig,
    node: &str,
    upstream: &Upstream,
    keep_dir: &Path,
    passfile: &Path,
) -> Result<Rewound, DataError> {
    let began = Instant::now();
    let dir = &config.data_dir;
    let cannot = |reason: String| DataError::CannotRewind {
        path: dir.clone(),
        reason,
    };
    let control = control(config).await?;
    if !control.state.is_clean() {
        return Err(DataError::BadFile {
            path: dir.clone(),
            reason: "was not stopped cleanly; start it as a sealed standby and stop it".to_owned(),
        });
    }
    let source = ask(config, node, upstream, &control).await?;
    // pg_rewind 15 goes by the last checkpoint's timeline alone.
    if let Some(least) = control.consistent_from.filter(|it| it.timeline > control.timeline) {
        return Err(cannot(format!(
            "its last restart point is on timeline {}, its log goes on to {least}",
            control.timeline
        )));
    }
    let name = format!("{}_rewind", stream_name(node));
    let conninfo = follow::conninfo(config, upstream, ADMIN_USER, &name, passfile);
    let mut args = vec![
        "--no-ensure-shutdown".to_owned(),
        format!("--target-pgdata={}", dir.display()),
        format!("--source-server={conninfo} dbname='{ADMIN_DATABASE}'"),
        "--dry-run".to_owned(),
    ];
    let said = match program::run_aloud(config, "pg_rewind", &args, dir).await {
        Ok((_, said)) => said,
        Err(DataError::Program { reason, .. }) if !reason.contains("connection to server") => {
            return Err(cannot(reason));
        }
        Err(error) => return Err(error),
    };
    let mut rewound = Rewound {
        fork: None,
        lost: Vec::new(),
        kept: Vec::new(),
        kept_in_part: false,
        took: Duration::ZERO,
    };
    if !said.contains("no rewind required") {
        let own = lineage(control.timeline, history_in(dir, control.timeline)?);
        let other = lineage(source.timeline, source.history);
        let left =
            fork(&own, &other).ok_or_else(|| cannot("it has no timeline in common with the upstream".to_owned()))?;
        rewound.fork = Some(left);
        keep(dir, left, keep_dir, &mut rewound).await?;
        for (timeline, from, to) in after(&own, left) {
            rewound.lost.push(count(config, timeline, from, to).await?);
        }
        args.pop();
        ruin(config, "a rewind of it did not end")?;
        program::run(config, "pg_rewind", &args, dir).await?;
        // It brought the source's configuration.
        write_config(config, node)?;
        timeline::tidy(dir, &self::control(config).await?)?;
        catch_up(config, node, upstream).await?;
        seal_folder(config).await?;
        mend(config)?;
    } else {
        seal_folder(config).await?;
    }
    rewound.took = began.elapsed();
    Ok(rewound)
}

/// The upstream is a primary of the same cluster whose control file is on the timeline it writes: before, pg_rewind
/// takes a wrong fork.
async fn ask(config: &PostgresConfig, node: &str, upstream: &Upstream, control: &Control) -> Result<Source, DataError> {
    let host = Host::tcp(&upstream.address, upstream.port);
    let options = ConnectOptions::new(host, ADMIN_USER, ADMIN_DATABASE, &config.admin_password_file)
        .ca(&config.tls.ca)
        .timeout(Duration::from_secs(5))
        .application_name(format!("{}_asks", stream_name(node)));
    let session = connect(&options).await?;
    let row = session
        .query_one(
            "with here as materialized (
               select pg_is_in_recovery() as replica,
                      case when pg_is_in_recovery() then 'FFFFFFFF'
                           else substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8) end as timeline)
             select (select system_identifier::text from pg_control_system()),
                    (select timeline_id from pg_control_checkpoint()),
                    replica,
                    ('x' || timeline)::bit(32)::int4,
                    coalesce(pg_read_file('pg_wal/' || timeline || '.history', 0, 1000000, true), '')
               from here",
            &[],
        )
        .await
        .map_err(|error| session.error(&error))?;
    let address = session.address().to_owned();
    let found: String = row.get(0);
    if found != control.system_identifier {
        return Err(DataError::OtherCluster {
            path: config.data_dir.clone(),
            found: control.system_identifier.clone(),
            expected: found,
        });
    }
    if row.get(2) {
        return Err(DataError::Unexpected(format!("{address} is a replica itself")));
    }
    let (checkpointed, timeline) = (
        row.get::<_, i32>(1).cast_unsigned(),
        row.get::<_, i32>(3).cast_unsigned(),
    );
    if checkpointed != timeline {
        return Err(DataError::NoCheckpoint {
            address,
            control: checkpointed,
            timeline,
        });
    }
    let history = read_history(row.get(4))
        .ok_or_else(|| DataError::Unexpected("a history of timelines that cannot be read".to_owned()))?;
    Ok(Source { timeline, history })
}

/// Timelines and where each ended, oldest first; the last has not ended.
fn lineage(timeline: u32, mut history: Vec<(u32, Lsn)>) -> Vec<(u32, Lsn)> {
    history.push((timeline, Lsn(u64::MAX)));
    history
}

/// Where two lineages part.
fn fork(own: &[(u32, Lsn)], other: &[(u32, Lsn)]) -> Option<Position> {
    let mut last = None;
    for ((timeline, here), (there_timeline, there)) in own.iter().zip(other) {
        if timeline != there_timeline {
            break;
        }
        last = Some(Position {
            timeline: *timeline,
            lsn: *here.min(there),
        });
        if here != there {
            break;
        }
    }
    last
}

/// The parts of a lineage after the fork: timeline, from, to.
fn after(own: &[(u32, Lsn)], fork: Position) -> Vec<(u32, Lsn, Lsn)> {
    let mut from = fork.lsn;
    let mut parts = Vec::new();
    for (timeline, to) in own.iter().skip_while(|(timeline, _)| *timeline != fork.timeline) {
        if from < *to {
            parts.push((*timeline, from, *to));
        }
        from = *to;
    }
    parts
}

/// Log files from the fork on are copied, oldest first, as many as are kept.
async fn keep(dir: &Path, fork: Position, keep_dir: &Path, rewound: &mut Rewound) -> Result<(), DataError> {
    private_dir(keep_dir)?;
    let wal = dir.join("pg_wal");
    let mut files = Vec::new();
    for entry in fs::read_dir(&wal).map_err(DataError::file(&wal))?.flatten() {
        let Ok(name) = entry.file_name().into_string() else {
            continue;
        };
        let size = entry.metadata().map_err(DataError::file(entry.path()))?.len();
        if is_after(&name, size, fork) {
            files.push((name, size));
        }
    }
    files.sort();
    let mut total = 0;
    for (name, size) in files {
        total += size;
        if total > KEEP {
            rewound.kept_in_part = true;
            break;
        }
        let to = keep_dir.join(&name);
        tokio::fs::copy(wal.join(&name), &to)
            .await
            .map_err(DataError::file(&to))?;
        rewound.kept.push(to);
    }
    Ok(())
}

/// Whether a file of this name and size has log beyond the fork.
fn is_after(name: &str, size: u64, fork: Position) -> bool {
    let part = |from: usize| {
        name.get(from..from + 8)
            .and_then(|digits| u64::from_str_radix(digits, 16).ok())
    };
    let (24, Some(timeline), Some(high), Some(low)) = (name.len(), part(0), part(8), part(16)) else {
        return false;
    };
    let end = (high << 32) + (low + 1) * size;
    match timeline.cmp(&u64::from(fork.timeline)) {
        std::cmp::Ordering::Less => false,
        std::cmp::Ordering::Equal => end > fork.lsn.0,
        std::cmp::Ordering::Greater => true,
    }
}

/// What a stretch of log holds. It may end before `to`: nobody knows where the last record of a crash is.
async fn count(config: &PostgresConfig, timeline: u32, from: Lsn, to: Lsn) -> Result<Lost, DataError> {
    let mut command = program::command(config, "pg_waldump");
    command
        .arg(format!("--path={}", config.data_dir.join("pg_wal").display()))
        .arg(format!("--timeline={timeline}"))
        .arg(format!("--start={from}"));
    if to < Lsn(u64::MAX) {
        command.arg(format!("--end={to}"));
    }
    let path = config.bin_dir.join("pg_waldump");
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| program::not_started(&path, error))?;
    let (Some(printed), Some(mut said)) = (child.stdout.take(), child.stderr.take()) else {
        return Err(DataError::Unexpected("pg_waldump has no output".to_owned()));
    };
    let mut tally = Tally::default();
    let mut complaint = String::new();
    let reading = async {
        let mut lines = BufReader::new(printed).lines();
        while let Some(line) = lines.next_line().await? {
            tally.add(&line);
        }
        Ok(())
    };
    let read = tokio::try_join!(reading, said.read_to_string(&mut complaint));
    read.map_err(DataError::file(&path))?;
    let status = child.wait().await.map_err(DataError::file(&path))?;
    // Where the log ends there is no record any more, which it calls an error.
    let at_end = [
        "error in WAL record",
        "could not find a valid record",
        "could not find file",
    ];
    if !status.success() && !at_end.iter().any(|it| complaint.contains(it)) {
        return Err(DataError::Program {
            program: "pg_waldump".to_owned(),
            reason: program::last_words(&complaint).unwrap_or_else(|| status.to_string()),
        });
    }
    let mut relations: Vec<(String, u64)> = tally.relations.into_iter().collect();
    relations.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    relations.truncate(RELATIONS);
    Ok(Lost {
        timeline,
        from,
        to: tally.last.unwrap_or(from),
        records: tally.records,
        bytes: tally.bytes,
        commits: tally.commits,
        relations,
    })
}

#[derive(Default)]
struct Tally {
    records: u64,
    bytes: u64,
    commits: u64,
    last: Option<Lsn>,
    relations: BTreeMap<String, u64>,
}

impl Tally {
    /// `rmgr: Heap  len (rec/tot): 54/ 54, tx: 735, lsn: 0/0151C9F8, prev 0/…, desc: INSERT …, blkref #0: rel 1663/5/16384 blk 0`
    fn add(&mut self, line: &str) {
        let after = |mark: &str| line.split_once(mark).map(|(_, rest)| rest.trim_start());
        let word = |rest: &str| rest.split([',', ' ', '/']).next().unwrap_or_default().to_owned();
        let Some(sizes) = after("len (rec/tot):") else { return };
        self.records += 1;
        self.bytes += sizes
            .split_once('/')
            .and_then(|(_, total)| word(total.trim_start()).parse::<u64>().ok())
            .unwrap_or(0);
        self.last = after(", lsn: ")
            .and_then(|rest| rest.split(',').next()?.parse().ok())
            .or(self.last);
        if after("desc: ").is_some_and(|it| it.starts_with("COMMIT")) {
            self.commits += 1;
        }
        if let Some(relation) = after("blkref #0: rel ") {
            let relation = relation.split(' ').next().unwrap_or_default();
            *self.relations.entry(relation.to_owned()).or_default() += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const END: Lsn = Lsn(u64::MAX);

    #[test]
    fn lineages_part_where_the_first_of_them_left_the_last_common_timeline() {
        let old = [(1, END)];
        let new = [(1, Lsn(300)), (4, END)];
        let at = |timeline, lsn| {
            Some(Position {
                timeline,
                lsn: Lsn(lsn),
            })
        };
        assert_eq!(fork(&old, &new), at(1, 300));
        let other = [(1, Lsn(300)), (4, Lsn(500)), (6, END)];
        let own = [(1, Lsn(300)), (4, Lsn(400)), (5, END)];
        assert_eq!(fork(&own, &other), at(4, 400));
        assert_eq!(fork(&[(2, END)], &[(3, END)]), None);
        let lost = after(
            &own,
            Position {
                timeline: 4,
                lsn: Lsn(400),
            },
        );
        assert_eq!(lost, [(5, Lsn(400), END)]);
        let lost = after(
            &[(1, Lsn(300)), (4, Lsn(600)), (7, END)],
            Position {
                timeline: 4,
                lsn: Lsn(500),
            },
        );
        assert_eq!(lost, [(4, Lsn(500), Lsn(600)), (7, Lsn(600), END)]);
    }

    #[test]
    fn files_are_kept_from_the_fork_on() {
        let fork = Position {
            timeline: 4,
            lsn: Lsn(0x300_0100),
        };
        let is = |name: &str| is_after(name, 16 << 20, fork);
        assert!(!is("000000040000000000000002"));
        assert!(is("000000040000000000000003"));
        assert!(is("000000040000000100000000"));
        assert!(is("000000050000000000000001"));
        assert!(!is("000000010000000000000009"));
        assert!(!is("00000005.history"));
    }

    #[test]
    fn records_are_counted() {
        let mut tally = Tally::default();
        for line in [
            "rmgr: Heap        len (rec/tot):     54/   150, tx:        735, lsn: 0/0151C9F8, prev 0/0151C9C0, desc: INSERT off 5 flags 0x00, blkref #0: rel 1663/5/16384 blk 0 FPW",
            "rmgr: Transaction len (rec/tot):     34/    34, tx:        735, lsn: 0/0151CA90, prev 0/0151C9F8, desc: COMMIT 2026-01-01 00:00:00 UTC",
            "first record is after 0/0151C000, at 0/0151C9F8, skipping over 2552 bytes",
        ] {
            tally.add(line);
        }
        assert_eq!((tally.records, tally.bytes, tally.commits), (2, 184, 1));
        assert_eq!(tally.last, Some(Lsn(0x151_CA90)));
        assert_eq!(tally.relations.get("1663/5/16384"), Some(&1));
    }
}
