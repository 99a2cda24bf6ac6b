//! The talk of consensus with one peer: messages of three classes on one stream, the urgent ones first.
//!
//! A heartbeat that waits behind an entry of many megabytes costs an election. So messages are cut into pieces, and
//! before each piece the most urgent class that may send is chosen. What is written cannot be overtaken any more;
//! therefore each class has a *credit*, which the other side gives: no more than [`WINDOW_BYTES`] of it are on their
//! way at any time, in buffers of ours, of the system or of the network. The other side gives no more while its engine
//! does not take what came, so that a class stops alone, and its queue here drops what does not fit.
//!
//! The frames of the lane carry it, each with one byte in front that says what it is:
//!
//! | first byte | then |
//! |---|---|
//! | class | a piece of the class's message; the message goes on |
//! | `0x40` + class | four bytes, big-endian: so many more bytes of the class may be sent |
//! | `0x80` + class | the last piece of the class's message |
//!
//! A piece costs its bytes and 64. A new stream begins without credit, which both sides give at once; whoever refuses
//! the stream gives none. Pure: no stream, no clock.

use std::collections::VecDeque;
use std::sync::Arc;

use thiserror::Error;
use tidelock_engine::ports::MessageClass;

use crate::frame::FrameEncoder;
use crate::lane::{FRAME_COST_BYTES, LaneConfig};
use crate::status::{ClassFigures, Totals};

/// The longest piece of a message, in bytes. Shorter ones cost more frames; behind a longer one an urgent message waits
/// longer.
const PIECE_BYTES_MAX: usize = 32 << 10;

/// The longest frame of the talk, in bytes: a piece and the byte in front of it.
pub(crate) const FRAME_BYTES_MAX: usize = 1 + PIECE_BYTES_MAX;

/// How much of one class may be on its way, in bytes. At 50 ms there and back it allows 10 MB/s; over 10 Mbit/s a
/// heartbeat waits 0.9 s at most for the two others, which is well within the time of an election there.
pub(crate) const WINDOW_BYTES: usize = 512 << 10;

/// The least that is given at once, in bytes. What a side may still send when nothing is owed to it is then always
/// enough for a whole piece.
const CREDIT_BYTES_MIN: usize = WINDOW_BYTES / 2;

const CREDIT: u8 = 0x40;
const LAST: u8 = 0x80;

/// What a peer sent that nobody who keeps to the rules sends. The stream ends.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub(crate) enum Misuse {
    #[error("a frame of the talk that means nothing")]
    Malformed,
    #[error("more was told than there was credit for")]
    Overrun,
    #[error("a message of more than {0} bytes was told")]
    TooLong(usize),
}

/// Both directions of one talk.
#[derive(Debug)]
pub(crate) struct Talk {
    limits: LaneConfig,
    totals: Arc<Totals>,
    outgoing: [Outgoing; 3],
    incoming: [Incoming; 3],
}

#[derive(Debug, Default)]
struct Outgoing {
    messages: VecDeque<Vec<u8>>,
    bytes: usize,
    /// How much of the first message was sent.
    sent: usize,
    credit: usize,
}

#[derive(Debug, Default)]
struct Incoming {
    /// The pieces of a message so far.
    begun: Vec<u8>,
    /// What the peer may still send.
    credit: usize,
    /// What came and was not given back yet as credit.
    owed: usize,
    /// What waits to be taken by the engine. It outlives the stream.
    waiting: usize,
}

impl Outgoing {
    /// The length of the piece that can be sent now.
    fn next_piece(&self) -> Option<usize> {
        let bytes = (self.messages.front()?.len() - self.sent).min(PIECE_BYTES_MAX);
        (self.credit >= bytes + FRAME_COST_BYTES).then_some(bytes)
    }
}

impl Incoming {
    fn owes(&self, waiting_max: usize) -> bool {
        self.owed >= CREDIT_BYTES_MIN && self.waiting < waiting_max
    }
}

impl Talk {
    pub(crate) fn new(limits: LaneConfig, totals: Arc<Totals>) -> Self {
        Self { limits, totals, outgoing: Default::default(), incoming: Default::default() }
    }

    /// A stream is there: the peer is given its first credit.
    pub(crate) fn begin(&mut self) {
        self.end();
        self.incoming.iter_mut().for_each(|incoming| incoming.owed = WINDOW_BYTES);
    }

    /// The stream is gone, and with it all that was to be sent.
    pub(crate) fn end(&mut self) {
        for (class, outgoing) in MessageClass::ALL.into_iter().zip(&mut self.outgoing) {
            self.totals.lose(class, outgoing.messages.len());
            *outgoing = Outgoing::default();
        }
        for incoming in &mut self.incoming {
            *incoming = Incoming { waiting: incoming.waiting, ..Incoming::default() };
        }
    }

    /// Queues a message, or gives it back if there is no room for it.
    pub(crate) fn tell(&mut self, class: MessageClass, message: Vec<u8>) -> Result<(), Vec<u8>> {
        let (outgoing, cost) = (&mut self.outgoing[class.index()], message.len() + FRAME_COST_BYTES);
        if message.len() > self.limits.frame_bytes_max || outgoing.bytes + cost > self.limits.out_bytes_max {
            return Err(message);
        }
        outgoing.bytes += cost;
        outgoing.messages.push_back(message);
        Ok(())
    }

    /// What waits to be sent, in bytes.
    pub(crate) fn queued_bytes(&self) -> usize {
        self.outgoing.iter().map(|outgoing| outgoing.bytes).sum()
    }

    /// Whether there is something that may be sent now.
    pub(crate) fn can_pack(&self) -> bool {
        let max = self.limits.in_bytes_max;
        self.incoming.iter().any(|incoming| incoming.owes(max))
            || self.outgoing.iter().any(|outgoing| outgoing.next_piece().is_some())
    }

    /// Moves what may be sent into the encoder until it is full; answers the number of frames. Credit goes first, it is
    /// a few bytes and another side waits for it.
    pub(crate) fn pack(&mut self, encoder: &mut FrameEncoder) -> u64 {
        let mut frames = 0;
        while !encoder.is_full() && (self.pack_credit(encoder) || self.pack_piece(encoder)) {
            frames += 1;
        }
        frames
    }

    fn pack_credit(&mut self, encoder: &mut FrameEncoder) -> bool {
        let max = self.limits.in_bytes_max;
        let mut classes = MessageClass::ALL.into_iter().zip(&mut self.incoming);
        let Some((class, incoming)) = classes.find(|(_, incoming)| incoming.owes(max)) else { return false };
        let bytes = u32::try_from(incoming.owed).expect("no more is owed than a window");
        incoming.credit += incoming.owed;
        incoming.owed = 0;
        encoder.push_parts(&[CREDIT | byte(class)], &bytes.to_be_bytes());
        true
    }

    fn pack_piece(&mut self, encoder: &mut FrameEncoder) -> bool {
        let mut classes = MessageClass::ALL.into_iter().zip(&mut self.outgoing);
        let next = classes.find_map(|(class, outgoing)| Some((class, outgoing.next_piece()?, outgoing)));
        let Some((class, bytes, outgoing)) = next else { return false };
        let message = &outgoing.messages[0];
        let (from, until) = (outgoing.sent, outgoing.sent + bytes);
        let is_last = until == message.len();
        let head = if is_last { LAST | byte(class) } else { byte(class) };
        encoder.push_parts(&[head], &message[from..until]);
        outgoing.credit -= bytes + FRAME_COST_BYTES;
        outgoing.sent = until;
        if is_last {
            outgoing.bytes -= message.len() + FRAME_COST_BYTES;
            outgoing.messages.pop_front();
            outgoing.sent = 0;
        }
        self.totals.change(|figures| {
            let ClassFigures { messages_sent, bytes_sent, .. } = figures.of_mut(class);
            *messages_sent += u64::from(is_last);
            *bytes_sent += bytes as u64;
        });
        true
    }

    /// Takes in a frame of the peer; answers the message that it completes.
    pub(crate) fn hear(&mut self, frame: &[u8]) -> Result<Option<(MessageClass, Vec<u8>)>, Misuse> {
        let (head, body) = frame.split_first().ok_or(Misuse::Malformed)?;
        let class = *MessageClass::ALL.get(usize::from(*head & !(CREDIT | LAST))).ok_or(Misuse::Malformed)?;
        match *head & (CREDIT | LAST) {
            CREDIT => {
                let bytes = u32::from_be_bytes(body.try_into().map_err(|_| Misuse::Malformed)?);
                // It bounds what we send. A peer that gives more than a window can only have more sent to it.
                let credit = &mut self.outgoing[class.index()].credit;
                *credit = credit.saturating_add(bytes as usize);
                Ok(None)
            }
            kind @ (0 | LAST) => {
                Ok(self.hear_piece(class, body, kind == LAST)?.map(|message| (class, message)))
            }
            _ => Err(Misuse::Malformed),
        }
    }

    fn hear_piece(
        &mut self,
        class: MessageClass,
        body: &[u8],
        is_last: bool,
    ) -> Result<Option<Vec<u8>>, Misuse> {
        let incoming = &mut self.incoming[class.index()];
        let cost = body.len() + FRAME_COST_BYTES;
        incoming.credit = incoming.credit.checked_sub(cost).ok_or(Misuse::Overrun)?;
        incoming.owed += cost;
        if incoming.begun.len() + body.len() > self.limits.frame_bytes_max {
            return Err(Misuse::TooLong(self.limits.frame_bytes_max));
        }
        incoming.begun.extend_from_slice(body);
        self.totals.change(|figures| {
            let ClassFigures { messages_received, bytes_received, .. } = figures.of_mut(class);
            *messages_received += u64::from(is_last);
            *bytes_received += body.len() as u64;
        });
        if !is_last {
            return Ok(None);
        }
        let message = std::mem::take(&mut incoming.begun);
        incoming.waiting += message.len() + FRAME_COST_BYTES;
        Ok(Some(message))
    }

    /// The engine has taken a message of so many bytes.
    pub(crate) fn taken(&mut self, class: MessageClass, bytes: usize) {
        self.incoming[class.index()].waiting -= bytes + FRAME_COST_BYTES;
    }
}

fn byte(class: MessageClass) -> u8 {
    match class {
        MessageClass::Heartbeat => 0,
        MessageClass::Append => 1,
        MessageClass::Snapshot => 2,
    }
}

#[cfg(test)]
mod tests {
    use MessageClass::{Append, Heartbeat, Snapshot};
    use proptest::prelude::*;

    use super::*;
    use crate::frame::FrameDecoder;
    use crate::lane::Lane;

    /// One side and what it heard. The bytes on their way to the other side are the test's.
    struct Side {
        talk: Talk,
        totals: Arc<Totals>,
        decoder: FrameDecoder,
        heard: Vec<(MessageClass, Vec<u8>)>,
    }

    impl Side {
        fn new() -> Self {
            let totals = Arc::new(Totals::default());
            let mut talk = Talk::new(LaneConfig::new(Lane::Raft), Arc::clone(&totals));
            talk.begin();
            Self { talk, totals, decoder: FrameDecoder::new(FRAME_BYTES_MAX), heard: Vec::new() }
        }

        fn tell(&mut self, class: MessageClass, message: Vec<u8>) {
            self.talk.tell(class, message).expect("there is room for it");
        }

        /// As much as the encoder takes at once.
        fn write(&mut self) -> Vec<u8> {
            let (mut encoder, mut wire) = (FrameEncoder::default(), Vec::new());
            self.talk.pack(&mut encoder);
            while !encoder.unwritten().is_empty() {
                wire.extend_from_slice(encoder.unwritten());
                encoder.advance(encoder.unwritten().len());
            }
            wire
        }

        fn read(&mut self, bytes: &[u8]) -> Result<(), Misuse> {
            let mut frames = Vec::new();
            self.decoder.decode(bytes, &mut frames).expect("within the bound");
            for frame in frames {
                self.heard.extend(self.talk.hear(&frame)?);
            }
            Ok(())
        }

        fn take(&mut self) -> Vec<(MessageClass, Vec<u8>)> {
            let heard = std::mem::take(&mut self.heard);
            heard.iter().for_each(|(class, message)| self.talk.taken(*class, message.len()));
            heard
        }

        fn on_way(&self, other: &Self, class: MessageClass) -> u64 {
            self.totals.figures().of(class).bytes_sent - other.totals.figures().of(class).bytes_received
        }
    }

    /// Two sides that gave each other their first credit.
    fn introduced() -> (Side, Side) {
        let (mut a, mut b) = (Side::new(), Side::new());
        let (to_b, to_a) = (a.write(), b.write());
        b.read(&to_b).expect("credit");
        a.read(&to_a).expect("credit");
        (a, b)
    }

    fn settle(a: &mut Side, b: &mut Side) {
        loop {
            let (to_b, to_a) = (a.write(), b.write());
            if to_a.is_empty() && to_b.is_empty() {
                return;
            }
            b.read(&to_b).expect("by the rules");
            a.read(&to_a).expect("by the rules");
        }
    }

    #[test]
    fn talk_has_these_bytes_on_the_wire() {
        let (mut a, mut b) = (Side::new(), Side::new());
        let credit = |class: u8| [&[0, 0, 0, 5, 0x40 + class][..], &[0, 8, 0, 0]].concat();
        a.tell(Heartbeat, b"no".to_vec());
        assert_eq!(a.write(), [credit(0), credit(1), credit(2)].concat());
        a.read(&b.write()).expect("credit");
        a.tell(Append, vec![7; PIECE_BYTES_MAX + 1]);
        let (heartbeat, piece) = ([0, 0, 0, 3, 0x80, b'n', b'o'], [0, 0, 0x80, 1, 1, 7]);
        let wire = a.write();
        assert_eq!(wire[..7], heartbeat);
        assert_eq!(wire[7..13], piece);
        assert_eq!(wire[wire.len() - 6..], [0, 0, 0, 2, 0x81, 7]);
    }

    #[test]
    fn heartbeat_waits_for_one_window_of_each_other_class_at_most() {
        let (mut a, mut b) = introduced();
        a.tell(Append, vec![1; 16 << 20]);
        a.tell(Snapshot, vec![2; 16 << 20]);
        // Nothing arrives. What is written is bounded, and a heartbeat is written still.
        let mut wire = Vec::new();
        while a.talk.can_pack() {
            wire.extend(a.write());
        }
        assert!(wire.len() > WINDOW_BYTES && wire.len() < 2 * WINDOW_BYTES, "{}", wire.len());
        a.tell(Heartbeat, vec![3]);
        wire.extend(a.write());
        b.read(&wire).expect("by the rules");
        assert_eq!(b.take(), [(Heartbeat, vec![3])]);
        // Then each round trip brings a window, and a heartbeat comes in every one of them.
        let mut round_trips = 0_u8;
        while b.heard.is_empty() {
            let before = b.totals.figures().append.bytes_received;
            a.read(&b.write()).expect("credit");
            a.tell(Heartbeat, vec![round_trips]);
            while a.talk.can_pack() {
                let wire = a.write();
                b.read(&wire).expect("by the rules");
            }
            assert_eq!(b.heard.remove(0), (Heartbeat, vec![round_trips]));
            b.talk.taken(Heartbeat, 1);
            assert!(b.totals.figures().append.bytes_received - before <= WINDOW_BYTES as u64);
            round_trips += 1;
        }
        assert!(round_trips >= 31, "{round_trips}");
        settle(&mut a, &mut b);
        assert_eq!(b.take(), [(Append, vec![1; 16 << 20]), (Snapshot, vec![2; 16 << 20])]);
    }

    #[test]
    fn class_that_is_not_taken_stops_alone() {
        let (mut a, mut b) = introduced();
        let limits = LaneConfig::new(Lane::Raft);
        let (mut told, message) = (0, vec![1; 1 << 20]);
        while a.talk.tell(Append, message.clone()).is_ok() {
            told += 1;
            settle(&mut a, &mut b);
        }
        let waiting = b.heard.len() * (message.len() + FRAME_COST_BYTES);
        assert!(
            waiting >= limits.in_bytes_max && waiting <= limits.in_bytes_max + message.len() + WINDOW_BYTES
        );
        assert!(a.talk.queued_bytes() <= limits.out_bytes_max);
        a.tell(Heartbeat, vec![2]);
        a.tell(Snapshot, vec![3]);
        settle(&mut a, &mut b);
        assert_eq!(b.heard.split_off(b.heard.len() - 2), [(Heartbeat, vec![2]), (Snapshot, vec![3])]);
        let mut taken = 0;
        while taken < told {
            taken += b.take().len();
            settle(&mut a, &mut b);
        }
        assert_eq!((taken, b.heard.len(), a.talk.queued_bytes()), (told, 0, 0));
    }

    #[test]
    fn end_of_a_stream_loses_what_was_queued_and_counts_it() {
        let (mut a, mut b) = introduced();
        (0..3).for_each(|_| a.tell(Append, vec![1; WINDOW_BYTES]));
        let wire = a.write();
        b.read(&wire).expect("by the rules");
        for side in [&mut a, &mut b] {
            side.talk.begin();
            side.decoder = FrameDecoder::new(FRAME_BYTES_MAX);
        }
        assert_eq!(a.totals.figures().append.messages_lost, 3);
        a.tell(Append, vec![2]);
        settle(&mut a, &mut b);
        assert_eq!(b.take(), [(Append, vec![2])], "nothing is left of what was half sent");
    }

    #[test]
    fn peers_that_break_the_rules_are_found_out() {
        let (_, mut b) = introduced();
        for frame in [&[][..], &[3], &[0x83], &[0xc0], &[0x40, 0, 0, 1], &[0x41, 0, 0, 0, 0, 1]] {
            assert_eq!(b.talk.hear(frame), Err(Misuse::Malformed), "{frame:?}");
        }
        let mut empty = 0;
        while b.talk.hear(&[0x80]).is_ok() {
            empty += 1;
        }
        assert_eq!(empty, WINDOW_BYTES / FRAME_COST_BYTES, "empty messages cost credit too");
        assert_eq!(b.talk.hear(&[0x80]), Err(Misuse::Overrun));
        let mut last = Ok(None);
        while last == Ok(None) {
            last = b.talk.hear(&[vec![2], vec![0; PIECE_BYTES_MAX]].concat());
            b.write();
        }
        let bytes_max = LaneConfig::new(Lane::Raft).frame_bytes_max;
        assert_eq!(last, Err(Misuse::TooLong(bytes_max)));
        assert_eq!(Side::new().talk.hear(&[0x80, 1]), Err(Misuse::Overrun), "no credit was given yet");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Messages of any size and class, told, written, read and taken at any time: each class arrives in its order,
        /// nothing is lost, no more than a window of a class is on its way, and it never comes to a stop.
        #[test]
        fn every_class_arrives_in_order_within_its_window(
            steps in prop::collection::vec((0_usize..7, 0_usize..3, 0_usize..400_000), 1..120),
        ) {
            let (mut a, mut b) = introduced();
            let (mut told, mut heard) = (Vec::new(), Vec::new());
            let (mut to_b, mut to_a) = (Vec::new(), Vec::new());
            for (step, class, number) in steps {
                match step {
                    0 | 1 => {
                        let class = MessageClass::ALL[class];
                        let message = vec![u8::try_from(told.len()).expect("few"); number % (1 << (number % 20))];
                        a.tell(class, message.clone());
                        told.push((class, message));
                    }
                    2 => to_b.extend(a.write()),
                    3 => to_a.extend(b.write()),
                    4 => {
                        let rest = to_b.split_off(number.min(to_b.len()));
                        b.read(&std::mem::replace(&mut to_b, rest)).expect("by the rules");
                    }
                    5 => {
                        let rest = to_a.split_off(number.min(to_a.len()));
                        a.read(&std::mem::replace(&mut to_a, rest)).expect("by the rules");
                    }
                    _ => heard.extend(b.take()),
                }
                for class in MessageClass::ALL {
                    prop_assert!(a.on_way(&b, class) <= WINDOW_BYTES as u64);
                }
            }
            b.read(&to_b).expect("by the rules");
            a.read(&to_a).expect("by the rules");
            while heard.len() < told.len() {
                let before = heard.len();
                settle(&mut a, &mut b);
                heard.extend(b.take());
                prop_assert!(heard.len() > before, "it came to a stop");
            }
            for class in MessageClass::ALL {
                let of = |all: &[(MessageClass, Vec<u8>)]| -> Vec<Vec<u8>> {
                    all.iter().filter(|(of, _)| *of == class).map(|(_, message)| message.clone()).collect()
                };
                prop_assert_eq!(of(&told), of(&heard));
            }
        }
    }
}
