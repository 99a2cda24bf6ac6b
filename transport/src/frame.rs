//! Frames on the wire: a length of four bytes, big-endian, then that many bytes. Pure: bytes in, frames out.
//!
//! The decoder never allocates from an announced length. A length beyond the bound is an error at once, and
//! below it memory grows with what has really arrived. The encoder packs small frames together, so that a
//! burst of them costs one write; a large frame is written from where it lies.

use thiserror::Error;

/// How much is packed into one write, and how much is read at once, in bytes.
pub(crate) const CHUNK_BYTES: usize = 64 << 10;

/// The length in front of a frame, in bytes.
const HEADER_BYTES: usize = 4;

/// A peer announced a frame beyond our bound. Nothing was allocated for it.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("a frame of {bytes} bytes was announced, at most {bytes_max} are taken")]
pub(crate) struct Oversize {
    pub(crate) bytes: usize,
    pub(crate) bytes_max: usize,
}

/// Cuts a stream of bytes into frames.
#[derive(Debug)]
pub(crate) struct FrameDecoder {
    bytes_max: usize,
    header: [u8; HEADER_BYTES],
    header_filled: usize,
    /// The announced length, once the header is complete and within the bound.
    announced: Option<usize>,
    body: Vec<u8>,
}

impl FrameDecoder {
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self { bytes_max, header: [0; HEADER_BYTES], header_filled: 0, announced: None, body: Vec::new() }
    }

    /// Appends to `frames` what `chunk` completes. Frames before an error are delivered; after one, the
    /// stream has no meaning any more and must be dropped.
    pub(crate) fn decode(&mut self, mut chunk: &[u8], frames: &mut Vec<Vec<u8>>) -> Result<(), Oversize> {
        loop {
            let Some(bytes) = self.announced else {
                if !self.fill_header(&mut chunk)? {
                    return Ok(());
                }
                continue;
            };
            let missing = bytes - self.body.len();
            let (now, later) = chunk.split_at(missing.min(chunk.len()));
            self.grow(now.len(), bytes);
            self.body.extend_from_slice(now);
            chunk = later;
            if self.body.len() < bytes {
                return Ok(());
            }
            frames.push(std::mem::take(&mut self.body));
            self.announced = None;
            self.header_filled = 0;
        }
    }

    /// Whether the stream stands between two frames.
    pub(crate) fn is_at_boundary(&self) -> bool {
        self.header_filled == 0
    }

    /// Takes header bytes off the chunk; true once the header is complete.
    fn fill_header(&mut self, chunk: &mut &[u8]) -> Result<bool, Oversize> {
        let take = (HEADER_BYTES - self.header_filled).min(chunk.len());
        let (now, later) = chunk.split_at(take);
        self.header[self.header_filled..self.header_filled + take].copy_from_slice(now);
        self.header_filled += take;
        *chunk = later;
        if self.header_filled < HEADER_BYTES {
            return Ok(false);
        }
        let bytes = u32::from_be_bytes(self.header) as usize;
        if bytes > self.bytes_max {
            return Err(Oversize { bytes, bytes_max: self.bytes_max });
        }
        self.announced = Some(bytes);
        Ok(true)
    }

    /// Doubles as a `Vec` would, but never beyond the announced length: a complete frame has no slack, and an
    /// incomplete one holds at most twice what has arrived.
    fn grow(&mut self, more: usize, announced: usize) {
        let needed = self.body.len() + more;
        if needed > self.body.capacity() {
            let capacity = needed.max(2 * self.body.capacity()).min(announced);
            self.body.reserve_exact(capacity - self.body.len());
        }
    }
}

/// Packs frames for writing.
#[derive(Debug, Default)]
pub(crate) struct FrameEncoder {
    packed: Vec<u8>,
    /// A large frame, written after `packed`, which ends with its header.
    large: Vec<u8>,
    written: usize,
}

impl FrameEncoder {
    /// Whether the next frame has to wait until what is packed was written.
    pub(crate) fn is_full(&self) -> bool {
        self.packed.len() >= CHUNK_BYTES || !self.large.is_empty()
    }

    /// Packs one frame behind the others. Must not be called when full.
    pub(crate) fn push(&mut self, frame: Vec<u8>) {
        debug_assert!(!self.is_full(), "a full encoder takes nothing");
        let bytes = u32::try_from(frame.len()).expect("a frame is bounded by its lane, far below 4 GiB");
        self.packed.extend_from_slice(&bytes.to_be_bytes());
        if frame.len() < CHUNK_BYTES {
            self.packed.extend_from_slice(&frame);
        } else {
            self.large = frame;
        }
    }

    /// Packs one small frame that is made of two parts. Must not be called when full.
    pub(crate) fn push_parts(&mut self, head: &[u8], body: &[u8]) {
        debug_assert!(!self.is_full(), "a full encoder takes nothing");
        let bytes = u32::try_from(head.len() + body.len()).expect("a small frame, far below 4 GiB");
        for part in [&bytes.to_be_bytes(), head, body] {
            self.packed.extend_from_slice(part);
        }
    }

    /// What is to be written next; empty when all was.
    pub(crate) fn unwritten(&self) -> &[u8] {
        self.packed.get(self.written..).filter(|rest| !rest.is_empty()).unwrap_or_else(|| {
            let written = self.written - self.packed.len();
            &self.large[written..]
        })
    }

    /// Notes that the first `bytes` of [`FrameEncoder::unwritten`] were written.
    pub(crate) fn advance(&mut self, bytes: usize) {
        self.written += bytes;
        if self.written == self.packed.len() + self.large.len() {
            self.packed.clear();
            self.large = Vec::new();
            self.written = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn encode(frames: &[Vec<u8>]) -> Vec<u8> {
        let (mut encoder, mut wire) = (FrameEncoder::default(), Vec::new());
        for frame in frames {
            while encoder.is_full() {
                let bytes = encoder.unwritten().len();
                wire.extend_from_slice(encoder.unwritten());
                encoder.advance(bytes);
            }
            encoder.push(frame.clone());
        }
        while !encoder.unwritten().is_empty() {
            // In small steps, as a slow socket takes it.
            let bytes = encoder.unwritten().len().min(1000);
            wire.extend_from_slice(&encoder.unwritten()[..bytes]);
            encoder.advance(bytes);
        }
        wire
    }

    #[test]
    fn frame_has_these_bytes_on_the_wire() {
        assert_eq!(encode(&[b"ab".to_vec(), Vec::new()]), [0, 0, 0, 2, b'a', b'b', 0, 0, 0, 0]);
    }

    #[test]
    fn frame_at_the_bound_is_taken_and_one_past_it_is_refused() {
        let wire = encode(&[vec![1; 1000], vec![2; 1001]]);
        let (mut decoder, mut frames) = (FrameDecoder::new(1000), Vec::new());
        let refused = decoder.decode(&wire, &mut frames);
        assert_eq!(refused, Err(Oversize { bytes: 1001, bytes_max: 1000 }));
        assert_eq!(frames, [vec![1; 1000]]);
    }

    #[test]
    fn announced_length_allocates_nothing() {
        let (mut decoder, mut frames) = (FrameDecoder::new(1 << 30), Vec::new());
        decoder.decode(&(1_u32 << 30).to_be_bytes(), &mut frames).expect("within the bound");
        assert_eq!(decoder.body.capacity(), 0);
        decoder.decode(&[7; 100], &mut frames).expect("within the bound");
        assert!(decoder.body.capacity() <= 200, "{}", decoder.body.capacity());
        assert!(
            decoder.decode(&[0; 0], &mut frames).is_ok() && frames.is_empty() && !decoder.is_at_boundary()
        );
        assert!(FrameDecoder::new(1 << 30).decode(&[0xff; 4], &mut frames).is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn frames_survive_any_cut_of_the_stream(
            sizes in prop::collection::vec(prop_oneof![0_usize..300, 60_000_usize..140_000], 1..12),
            cuts in prop::collection::vec(1_usize..70_000, 1..40),
        ) {
            let frames: Vec<Vec<u8>> = sizes.iter().zip(0_u8..).map(|(size, byte)| vec![byte; *size]).collect();
            let wire = encode(&frames);
            let (mut decoder, mut decoded, mut rest) = (FrameDecoder::new(1 << 20), Vec::new(), &wire[..]);
            for cut in cuts.iter().cycle() {
                let (now, later) = rest.split_at((*cut).min(rest.len()));
                decoder.decode(now, &mut decoded).expect("all frames are within the bound");
                rest = later;
                if rest.is_empty() {
                    break;
                }
            }
            prop_assert!(decoder.is_at_boundary());
            prop_assert_eq!(decoded, frames);
        }
    }
}
