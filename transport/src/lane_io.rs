//! The pump of one lane: bytes between its stream and the queues of the link.
//!
//! It is polled by the one task of its connection. Each poll moves a bounded amount and then yields, because
//! the multiplexer below runs only after it. The pump stops reading when the engine's queue is at its bound,
//! and the windows of the stream below then slow the peer down. It never waits for anything but its stream,
//! and never decides what an error means for the connection.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures::{AsyncRead, AsyncWrite, FutureExt};
use futures_timer::Delay;
use thiserror::Error;
use tidelock_engine::ports::SessionId;

use crate::frame::{FrameDecoder, FrameEncoder, Oversize};
use crate::lane::Lane;
use crate::link::Link;
use crate::talk::Misuse;

/// How much a lane may move per direction and poll, in bytes.
const POLL_BYTES_MAX: usize = 512 << 10;

/// Why a stream ended.
#[derive(Debug, Error)]
pub(crate) enum LaneError {
    #[error(transparent)]
    Oversize(#[from] Oversize),
    #[error("closed by the peer")]
    Closed,
    #[error("closed by the peer within a frame")]
    Truncated,
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error(transparent)]
    Misuse(#[from] Misuse),
    #[error("queued bytes made no progress for {0:?}")]
    Stalled(Duration),
}

/// What a pump works for.
pub(crate) struct Ends<'a> {
    pub(crate) link: &'a Arc<Link>,
    pub(crate) lane: Lane,
    pub(crate) stall_timeout: Duration,
    /// One read buffer per connection: an idle lane owns no memory.
    pub(crate) scratch: &'a mut [u8],
}

/// One stream, and what is between it and the queues.
#[derive(Debug)]
pub(crate) struct LaneIo<S> {
    stream: S,
    session: SessionId,
    since: Instant,
    decoder: FrameDecoder,
    encoder: FrameEncoder,
    frames: Vec<Vec<u8>>,
    is_unflushed: bool,
    is_write_closed: bool,
    /// Runs while bytes wait for the stream.
    stall: Option<Delay>,
    progressed: Instant,
}

impl<S: AsyncRead + AsyncWrite + Unpin> LaneIo<S> {
    pub(crate) fn new(stream: S, session: SessionId, frame_bytes_max: usize) -> Self {
        let now = Instant::now();
        Self {
            stream,
            session,
            since: now,
            decoder: FrameDecoder::new(frame_bytes_max),
            encoder: FrameEncoder::default(),
            frames: Vec::new(),
            is_unflushed: false,
            is_write_closed: false,
            stall: None,
            progressed: now,
        }
    }

    pub(crate) fn session(&self) -> SessionId {
        self.session
    }

    /// How long the stream has lived.
    pub(crate) fn age(&self) -> Duration {
        self.since.elapsed()
    }

    /// Moves what can be moved, both ways.
    pub(crate) fn pump(&mut self, ends: &mut Ends<'_>, cx: &mut Context<'_>) -> Result<(), LaneError> {
        self.write(ends, cx)?;
        self.read(ends, cx)
    }

    /// Writes what is queued, ends our half of the stream, and waits for the peer to end its half, which
    /// shows that it has read everything. What arrives meanwhile is dropped. An error ends it too.
    pub(crate) fn poll_finish(&mut self, ends: &mut Ends<'_>, cx: &mut Context<'_>) -> Poll<()> {
        if !self.is_write_closed {
            match self.write(ends, cx) {
                Err(_) => return Poll::Ready(()),
                Ok(()) if self.is_unflushed || !self.encoder.unwritten().is_empty() => return Poll::Pending,
                Ok(()) => {}
            }
            match Pin::new(&mut self.stream).poll_close(cx) {
                Poll::Ready(Ok(())) => self.is_write_closed = true,
                Poll::Ready(Err(_)) => return Poll::Ready(()),
                Poll::Pending => return Poll::Pending,
            }
        }
        loop {
            match Pin::new(&mut self.stream).poll_read(cx, ends.scratch) {
                Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(()),
                Poll::Ready(Ok(_)) => {}
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    fn write(&mut self, ends: &Ends<'_>, cx: &mut Context<'_>) -> Result<(), LaneError> {
        let mut budget = POLL_BYTES_MAX;
        loop {
            if self.encoder.unwritten().is_empty() {
                ends.link.pack(ends.lane, &mut self.encoder);
            }
            if self.encoder.unwritten().is_empty() {
                break;
            }
            if budget == 0 {
                cx.waker().wake_by_ref();
                return Ok(());
            }
            match Pin::new(&mut self.stream).poll_write(cx, self.encoder.unwritten()) {
                Poll::Ready(Ok(0)) => return Err(LaneError::Closed),
                Poll::Ready(Ok(bytes)) => {
                    self.encoder.advance(bytes);
                    self.is_unflushed = true;
                    self.progressed = Instant::now();
                    budget = budget.saturating_sub(bytes);
                    ends.link.note_written(bytes);
                }
                Poll::Ready(Err(error)) => return Err(error.into()),
                Poll::Pending => return self.watch_stall(ends.stall_timeout, cx),
            }
        }
        self.stall = None;
        if self.is_unflushed && Pin::new(&mut self.stream).poll_flush(cx)?.is_ready() {
            self.is_unflushed = false;
        }
        Ok(())
    }

    /// Bytes wait and the stream takes none. An error once that has lasted too long.
    fn watch_stall(&mut self, timeout: Duration, cx: &mut Context<'_>) -> Result<(), LaneError> {
        if self.stall.is_none() {
            self.progressed = Instant::now();
        }
        let stall = self.stall.get_or_insert_with(|| Delay::new(timeout));
        while stall.poll_unpin(cx).is_ready() {
            let left = timeout.saturating_sub(self.progressed.elapsed());
            if left.is_zero() {
                return Err(LaneError::Stalled(timeout));
            }
            stall.reset(left);
        }
        Ok(())
    }

    fn read(&mut self, ends: &mut Ends<'_>, cx: &mut Context<'_>) -> Result<(), LaneError> {
        let mut budget = POLL_BYTES_MAX;
        loop {
            // Checked before each read and not for each frame, so the queue can exceed its bound by the
            // frames of one read. In return no half of a read has to be kept.
            if ends.link.pauses(ends.lane) {
                return Ok(());
            }
            if budget == 0 {
                cx.waker().wake_by_ref();
                return Ok(());
            }
            match Pin::new(&mut self.stream).poll_read(cx, ends.scratch) {
                Poll::Ready(Ok(0)) if self.decoder.is_at_boundary() => return Err(LaneError::Closed),
                Poll::Ready(Ok(0)) => return Err(LaneError::Truncated),
                Poll::Ready(Ok(bytes)) => {
                    budget = budget.saturating_sub(bytes);
                    ends.link.note_read(bytes);
                    let result = self.decoder.decode(&ends.scratch[..bytes], &mut self.frames);
                    ends.link.deliver(ends.lane, self.session, &mut self.frames)?;
                    result?;
                }
                Poll::Ready(Err(error)) => return Err(error.into()),
                Poll::Pending => return Ok(()),
            }
        }
    }
}
