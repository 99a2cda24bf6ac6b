//! Random bytes for every decoder: nothing panics, and what is taken in leaves the replica sound.
//!
//! Frames are mutated and then signed again, messages are mutated and sent, so that the deep code is reached.
//! More: `SEEDS=1000000 cargo nextest run -p tidelock-engine --test decoders`.

mod world;

use tidelock_engine::frame::Frame;
use tidelock_engine::id::AuthorCard;
use tidelock_engine::message::{FrameBytes, HeadEntry, Message, PeerRecord, WantEntry};
use tidelock_engine::ports::{SessionId, TransportEvent};
use tidelock_engine::replica::Input;
use tidelock_engine::row::{Kind, Payload};
use tidelock_engine::write::Write;
use world::by_hand::{COURIER, Station, card, courier_key, key};
use world::forge::sign;
use world::random::Random;
use world::words::{add, delete, increment, put, remove, set};
use world::{NOTES, check_derived, keyspace_id, named};

fn seeds(default: u64) -> u64 {
    std::env::var("SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// Changes some bytes: flips, numbers at their limits, cuts, repeats.
fn mutate(random: &mut Random, bytes: &mut Vec<u8>) {
    for _ in 0..=random.below(3) {
        if bytes.is_empty() {
            return;
        }
        let at = random.below(bytes.len());
        match random.below(6) {
            0 => bytes[at] ^= 1 << random.below(8),
            1 => bytes[at] = [0, 1, 0x7f, 0x80, 0xff][random.below(5)],
            2 => bytes.truncate(at),
            3 => drop(bytes.remove(at)),
            4 => {
                let extreme = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
                bytes.splice(at..at, extreme[..=random.below(10)].iter().copied());
            }
            _ => {
                let end = (at + 1 + random.below(8)).min(bytes.len());
                let piece = bytes[at..end].to_vec();
                bytes.splice(at..at, piece);
            }
        }
    }
}

/// Frames of station 1 that depend on station 2, with every operation in them.
fn sample_frames() -> (Vec<Frame>, Vec<Frame>) {
    let (mut b, mut c) = (Station::new(1, 3), Station::new(2, 3));
    let mut base = Vec::new();
    for write in [set("k", "1"), increment("n", 5), add("s", "x"), put("m", "f", "v")] {
        base.extend(c.write(write));
    }
    b.pull(&c, 9);
    b.new_frames();
    let frames = [
        b.batch(vec![set("n", "3"), increment("n", 2), add("s", "x"), put("m", "f", "w")]),
        b.batch(vec![remove("s", "x"), delete("m"), increment("n", 1)]),
        b.batch(vec![delete("n"), Write::Clear, set("k", "2")]),
    ];
    (base, frames.concat())
}

#[test]
fn mutated_frames_never_harm() {
    let (base, frames) = sample_frames();
    let mut random = Random::new(7);
    let (mut decoded, mut applied) = (0, 0);
    for _ in 0..seeds(4_000) {
        let at = random.below(frames.len());
        let bytes = frames[at].bytes();
        let mut body = bytes[..bytes.len() - 64].to_vec();
        mutate(&mut random, &mut body);
        let signed = sign(&key(1), body);
        if Frame::decode(&signed).is_err() {
            continue;
        }
        decoded += 1;
        let mut a = Station::new(0, 3);
        a.deliver(&base);
        a.deliver(&frames[..at]);
        let before = a.log().len();
        let frames = vec![FrameBytes(signed)];
        a.say(COURIER, &Message::Push { cards: vec![card(1)], frames });
        applied += a.log().len() - before;
        check_derived(a.rows());
    }
    assert!(decoded > 300 && applied > 50, "{decoded} decoded, {applied} applied");
}

#[test]
fn truncated_frames_are_refused() {
    let (_, frames) = sample_frames();
    for frame in frames {
        for length in 0..frame.bytes().len() {
            let bytes = &frame.bytes()[..length];
            let is_signed = Frame::decode(bytes).is_ok_and(|frame| frame.verify(&card(1)).is_ok());
            assert!(!is_signed, "{length} bytes of {}", frame.bytes().len());
        }
    }
}

fn sample_messages() -> Vec<Message> {
    let keyspace = keyspace_id(NOTES);
    let (base, frames) = sample_frames();
    let bytes = |frames: &[Frame]| frames.iter().map(|frame| FrameBytes(frame.bytes().to_vec())).collect();
    let cards: Vec<AuthorCard> = vec![card(1), card(2)];
    let author = card(1).replica();
    let record = PeerRecord { peer: key(5).peer(), addresses: vec!["mem/x".into()], age_s: 9 };
    vec![
        Message::Goodbye { reason: "bye".into() },
        Message::Keyspaces(vec![named("one"), named("two")]),
        Message::Peers(vec![record]),
        Message::Summary { keyspace, heads: [1; 16], fingerprint: [2; 16] },
        Message::Heads { keyspace, entries: vec![HeadEntry { author, seq: 4, frame: [3; 8] }] },
        Message::Want { keyspace, after: vec![WantEntry { author, after: 0 }] },
        Message::Answer { keyspace, cards: cards.clone(), frames: bytes(&base), has_more: true },
        Message::Push { cards, frames: bytes(&frames) },
        Message::Prune { keyspace },
        Message::Graft { keyspace },
        Message::Confirm { keyspace, seq: 3 },
        Message::Confirmed { keyspace, seq: 3 },
    ]
}

/// A peer that says mutated things in random order, is cut off, and comes back.
#[test]
fn mutated_messages_never_harm() {
    let messages = sample_messages();
    let mut random = Random::new(8);
    let mut a = Station::new(0, 3);
    let (mut session, mut cut_off) = (COURIER, 0);
    for round in 0..seeds(8_000) {
        let mut bytes = random.pick(&messages).encode();
        if random.chance(70) {
            mutate(&mut random, &mut bytes);
        }
        a.hear(session, bytes);
        if random.chance(20) {
            a.pass(150);
        }
        a.said();
        if !a.closed().is_empty() {
            cut_off += 1;
            let reason = "gone".to_owned();
            a.turn(vec![Input::Network(TransportEvent::Down { session, reason })]);
            session = SessionId(round + 10);
            a.greet(session, &courier_key());
        }
    }
    check_derived(a.rows());
    assert!(cut_off > 50, "{cut_off} sessions were cut off");
    assert!(a.write(set("k", "still works")).len() == 1);
}

#[test]
fn random_payloads_never_panic() {
    let mut random = Random::new(9);
    let mut decoded = 0;
    for _ in 0..seeds(50_000) {
        let bytes: Vec<u8> = (0..random.below(24)).map(|_| random.next().to_le_bytes()[0]).collect();
        for kind in Kind::ALL {
            if let Ok(payload) = Payload::decode(kind, &bytes) {
                decoded += 1;
                let mut again = Vec::new();
                payload.encode_into(&mut again);
                assert_eq!(Payload::decode(kind, &again), Ok(payload), "what was decoded survives");
            }
        }
    }
    assert!(decoded > 1_000, "{decoded}");
}
