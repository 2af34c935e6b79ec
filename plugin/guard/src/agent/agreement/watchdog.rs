//! Level 4 of protocol §9: a device of the kernel that resets the machine when nobody feeds it.
//!
//! How long it waits is the device's setting (`modprobe softdog soft_margin=8`) and must be no more than
//! `timing.watchdog`; setting it from here would need a call that this program does not make.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write as _},
    path::PathBuf,
};

/// Closing a device after this byte ends it without a reset, if the driver allows that at all.
const MAGIC_CLOSE: &[u8] = b"V";
const KEEP_ALIVE: &[u8] = b".";

#[derive(Debug)]
pub(super) struct Watchdog {
    path: PathBuf,
    /// Opening it is what arms it.
    armed: Option<File>,
}

impl Watchdog {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, armed: None }
    }

    /// Armed, and its time begins anew. After an error it may be armed; only [`Self::release`] ends it.
    pub(super) fn feed(&mut self) -> io::Result<()> {
        let device = match &mut self.armed {
            Some(device) => device,
            none => none.insert(OpenOptions::new().write(true).open(&self.path)?),
        };
        device.write_all(KEEP_ALIVE)
    }

    /// It resets nothing any more. Dropping a watchdog without this leaves it armed, as it should: a guard that ends in
    /// any other way is what it is there for.
    pub(super) fn release(&mut self) -> io::Result<()> {
        match self.armed.take() {
            Some(mut device) => device.write_all(MAGIC_CLOSE),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A plain file stands in for the device: it shows what a driver would have seen.
    #[test]
    fn it_is_fed_while_armed_and_closed_with_the_byte_that_ends_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("watchdog");
        std::fs::write(&path, "").expect("written");
        let mut watchdog = Watchdog::new(path.clone());
        watchdog.release().expect("not armed: nothing");
        assert_eq!(std::fs::read(&path).expect("read"), b"");
        watchdog.feed().expect("armed");
        watchdog.feed().expect("fed");
        watchdog.release().expect("closed");
        assert_eq!(std::fs::read(&path).expect("read"), b"..V");
        drop(watchdog);
        let mut missing = Watchdog::new(folder.path().join("none"));
        assert!(missing.feed().is_err());
    }
}
