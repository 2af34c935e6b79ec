//! One direction of one connection: what is read is stamped, waits, and is written.

use std::{
    collections::VecDeque,
    io,
    sync::{Arc, Mutex, PoisonError, atomic::Ordering},
};

use ha_core::unit::Links;
use tokio::{
    io::AsyncWriteExt,
    net::tcp::{OwnedReadHalf, OwnedWriteHalf},
    sync::{Notify, OwnedSemaphorePermit, Semaphore, watch},
    time::{Instant, sleep_until},
};

use super::links::{Condition, Counter, condition};

const PIECE: usize = 64 << 10;
/// What may be on its way in one direction of one connection; the sender waits beyond it.
const IN_FLIGHT: usize = 1 << 20;

/// The way of one direction.
#[derive(Clone)]
pub(super) struct Lane(Option<Between>);

#[derive(Clone)]
struct Between {
    from: String,
    to: String,
    links: watch::Receiver<Arc<Links>>,
    counter: Arc<Counter>,
}

impl Lane {
    /// Neither delayed nor cut, and not counted.
    pub(super) fn free() -> Self {
        Self(None)
    }

    pub(super) fn between(from: &str, to: &str, links: watch::Receiver<Arc<Links>>, counter: Arc<Counter>) -> Self {
        Self(Some(Between {
            from: from.to_owned(),
            to: to.to_owned(),
            links,
            counter,
        }))
    }

    pub(super) fn condition(&self) -> Condition {
        match &self.0 {
            Some(it) => condition(&it.links.borrow(), &it.from, &it.to),
            None => Condition::default(),
        }
    }

    /// Returns when what came at `arrived` has come through: the direction is not cut, and its delay has passed.
    /// A change of either counts at once, also for what is on its way.
    pub(super) async fn pass(&mut self, arrived: Instant) {
        let Some(it) = &mut self.0 else {
            return;
        };
        loop {
            let Condition { delay, cut } = condition(&it.links.borrow_and_update(), &it.from, &it.to);
            let due = arrived + delay;
            if !cut && due <= Instant::now() {
                return;
            }
            tokio::select! {
                () = sleep_until(due), if !cut => {}
                changed = it.links.changed() => if changed.is_err() {
                    // The relay is ending, and this connection with it.
                    std::future::pending::<()>().await;
                }
            }
        }
    }

    fn count(&self, bytes: usize) {
        if let Some(it) = &self.0 {
            it.counter.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        }
    }

    /// Counts a connection as open until the answer is dropped.
    pub(super) fn open(&self) -> impl Drop + Send + use<> {
        struct Open(Option<Arc<Counter>>);
        impl Drop for Open {
            fn drop(&mut self) {
                if let Some(counter) = &self.0 {
                    counter.connections.fetch_sub(1, Ordering::Relaxed);
                }
            }
        }
        let counter = self.0.as_ref().map(|it| it.counter.clone());
        if let Some(counter) = &counter {
            counter.connections.fetch_add(1, Ordering::Relaxed);
        }
        Open(counter)
    }
}

enum Freight {
    Data(Vec<u8>, OwnedSemaphorePermit),
    /// No more will come: FIN.
    End,
    /// The connection broke: RST.
    Broken,
}

/// What is on its way in one direction.
#[derive(Clone)]
pub(super) struct Queue {
    items: Arc<Mutex<VecDeque<(Instant, Freight)>>>,
    filled: Arc<Notify>,
    room: Arc<Semaphore>,
}

/// The connection is over in both directions.
pub(super) struct Broken;

impl Queue {
    pub(super) fn new() -> Self {
        Self {
            items: Arc::default(),
            filled: Arc::default(),
            room: Arc::new(Semaphore::new(IN_FLIGHT)),
        }
    }

    fn push(&self, freight: Freight) {
        self.items
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push_back((Instant::now(), freight));
        self.filled.notify_one();
    }

    async fn pop(&self) -> (Instant, Freight) {
        loop {
            if let Some(item) = self.items.lock().unwrap_or_else(PoisonError::into_inner).pop_front() {
                return item;
            }
            self.filled.notified().await;
        }
    }

    /// True when the sender ended and had said nothing.
    pub(super) fn ended_silent(&self) -> bool {
        let items = self.items.lock().unwrap_or_else(PoisonError::into_inner);
        items.front().is_some_and(|(_, it)| !matches!(it, Freight::Data(..)))
    }

    /// True when the sender ended, whatever it said before.
    pub(super) fn ended(&self) -> bool {
        let items = self.items.lock().unwrap_or_else(PoisonError::into_inner);
        items.back().is_some_and(|(_, it)| !matches!(it, Freight::Data(..)))
    }
}

/// Reads until the sender ends, and lets no more than [`IN_FLIGHT`] pile up. An idle connection holds no buffer.
pub(super) async fn load(socket: OwnedReadHalf, queue: Queue) {
    loop {
        let Ok(mut permit) = queue.room.clone().acquire_many_owned(PIECE as u32).await else {
            return;
        };
        let data = match read(&socket).await {
            Ok(data) => data,
            Err(_) => return queue.push(Freight::Broken),
        };
        if data.is_empty() {
            return queue.push(Freight::End);
        }
        // Room is held for what was read, not for what might have been.
        let unused = permit.split(PIECE.saturating_sub(data.len()));
        drop(unused);
        queue.push(Freight::Data(data, permit));
    }
}

async fn read(socket: &OwnedReadHalf) -> io::Result<Vec<u8>> {
    loop {
        socket.readable().await?;
        let mut data = Vec::with_capacity(PIECE);
        match socket.try_read_buf(&mut data) {
            Ok(_) => {
                data.shrink_to_fit();
                return Ok(data);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}

/// Writes what comes through `lane` until its end, which is passed on too. `back` is the other direction's queue:
/// a receiver that broke is news that travels with the answers.
pub(super) async fn unload(
    mut socket: OwnedWriteHalf,
    mut lane: Lane,
    queue: Queue,
    back: Queue,
) -> Result<(), Broken> {
    loop {
        let (arrived, freight) = queue.pop().await;
        lane.pass(arrived).await;
        match freight {
            Freight::Data(data, permit) => {
                if write(&socket, &mut lane, arrived, &data).await.is_err() {
                    back.push(Freight::Broken);
                    return Ok(());
                }
                lane.count(data.len());
                drop(permit);
            }
            Freight::End => {
                if socket.shutdown().await.is_err() {
                    back.push(Freight::Broken);
                }
                return Ok(());
            }
            Freight::Broken => return Err(Broken),
        }
    }
}

/// A receiver that is slow may be cut off in the middle of a piece.
async fn write(socket: &OwnedWriteHalf, lane: &mut Lane, arrived: Instant, mut data: &[u8]) -> io::Result<()> {
    while !data.is_empty() {
        socket.writable().await?;
        lane.pass(arrived).await;
        match socket.try_write(data) {
            Ok(written) => data = &data[written..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
