//! What guard and deadman share: until when the database may go on as primary.
//!
//! A file of 32 bytes, written in place. The first 24 are the guard's, the others the deadman's; each side writes its
//! part with one call. Times are BOOTTIME, which means the same in both and goes on while the machine sleeps.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::{FileExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    time::Duration,
};

use super::boottime;

const MAGIC: u32 = 0x6861_0001;
const GUARDS: usize = 24;
const LENGTH: usize = 32;
const DEADMANS: u64 = 24;
/// A deadman that looked within this time is there; it looks several times in it.
const ALIVE: Duration = Duration::from_secs(1);

/// What the guard allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Allowed {
    /// BOOTTIME; none while there is nothing to fence.
    pub(crate) until: Option<Duration>,
    /// Whose life it is about, for the record.
    pub(crate) postmaster: i32,
}

#[derive(Debug)]
pub(crate) struct Deadline {
    file: File,
}

pub(crate) fn path(runtime_dir: &Path) -> PathBuf {
    runtime_dir.join("deadline")
}

impl Deadline {
    /// The file is there. What an earlier guard wrote stays: its database may still be running.
    pub(crate) fn open(runtime_dir: &Path) -> io::Result<Self> {
        fs::create_dir_all(runtime_dir)?;
        let file = open(&path(runtime_dir), true)?;
        if file.metadata()?.len() < LENGTH as u64 {
            file.set_len(LENGTH as u64)?;
        }
        Ok(Self { file })
    }

    /// The primary may go on for `time`; then it is ended, whether this guard lives or not.
    pub(crate) fn allow(&self, time: Duration, postmaster: i32) -> io::Result<()> {
        self.write(Allowed {
            until: Some(boottime().saturating_add(time)),
            postmaster,
        })
    }

    /// Nothing here must be ended: no primary runs, or none that a deadline is for.
    pub(crate) fn disarm(&self) -> io::Result<()> {
        self.write(Allowed {
            until: None,
            postmaster: 0,
        })
    }

    fn write(&self, allowed: Allowed) -> io::Result<()> {
        self.file.write_all_at(&encode(allowed), 0)
    }

    /// The process that watches the deadline, if it does.
    pub(crate) fn deadman(&self) -> Option<i32> {
        let mut bytes = [0; LENGTH - GUARDS];
        self.file.read_exact_at(&mut bytes, DEADMANS).ok()?;
        let [a, b, c, d, e, f, g, h] = bytes;
        let pid = i32::from_le_bytes([a, b, c, d]);
        let looked = Duration::from_millis(u64::from(u32::from_le_bytes([e, f, g, h])));
        let now = Duration::from_millis(u64::from(millis(boottime())));
        (pid > 0 && now.abs_diff(looked) < ALIVE).then_some(pid)
    }
}

/// The deadman's end of it.
#[derive(Debug)]
pub(crate) struct Watched {
    file: File,
}

impl Watched {
    /// None while there is no file: the guard has not allowed anything.
    pub(crate) fn open(runtime_dir: &Path) -> io::Result<Option<Self>> {
        match open(&path(runtime_dir), false) {
            Ok(file) => Ok(Some(Self { file })),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Whether the file that is open is still the one at that path.
    pub(crate) fn is_current(&self, runtime_dir: &Path) -> bool {
        use std::os::unix::fs::MetadataExt as _;
        let (Ok(open), Ok(there)) = (self.file.metadata(), fs::metadata(path(runtime_dir))) else {
            return false;
        };
        (open.dev(), open.ino()) == (there.dev(), there.ino())
    }

    /// None for what no guard wrote, or has not finished writing.
    pub(crate) fn read(&self) -> Option<Allowed> {
        let mut bytes = [0; GUARDS];
        self.file.read_exact_at(&mut bytes, 0).ok()?;
        decode(&bytes)
    }

    /// This process has looked.
    pub(crate) fn looked(&self, pid: u32) -> io::Result<()> {
        let mut bytes = [0; LENGTH - GUARDS];
        bytes[..4].copy_from_slice(&pid.to_le_bytes());
        bytes[4..].copy_from_slice(&millis(boottime()).to_le_bytes());
        self.file.write_all_at(&bytes, DEADMANS)
    }
}

fn open(path: &Path, create: bool) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(create)
        .truncate(false)
        .mode(0o600)
        .open(path)
}

/// Wraps around after 49 days, on both sides alike.
fn millis(time: Duration) -> u32 {
    (time.as_millis() & u128::from(u32::MAX)) as u32
}

fn encode(allowed: Allowed) -> [u8; GUARDS] {
    // Zero is "disarmed"; no machine has been up for nothing.
    let until = allowed
        .until
        .map_or(0, |it| u64::try_from(it.as_nanos()).unwrap_or(u64::MAX));
    let mut bytes = [0; GUARDS];
    bytes[..4].copy_from_slice(&MAGIC.to_le_bytes());
    bytes[8..16].copy_from_slice(&until.to_le_bytes());
    bytes[16..20].copy_from_slice(&allowed.postmaster.to_le_bytes());
    let sum = checksum(&bytes);
    bytes[4..8].copy_from_slice(&sum.to_le_bytes());
    bytes
}

fn decode(bytes: &[u8; GUARDS]) -> Option<Allowed> {
    let word = |at: usize| Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    let until = u64::from_le_bytes(bytes.get(8..16)?.try_into().ok()?);
    (word(0)? == MAGIC && word(4)? == checksum(bytes)).then_some(Allowed {
        until: (until != 0).then(|| Duration::from_nanos(until)),
        postmaster: word(16)?.cast_signed(),
    })
}

/// Of everything but itself: a record of which only a part was written is no record.
fn checksum(bytes: &[u8; GUARDS]) -> u32 {
    let counted = bytes.iter().enumerate().filter(|(at, _)| !(4..8).contains(at));
    counted.fold(0x811c_9dc5, |sum, (_, byte)| {
        (sum ^ u32::from(*byte)).wrapping_mul(0x0100_0193)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_deadman_reads_what_the_guard_allows() {
        let folder = tempfile::tempdir().expect("a folder");
        let runtime = folder.path().join("run");
        assert!(Watched::open(&runtime).expect("no error").is_none());
        let deadline = Deadline::open(&runtime).expect("made");
        let watched = Watched::open(&runtime).expect("no error").expect("there");
        assert_eq!(watched.read(), None);
        let before = boottime();
        deadline.allow(Duration::from_secs(5), 77).expect("written");
        let allowed = watched.read().expect("whole");
        assert_eq!(allowed.postmaster, 77);
        let until = allowed.until.expect("armed");
        assert!(until >= before + Duration::from_secs(5) && until < before + Duration::from_secs(6));
        deadline.disarm().expect("written");
        assert_eq!(watched.read().expect("whole").until, None);
        assert_eq!(fs::metadata(path(&runtime)).expect("there").len(), 32);
        // Another guard opens it and finds what was there.
        deadline.allow(Duration::from_secs(5), 78).expect("written");
        drop(deadline);
        Deadline::open(&runtime).expect("opened");
        assert_eq!(watched.read().expect("whole").postmaster, 78);
        assert!(watched.is_current(&runtime));
    }

    #[test]
    fn a_deadman_that_does_not_look_is_not_there() {
        let folder = tempfile::tempdir().expect("a folder");
        let deadline = Deadline::open(folder.path()).expect("made");
        assert_eq!(deadline.deadman(), None);
        let watched = Watched::open(folder.path()).expect("no error").expect("there");
        watched.looked(4242).expect("written");
        assert_eq!(deadline.deadman(), Some(4242));
        deadline.disarm().expect("written");
        assert_eq!(
            deadline.deadman(),
            Some(4242),
            "the guard does not write the deadman's part"
        );
    }

    #[test]
    fn half_a_record_is_none() {
        let allowed = Allowed {
            until: Some(Duration::from_secs(9)),
            postmaster: 7,
        };
        let whole = encode(allowed);
        assert_eq!(decode(&whole), Some(allowed));
        for at in 0..20 {
            let mut torn = whole;
            torn[at] ^= 0xff;
            assert_eq!(decode(&torn), None, "byte {at}");
        }
    }
}
