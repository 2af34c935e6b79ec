//! Timelines: their history files, and the placeholders that make PostgreSQL take the number that was given out.
//!
//! PostgreSQL takes the number after the last of an unbroken row of history files. A placeholder is such a file with
//! nothing but a comment in it: it takes a number and says that nothing came from it. Real ones name at least the
//! timeline they came from, and are never touched.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use ha_core::{agent::PostgresConfig, lsn::Lsn};

use super::{control::Control, follow::write_private, process::remove};
use crate::DataError;

pub(super) const PLACEHOLDER: &str =
    "# Written by ha-guard: this number was given out, and no log of this node came to have it.\n";
/// Epochs grow one by one; more than so many between two is a mistake.
const MOST: u32 = 10_000;

/// Where each earlier timeline ended on the way to `timeline`, oldest first; the last end is where `timeline` began.
/// An error when the folder does not know it. Timeline 1 comes from nowhere.
pub fn history(config: &PostgresConfig, timeline: u32) -> Result<Vec<(u32, Lsn)>, DataError> {
    history_in(&config.data_dir, timeline)
}

pub(super) fn history_in(dir: &Path, timeline: u32) -> Result<Vec<(u32, Lsn)>, DataError> {
    if timeline <= 1 {
        return Ok(Vec::new());
    }
    let path = file(dir, timeline);
    let text = fs::read_to_string(&path).map_err(DataError::file(&path))?;
    real_history(path, &text)
}

pub(super) fn real_history(path: PathBuf, text: &str) -> Result<Vec<(u32, Lsn)>, DataError> {
    read_history(text)
        .filter(|entries| !entries.is_empty())
        .ok_or_else(|| DataError::BadFile {
            path,
            reason: "does not say which timelines it came from".to_owned(),
        })
}

/// `1\t0/3000000\treason` a line; comments and empty lines may be between.
pub(super) fn read_history(text: &str) -> Option<Vec<(u32, Lsn)>> {
    let lines = text.lines().map(str::trim);
    lines
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(|line| {
            let mut words = line.split_whitespace();
            Some((words.next()?.parse().ok()?, words.next()?.parse().ok()?))
        })
        .collect()
}

/// The next promotion takes `wanted`, of a database that is on `own` now. Repeating it is harmless; a crash before
/// the promotion leaves placeholders that [`clear_placeholders`] removes before the next start.
pub fn reserve_timeline(config: &PostgresConfig, own: u32, wanted: u32) -> Result<(), DataError> {
    let dir = &config.data_dir;
    for number in in_the_way(dir, histories(dir)?, own, wanted)? {
        remove(&file(dir, number))?;
    }
    for number in own + 1..wanted {
        place(dir, number)?;
    }
    sync(&dir.join("pg_wal"))
}

/// Placeholders that must go before `wanted` can be taken; `found` is [`histories`].
pub(super) fn in_the_way(dir: &Path, found: Vec<(u32, bool)>, own: u32, wanted: u32) -> Result<Vec<u32>, DataError> {
    if wanted <= own || wanted - own > MOST {
        return Err(DataError::Unexpected(format!(
            "timeline {wanted} was given out to a database that is on timeline {own}"
        )));
    }
    let later: Vec<_> = found.into_iter().filter(|(number, _)| *number >= wanted).collect();
    match later.iter().find(|(_, real)| *real) {
        Some((number, _)) => Err(DataError::TimelineTaken {
            path: file(dir, *number),
            wanted,
        }),
        None => Ok(later.into_iter().map(|(number, _)| number).collect()),
    }
}

/// No placeholder above `own` is left: one that is keeps a standby "starting up" for ever. Answers with how many were
/// removed.
pub fn clear_placeholders(config: &PostgresConfig, own: u32) -> Result<usize, DataError> {
    clear_in(&config.data_dir, own)
}

fn clear_in(dir: &Path, own: u32) -> Result<usize, DataError> {
    let mut removed = 0;
    for (number, real) in histories(dir)? {
        if number > own && !real {
            remove(&file(dir, number))?;
            removed += 1;
        }
    }
    sync(&dir.join("pg_wal"))?;
    Ok(removed)
}

/// Each number below `own` has a history file. A copy brings only that of its own timeline, and replicas that follow
/// ask for all of them. Answers with how many were missing.
pub fn restore_placeholders(config: &PostgresConfig, own: u32) -> Result<usize, DataError> {
    restore_in(&config.data_dir, own)
}

fn restore_in(dir: &Path, own: u32) -> Result<usize, DataError> {
    let mut made = 0;
    for number in 2..own.min(MOST) {
        made += usize::from(place(dir, number)?);
    }
    sync(&dir.join("pg_wal"))?;
    Ok(made)
}

/// The history files of a stopped folder let it start as a standby and read all of its own log: no placeholder is
/// above its timelines, none is missing below, and no history is left of a timeline that it cannot come to be on.
/// (Replicas fetch histories *before* it turns out that they cannot follow; PostgreSQL then refuses to start. They
/// fetch them again when they can.) Answers with its highest timeline.
pub(super) fn tidy(dir: &Path, control: &Control) -> Result<u32, DataError> {
    let mut own = control.timeline.max(highest_log(dir)?);
    for (number, real) in histories(dir)? {
        if number <= control.timeline || !real {
            continue;
        }
        let entries = history_in(dir, number)?;
        let ended = entries.iter().find(|(it, _)| *it == control.timeline);
        let reaches = ended.is_some_and(|(_, end)| {
            let least = control
                .consistent_from
                .filter(|it| it.timeline == control.timeline)
                .map_or(Lsn(0), |it| it.lsn);
            *end > control.checkpoint && *end >= least
        });
        if reaches {
            own = own.max(number);
        } else {
            tracing::warn!(
                timeline = number,
                "the history of a timeline that this database is not on is removed"
            );
            remove(&file(dir, number))?;
        }
    }
    clear_in(dir, own)?;
    restore_in(dir, own)?;
    Ok(own)
}

/// The highest timeline among log files.
fn highest_log(dir: &Path) -> Result<u32, DataError> {
    let is_log = |name: &String| name.len() == 24 && name.bytes().all(|it| it.is_ascii_hexdigit());
    let logs = names(dir)?.into_iter().filter(is_log);
    Ok(logs
        .filter_map(|name| u32::from_str_radix(&name[..8], 16).ok())
        .max()
        .unwrap_or(0))
}

/// The numbers that have a history file, ascending, and whether it is a real one.
fn histories(dir: &Path) -> Result<Vec<(u32, bool)>, DataError> {
    let mut found = Vec::new();
    for name in names(dir)? {
        let Some(number) = number_of(&name) else {
            continue;
        };
        let path = file(dir, number);
        let text = fs::read_to_string(&path).map_err(DataError::file(&path))?;
        found.push((number, is_real(&text)));
    }
    found.sort_unstable();
    Ok(found)
}

/// Of a history file.
pub(super) fn number_of(name: &str) -> Option<u32> {
    let digits = name.strip_suffix(".history").filter(|digits| digits.len() == 8)?;
    u32::from_str_radix(digits, 16).ok()
}

/// One that cannot be read is not ours either.
pub(super) fn is_real(text: &str) -> bool {
    read_history(text).is_none_or(|entries| !entries.is_empty())
}

fn names(dir: &Path) -> Result<Vec<String>, DataError> {
    let wal = dir.join("pg_wal");
    let entries = fs::read_dir(&wal).map_err(DataError::file(&wal))?;
    Ok(entries
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect())
}

/// Whether it was missing.
fn place(dir: &Path, number: u32) -> Result<bool, DataError> {
    let path = file(dir, number);
    if path.exists() {
        return Ok(false);
    }
    write_private(&path, PLACEHOLDER)?;
    Ok(true)
}

pub(super) fn file(dir: &Path, timeline: u32) -> PathBuf {
    dir.join(format!("pg_wal/{timeline:08X}.history"))
}

/// What was made or removed in the folder stays so, also after a power cut.
pub(super) fn sync(dir: &Path) -> Result<(), DataError> {
    let synced = || -> io::Result<()> { fs::File::open(dir)?.sync_all() };
    synced().map_err(DataError::file(dir))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::postgres::{ClusterState, settings::tests::config};

    fn folder() -> (tempfile::TempDir, PostgresConfig) {
        let dir = tempfile::tempdir().expect("a folder");
        fs::create_dir(dir.path().join("pg_wal")).expect("made");
        let config = PostgresConfig {
            data_dir: dir.path().to_owned(),
            ..config()
        };
        (dir, config)
    }

    fn numbers(config: &PostgresConfig) -> Vec<(u32, bool)> {
        histories(&config.data_dir).expect("readable")
    }

    #[test]
    fn a_history_names_where_each_timeline_ended() {
        let text = "1\t0/3000148\tno recovery target specified\n\n# by hand\n2\t0/5000000\tbefore 2026-01-01\n";
        assert_eq!(
            read_history(text),
            Some(vec![(1, Lsn(0x300_0148)), (2, Lsn(0x500_0000))])
        );
        assert_eq!(read_history(""), Some(Vec::new()));
        assert_eq!(read_history(PLACEHOLDER), Some(Vec::new()));
        assert_eq!(read_history("one\t0/3000148"), None);
    }

    #[test]
    fn placeholders_fill_the_numbers_between_and_real_histories_stay() {
        let (_dir, config) = folder();
        reserve_timeline(&config, 1, 4).expect("reserved");
        reserve_timeline(&config, 1, 4).expect("again");
        assert_eq!(numbers(&config), [(2, false), (3, false)]);
        reserve_timeline(&config, 1, 3).expect("a lower one, when the first was never used");
        assert_eq!(numbers(&config), [(2, false)]);
        fs::write(file(&config.data_dir, 4), "1\t0/3000000\tpromoted\n").expect("written");
        assert_eq!(clear_placeholders(&config, 1).expect("cleared"), 1);
        assert_eq!(restore_placeholders(&config, 4).expect("restored"), 2);
        assert_eq!(numbers(&config), [(2, false), (3, false), (4, true)]);
        assert!(matches!(
            reserve_timeline(&config, 1, 4),
            Err(DataError::TimelineTaken { wanted: 4, .. })
        ));
        assert!(reserve_timeline(&config, 4, 4).is_err());
        assert_eq!(history(&config, 4).expect("known"), [(1, Lsn(0x300_0000))]);
        assert!(history(&config, 3).is_err());
        assert_eq!(history(&config, 1).expect("nowhere"), []);
    }

    #[test]
    fn a_start_keeps_what_the_database_may_come_to_be_on() {
        let (_dir, config) = folder();
        let control = Control {
            system_identifier: "7".into(),
            state: ClusterState::InProduction,
            checkpoint: Lsn(0x500_0000),
            redo: Lsn(0x500_0000),
            timeline: 1,
            consistent_from: None,
        };
        for (number, text) in [
            (2, PLACEHOLDER),
            (4, "1\t0/6000000\tx\n"),
            (5, PLACEHOLDER),
            (7, "1\t0/4000000\tx\n"),
            (8, PLACEHOLDER),
        ] {
            fs::write(file(&config.data_dir, number), text).expect("written");
        }
        assert_eq!(tidy(&config.data_dir, &control).expect("tidy"), 4);
        assert_eq!(numbers(&config), [(2, false), (3, false), (4, true)]);
    }
}
