//! The replies that a client has not read yet.
//!
//! Replies are written as far as the socket takes them. A client that sends a long pipeline before it reads
//! anything must not be waited for, or both sides would wait; and one that reads must not be closed because a
//! burst of large replies was faster than the wire. So beyond [`RELIEVE_BYTES`] we wait as long as the client
//! makes progress, and go on without waiting once it does not; beyond the bound it is closed.

use std::io;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};

use super::budget::Charge;
use super::keys::too_long;
use super::metrics::ErrorCounts;
use super::reply::{Protocol, Reply};
use super::state::Shared;

/// With more unread than this, in bytes, a reading client is waited for.
pub(super) const RELIEVE_BYTES: usize = 1 << 20;

/// A client that reads nothing for this long is not waited for.
const PATIENCE: Duration = Duration::from_millis(200);

/// A buffer that was larger than this, in bytes, is given back when it is empty.
const KEPT_BYTES_MAX: usize = 64 << 10;

/// Why nothing more can be written to a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// It has more unread than one client may have.
    TooSlow,
    /// All clients together have more unread than they may have.
    AllTooSlow,
    /// It is gone.
    Gone,
}

#[derive(Debug)]
pub(super) struct Output<'a> {
    stream: &'a TcpStream,
    bytes: Vec<u8>,
    /// How many of the bytes are written.
    written: usize,
    bytes_max: usize,
    charge: Charge,
    errors: &'a ErrorCounts,
    is_stalled: bool,
    failure: Option<Failure>,
}

impl<'a> Output<'a> {
    pub(super) fn new(stream: &'a TcpStream, shared: &'a Shared) -> Self {
        Self {
            stream,
            bytes: Vec::new(),
            written: 0,
            bytes_max: shared.config.client_output_bytes_max,
            charge: Charge::new(&shared.output),
            errors: &shared.errors,
            is_stalled: false,
            failure: None,
        }
    }

    /// Why the client must be closed, if it must.
    pub(super) fn failure(&self) -> Option<Failure> {
        self.failure
    }

    /// The bound of what may be unread, in bytes.
    pub(super) fn bytes_max(&self) -> usize {
        self.bytes_max
    }

    /// How many bytes are not written yet.
    pub(super) fn len(&self) -> usize {
        self.bytes.len() - self.written
    }

    pub(super) fn push(&mut self, reply: &Reply, protocol: Protocol) {
        if self.failure.is_some() {
            return;
        }
        self.errors.told(reply);
        let before = self.bytes.len();
        reply.encode_into(protocol, &mut self.bytes);
        if self.bytes.len() - before > self.bytes_max {
            self.bytes.truncate(before);
            too_long(self.bytes_max).encode_into(protocol, &mut self.bytes);
        }
        if self.len() > self.bytes_max {
            self.fail(Failure::TooSlow);
        }
    }

    /// Closes a client that has lost messages because it did not read.
    pub(super) fn give_up(&mut self) {
        self.fail(Failure::TooSlow);
    }

    /// Waits for a client that has much unread, if it makes progress.
    pub(super) async fn relieve(&mut self) {
        while self.len() > RELIEVE_BYTES && self.failure.is_none() {
            self.write();
            if self.is_stalled {
                // What it asked for goes on being made, which may be much; others have their turn meanwhile.
                return tokio::task::yield_now().await;
            }
            if self.len() <= RELIEVE_BYTES {
                return;
            }
            if timeout(PATIENCE, self.stream.writable()).await.is_err() {
                self.is_stalled = true;
            }
        }
    }

    /// Writes what the socket takes now.
    pub(super) fn write(&mut self) {
        while self.len() > 0 && self.failure.is_none() {
            match self.stream.try_write(&self.bytes[self.written..]) {
                Ok(0) => self.fail(Failure::Gone),
                Ok(count) => {
                    self.written += count;
                    self.is_stalled = false;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(_) => self.fail(Failure::Gone),
            }
        }
        self.compact();
        if !self.charge.set(self.len()) {
            self.fail(Failure::AllTooSlow);
        }
    }

    /// Writes all that is left, if the client takes it in time.
    pub(super) async fn finish(&mut self, patience: Duration) {
        let deadline = Instant::now() + patience;
        self.write();
        while self.len() > 0 && self.failure.is_none() {
            if timeout_at(deadline, self.stream.writable()).await.is_err() {
                return;
            }
            self.write();
        }
    }

    /// Moves the unwritten bytes to the front once they are the smaller part, so each is moved once on average.
    fn compact(&mut self) {
        if self.len() == 0 {
            self.bytes.clear();
            self.bytes.shrink_to(KEPT_BYTES_MAX);
            self.written = 0;
        } else if self.written > self.bytes.len() / 2 {
            self.bytes.drain(..self.written);
            self.written = 0;
        }
    }

    fn fail(&mut self, failure: Failure) {
        self.failure = Some(failure);
        self.bytes = Vec::new();
        self.written = 0;
        self.charge.set(0);
    }
}
