//! What jobs found out and later decisions need. The seal is on disk too: it holds for as long as the database's own
//! setting does, and that survives the guard.

use std::{
    collections::VecDeque,
    fs, io,
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use ha_core::{
    agreement::{Epoch, Need, Sealed, StepTook},
    decide::Barrier,
};

/// When this node's data was copied: one that needs it again each time has another problem.
#[derive(Debug, Default)]
pub(super) struct Copies(VecDeque<Instant>);

impl Copies {
    pub(super) const MOST: usize = 3;
    const WITHIN: Duration = Duration::from_secs(3600);

    /// Counts one more, unless there were too many already.
    pub(super) fn allow(&mut self, now: Instant) -> bool {
        self.0.retain(|at| now.duration_since(*at) < Self::WITHIN);
        let allowed = self.0.len() < Self::MOST;
        if allowed {
            self.0.push_back(now);
        }
        allowed
    }
}

#[derive(Debug, Default)]
struct Kept {
    sealed: Option<Sealed>,
    need: Option<Need>,
    barrier: Option<Barrier>,
    /// Of the epoch that is being made, in order.
    steps: Option<(Epoch, Vec<StepTook>)>,
    copies: Copies,
}

#[derive(Debug)]
pub(super) struct Memory {
    path: PathBuf,
    kept: Mutex<Kept>,
}

impl Memory {
    /// What a guard before this one kept beside the promise. A file that cannot be read is none: sealing again is
    /// harmless.
    pub(super) fn open(promise: &Path) -> Self {
        let path = promise.with_extension("sealed.json");
        let sealed = fs::read(&path).ok().and_then(|text| serde_json::from_slice(&text).ok());
        let kept = Kept {
            sealed,
            ..Kept::default()
        };
        Self {
            path,
            kept: Mutex::new(kept),
        }
    }

    pub(super) fn sealed(&self) -> Option<Sealed> {
        self.kept().sealed
    }

    /// On disk before it returns.
    pub(super) fn keep_sealed(&self, sealed: Sealed) -> io::Result<()> {
        let new = self.path.with_extension("new");
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&new)?;
        file.write_all(&serde_json::to_vec(&sealed)?)?;
        file.sync_all()?;
        fs::rename(&new, &self.path)?;
        self.kept().sealed = Some(sealed);
        Ok(())
    }

    /// It is about to follow, to be made primary, or to be rebuilt: said before that begins.
    pub(super) fn forget_sealed(&self) -> io::Result<()> {
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        self.kept().sealed = None;
        Ok(())
    }

    pub(super) fn need(&self) -> Option<Need> {
        self.kept().need.clone()
    }

    pub(super) fn set_need(&self, need: Option<Need>) {
        self.kept().need = need;
    }

    pub(super) fn barrier(&self) -> Option<Barrier> {
        self.kept().barrier.clone()
    }

    pub(super) fn set_barrier(&self, barrier: Option<Barrier>) {
        self.kept().barrier = barrier;
    }

    /// A step towards the primary of `epoch` is done; what is known of another epoch is forgotten.
    pub(super) fn step(&self, epoch: Epoch, step: &str, took: Duration) {
        let mut kept = self.kept();
        let step = StepTook {
            step: step.to_owned(),
            took,
        };
        match &mut kept.steps {
            Some((of, steps)) if *of == epoch => {
                // Repeated after a failure: the last one counts.
                steps.retain(|it| it.step != step.step);
                steps.push(step);
            }
            steps => *steps = Some((epoch, vec![step])),
        }
    }

    pub(super) fn steps(&self, epoch: Epoch) -> Vec<StepTook> {
        match &self.kept().steps {
            Some((of, steps)) if *of == epoch => steps.clone(),
            _ => Vec::new(),
        }
    }

    pub(super) fn may_copy(&self) -> bool {
        self.kept().copies.allow(Instant::now())
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use ha_core::lsn::{Lsn, Position};

    use super::*;

    #[test]
    fn a_seal_outlives_the_guard_until_it_is_broken() {
        let folder = tempfile::tempdir().expect("a folder");
        let promise = folder.path().join("promise.json");
        let sealed = Sealed {
            epoch: 4,
            position: Position {
                timeline: 3,
                lsn: Lsn(0x500),
            },
        };
        let memory = Memory::open(&promise);
        assert_eq!(memory.sealed(), None);
        memory.keep_sealed(sealed).expect("kept");
        assert_eq!(Memory::open(&promise).sealed(), Some(sealed));
        memory.forget_sealed().expect("forgotten");
        assert_eq!((memory.sealed(), Memory::open(&promise).sealed()), (None, None));
    }

    #[test]
    fn copies_are_bounded_within_the_hour() {
        let (mut copies, start) = (Copies::default(), Instant::now());
        assert!((0..3).all(|_| copies.allow(start)));
        assert!(!copies.allow(start + Copies::WITHIN / 2));
        assert!(copies.allow(start + Copies::WITHIN));
    }

    #[test]
    fn steps_are_those_of_one_epoch() {
        let folder = tempfile::tempdir().expect("a folder");
        let memory = Memory::open(&folder.path().join("promise.json"));
        memory.step(3, "seal", Duration::from_millis(9));
        memory.step(4, "seal", Duration::from_millis(1));
        memory.step(4, "promote", Duration::from_millis(2));
        memory.step(4, "seal", Duration::from_millis(3));
        let steps = memory.steps(4);
        let names: Vec<&str> = steps.iter().map(|it| it.step.as_str()).collect();
        assert_eq!(names, ["promote", "seal"]);
        assert!(memory.steps(3).is_empty());
    }
}
