//! Files of events, read to their end and then as they grow.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use ha_core::event::Event;
use jiff::Timestamp;

use crate::error::Failed;

/// One line of one file. What is no event (the end of a file on a full disk, somebody's edit) is shown as that:
/// it hides none of the others, and nobody takes a log with a hole for a whole one.
#[derive(Clone, Debug)]
pub(super) enum Line {
    Event(Event),
    Unreadable { file: PathBuf, line: u64, why: String },
}

/// Several files as one log. Each look gives what is new, the oldest first.
#[derive(Debug, Default)]
pub(super) struct Log {
    read: BTreeMap<PathBuf, Place>,
}

/// How far one file was read.
#[derive(Clone, Copy, Debug, Default)]
struct Place {
    /// Another file of the same name is read from its start.
    inode: u64,
    bytes: u64,
    lines: u64,
}

impl Log {
    /// What `files` hold beyond the last look. A file that is not there (any more) holds nothing. While `growing`, a
    /// line without its end is left for the next look: somebody may be about to write the rest.
    ///
    /// # Errors
    /// A file that is there and cannot be read.
    pub(super) fn look(&mut self, files: &[PathBuf], growing: bool) -> Result<Vec<Line>, Failed> {
        self.read.retain(|path, _| files.contains(path));
        let mut found: Vec<(Timestamp, Line)> = Vec::new();
        for file in files {
            let wrong = || Failed::io(format!("cannot read {}", file.display()));
            let place = self.read.entry(file.clone()).or_default();
            // What cannot be read happened after what stands before it.
            let mut last = Timestamp::MIN;
            for line in place.next(file, growing).map_err(wrong())? {
                if let Line::Event(event) = &line {
                    last = event.at;
                }
                found.push((last, line));
            }
        }
        // Stable: what happened in the same instant stays in the order of its file.
        found.sort_by_key(|(at, _)| *at);
        Ok(found.into_iter().map(|(_, line)| line).collect())
    }
}

impl Place {
    fn next(&mut self, path: &Path, growing: bool) -> io::Result<Vec<Line>> {
        let mut file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                *self = Self::default();
                return Ok(Vec::new());
            }
            Err(error) => return Err(error),
        };
        let meta = file.metadata()?;
        if meta.ino() != self.inode || meta.len() < self.bytes {
            *self = Self {
                inode: meta.ino(),
                ..Self::default()
            };
        }
        file.seek(SeekFrom::Start(self.bytes))?;
        let mut new = Vec::new();
        file.read_to_end(&mut new)?;
        let whole = match new.iter().rposition(|byte| *byte == b'\n') {
            _ if !growing => new.len(),
            Some(end) => end + 1,
            None => 0,
        };
        new.truncate(whole);
        self.bytes += u64::try_from(whole).unwrap_or(u64::MAX);
        let mut lines = Vec::new();
        for text in new.split_inclusive(|byte| *byte == b'\n') {
            self.lines += 1;
            if text.trim_ascii().is_empty() {
                continue;
            }
            lines.push(match serde_json::from_slice(text) {
                Ok(event) => Line::Event(event),
                Err(error) => Line::Unreadable {
                    file: path.to_owned(),
                    line: self.lines,
                    why: error.to_string(),
                },
            });
        }
        Ok(lines)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn event(second: i64, subject: &str) -> String {
        let at = Timestamp::from_second(second).expect("a moment");
        let event = Event {
            at,
            workspace: "shop".into(),
            region: None,
            source: "shell".into(),
            event: "provision.create".into(),
            subject: subject.into(),
            status: "done".into(),
            detail: None,
            error: None,
            who: None,
        };
        serde_json::to_string(&event).expect("json") + "\n"
    }

    fn append(path: &Path, text: &str) {
        let file = File::options().append(true).create(true).open(path);
        file.expect("a file").write_all(text.as_bytes()).expect("written");
    }

    fn subjects(lines: Vec<Line>) -> Vec<String> {
        let subject = |line| match line {
            Line::Event(event) => event.subject,
            Line::Unreadable { line, .. } => format!("line {line}"),
        };
        lines.into_iter().map(subject).collect()
    }

    #[test]
    fn files_are_one_log_by_time_and_a_bad_line_hides_no_other() {
        let folder = tempfile::tempdir().expect("a folder");
        let files = [
            folder.path().join("a"),
            folder.path().join("b"),
            folder.path().join("no"),
        ];
        append(&files[0], &(event(1, "one") + "{\"at\":\n" + &event(4, "four")));
        append(&files[1], &(event(2, "two") + &event(3, "three") + "cut o"));
        let lines = Log::default().look(&files, false).expect("read");
        assert_eq!(subjects(lines), ["one", "line 2", "two", "three", "line 3", "four"]);
    }

    #[test]
    fn what_is_appended_is_read_once_and_whole() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("a");
        let files = [file.clone()];
        let mut log = Log::default();
        let mut look = || subjects(log.look(&files, true).expect("read"));
        assert_eq!(look(), [""; 0]);
        append(&file, &event(1, "one"));
        let two = event(2, "two");
        let (begin, end) = two.split_at(10);
        append(&file, begin);
        assert_eq!(look(), ["one"]);
        append(&file, end);
        assert_eq!(look(), ["two"]);
        assert_eq!(look(), [""; 0]);
        // Destroyed and made again: another file.
        std::fs::remove_file(&file).expect("removed");
        assert_eq!(look(), [""; 0]);
        append(&file, &event(3, "three"));
        assert_eq!(look(), ["three"]);
    }
}
