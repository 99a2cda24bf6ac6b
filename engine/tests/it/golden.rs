//! The bytes of every message, operation and frame. Changing one needs a new version and a migration.

use std::fmt::Write;

use tidelock_engine::causality::{Dot, Hlc, VersionVector};
use tidelock_engine::frame::{Frame, FrameBuilder, FrameStart, SigningKey};
use tidelock_engine::group_key::{GroupSecret, Statement};
use tidelock_engine::id::{ClientId, ClusterId, Epoch, FrameId, KeyspaceId, KeyspaceName, PeerId, ReplicaId};
use tidelock_engine::install::RowList;
use tidelock_engine::message::{
    FrameBytes, HeadEntry, Hello, KeyspaceHint, Message, ModeNews, PROTOCOL_VERSION, PartRows, PeerRecord,
    RangeAsk, RangePart, StateHead, WantEntry,
};
use tidelock_engine::mode::{Mode, ModeError, ModeRecord};
use tidelock_engine::op::{
    DotRef, Element, FieldValue, KeySlot, MemberScore, Op, OutcomeRef, Prefix, RowRef, SlotChange,
};
use tidelock_engine::ports::{AnchorId, LogIndex, NotDone};
use tidelock_engine::ranges::{Group, Print, Range};
use tidelock_engine::replica::{AnchorError, AnchorOrder};
use tidelock_engine::roster::{AnchorNews, Invite, Roster, Seated, SignedRoster};
use tidelock_engine::row::{Fingerprint, Kind, Payload, RowId};
use tidelock_engine::score::Score;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("memory");
        text
    })
}

fn dot(replica: u32, seq: u64) -> DotRef {
    DotRef { replica, seq }
}

fn key() -> SigningKey {
    SigningKey::from_seed([1; 32])
}

fn keyspace() -> KeyspaceId {
    KeyspaceId::of(ClusterId::named("golden"), &name())
}

fn name() -> KeyspaceName {
    "notes".parse().expect("a valid name")
}

fn author() -> ReplicaId {
    key().card([2; 16]).replica()
}

fn ops() -> Vec<(Op, &'static str)> {
    let k = || b"k".to_vec();
    let close = SlotChange::Close { birth: 3 };
    let reset = SlotChange::Reset { birth: dot(1, 2), top: 300, sum: -5 };
    vec![
        (
            Op::Set { key: k(), value: b"v".to_vec(), observed: vec![dot(1, 7)], slots: vec![close, reset] },
            "00016b0176010107020003010102ac0209",
        ),
        (Op::Increment { key: k(), birth: 0, sum: 1 }, "01016b0002"),
        (
            Op::Increment { key: k(), birth: 1, sum: i128::MIN },
            "01016b01ffffffffffffffffffffffffffffffffffff03",
        ),
        (
            Op::Add {
                key: k(),
                elements: vec![Element { element: b"e".to_vec(), observed: vec![dot(0, 1)] }],
            },
            "02016b010165010001",
        ),
        (
            Op::Put {
                key: k(),
                fields: vec![FieldValue { field: b"f".to_vec(), value: b"v".to_vec(), observed: vec![] }],
            },
            "03016b010166017600",
        ),
        (
            Op::Delete {
                key: k(),
                rows: vec![RowRef { kind: Kind::Map, subkey: b"f".to_vec(), dot: dot(1, 2) }],
                slots: vec![reset],
            },
            "04016b01030166010201010102ac0209",
        ),
        (
            Op::Clear {
                prefix: Prefix::Keyspace,
                vector: vec![dot(0, 4), dot(1, 300)],
                slots: vec![KeySlot { key: k(), change: close }],
            },
            "050002000401ac0201016b0003",
        ),
        (Op::Clear { prefix: Prefix::Key(k()), vector: vec![], slots: vec![] }, "0501016b0000"),
        (
            Op::Clear {
                prefix: Prefix::Group { key: k(), kind: Kind::Set, subkey: b"e".to_vec() },
                vector: vec![],
                slots: vec![],
            },
            "0502016b0201650000",
        ),
        (Op::Change { key: k(), chunk: b"c".to_vec(), observed: vec![] }, "06016b016300"),
        (
            Op::Change { key: k(), chunk: b"c".to_vec(), observed: vec![dot(1, 300), dot(0, 1)] },
            "06016b01630201ac020001",
        ),
        (
            Op::Delete { key: k(), rows: vec![], slots: vec![SlotChange::Fold { birth: dot(1, 300) }] },
            "04016b00010201ac02",
        ),
        (Op::Retire { last: dot(1, 300) }, "0701ac02"),
        (Op::Expire { key: k(), deadline_ms: 300, observed: vec![dot(1, 300)] }, "08016bac020101ac02"),
        score_op(),
    ]
}

/// The operations of strong epochs alone.
fn strong_ops() -> Vec<(Op, &'static str)> {
    let client = ClientId([5; 16]);
    let forgotten =
        vec![OutcomeRef { number: 7, dot: dot(1, 300) }, OutcomeRef { number: 8, dot: dot(0, 1) }];
    let outcome =
        |result| Op::Outcome { client, number: 300, index: 301, result, forgotten: forgotten.clone() };
    vec![
        (outcome(Some(b"r".to_vec())), "0a05050505050505050505050505050505ac02ad02010172020701ac02080001"),
        (outcome(None), "0a05050505050505050505050505050505ac02ad0200020701ac02080001"),
        (
            Op::Forget { client, forgotten: forgotten.clone() },
            "0b05050505050505050505050505050505020701ac02080001",
        ),
    ]
}

fn score_op() -> (Op, &'static str) {
    let score = Score::new(1.5).expect("a number");
    let member = MemberScore { member: b"m".to_vec(), score, observed: vec![dot(1, 300)] };
    (Op::Score { key: b"k".to_vec(), members: vec![member] }, "09016b01016dbff80000000000000101ac02")
}

fn messages() -> Vec<(Message, &'static str)> {
    let card = key().card([2; 16]);
    let frame = || FrameBytes(b"frame".to_vec());
    let keyspace = keyspace();
    let keyspaces = vec![KeyspaceHint([7; 8])];
    let peer = PeerId::from_public_key([5; 32]);
    let record = PeerRecord { peer, addresses: vec!["/a".into()], age_s: 300, keyspaces };
    let hello = Hello {
        protocol: PROTOCOL_VERSION,
        cluster: ClusterId::named("golden"),
        card,
        keyspaces: vec![name()],
        takes_any_keyspace: true,
        addresses: vec!["/ip4/127.0.0.1".into()],
    };
    vec![
        (
            Message::Hello(hello),
            concat!(
                "000188d38df01a4db476d938233e8ea4212b704423b523a484bb70b10b571c82bbb48a88e3dd7409",
                "f195fd52db2d3cba5d72ca6709bf1d94121bf3748801b40f6f5c0202020202020202020202020202",
                "020201056e6f74657301010e2f6970342f3132372e302e302e31"
            ),
        ),
        (Message::Goodbye { reason: "bye".into() }, "0103627965"),
        (Message::Keyspaces(vec![name()]), "0201056e6f746573"),
        (
            Message::Peers(vec![record]),
            "0301050505050505050505050505050505050505050505050505050505050505050501022f61ac02010707070707070707",
        ),
        (
            Message::Summary { keyspace, heads: [1; 16], fingerprint: [2; 16] },
            concat!(
                "04811e3c74f1357ac34e4f1e8e081186400101010101010101010101010101010102020202020202",
                "020202020202020202"
            ),
        ),
        (
            Message::Heads {
                keyspace,
                entries: vec![HeadEntry { author: author(), seq: 300, frame: [3; 8] }],
            },
            concat!(
                "05811e3c74f1357ac34e4f1e8e081186400165a670c2148c4b3bb57a8409168cd44dac0203030303",
                "03030303"
            ),
        ),
        (
            Message::Want { keyspace, after: vec![WantEntry { author: author(), after: 300 }] },
            "06811e3c74f1357ac34e4f1e8e081186400165a670c2148c4b3bb57a8409168cd44dac02",
        ),
        (
            Message::Answer { keyspace, cards: vec![card], frames: vec![frame()], has_more: true },
            concat!(
                "07811e3c74f1357ac34e4f1e8e08118640018a88e3dd7409f195fd52db2d3cba5d72ca6709bf1d94",
                "121bf3748801b40f6f5c0202020202020202020202020202020201056672616d6501"
            ),
        ),
        (Message::Push { cards: vec![], frames: vec![frame()] }, "080001056672616d65"),
        (Message::Prune { keyspace }, "09811e3c74f1357ac34e4f1e8e08118640"),
        (Message::Graft { keyspace }, "0a811e3c74f1357ac34e4f1e8e08118640"),
        (Message::Confirm { keyspace, seq: 300 }, "0b811e3c74f1357ac34e4f1e8e08118640ac02"),
        (Message::Confirmed { keyspace, seq: 300 }, "0c811e3c74f1357ac34e4f1e8e08118640ac02"),
    ]
}

/// The messages of a transfer of state.
fn transfer_messages() -> Vec<(Message, &'static str)> {
    let keyspace = keyspace();
    let head = StateHead { card: key().card([2; 16]), seq: 300, frame: FrameId::of(b"frame") };
    let row = |subkey: &[u8]| RowId {
        key: b"k".to_vec(),
        kind: Kind::Set,
        subkey: subkey.to_vec(),
        dot: Dot::new(author(), 300),
    };
    let print = Print { fingerprint: Fingerprint::from_bits(300), rows: 2 };
    let range = Range { from: None, to: Some(Group::of(&row(b"e"))) };
    let list = RowList::new([(&row(b"a"), Some(&Payload::Member)), (&row(b"b"), None)]);
    let part = |rows| RangePart { range: range.clone(), rows };
    let parts = vec![
        part(PartRows::Equal),
        part(PartRows::Split(vec![(range.to.clone(), print)])),
        part(PartRows::Rows(list)),
    ];
    let frames = vec![FrameBytes(b"frame".to_vec())];
    let asks = vec![RangeAsk { range: range.clone(), print }];
    vec![
        (
            Message::Held { keyspace, held: vec![WantEntry { author: author(), after: 300 }] },
            "0d811e3c74f1357ac34e4f1e8e081186400165a670c2148c4b3bb57a8409168cd44dac02",
        ),
        (Message::Take { keyspace }, "0e811e3c74f1357ac34e4f1e8e08118640"),
        (
            Message::Taken { keyspace, epoch: Epoch(3), position: 300, heads: vec![head] },
            concat!(
                "0f811e3c74f1357ac34e4f1e8e0811864003ac02018a88e3dd7409f195fd52db2d3cba5d72ca6709bf",
                "1d94121bf3748801b40f6f5c02020202020202020202020202020202ac02b84bbbf495b3f5fe3508",
                "5304d048e337853f0cc3dac096870ec35322b385d9bc"
            ),
        ),
        (Message::Compare { keyspace, asks }, "10811e3c74f1357ac34e4f1e8e08118640010001016b020165ac0202"),
        (
            Message::Compared { keyspace, heads: vec![head], parts },
            concat!(
                "11811e3c74f1357ac34e4f1e8e08118640018a88e3dd7409f195fd52db2d3cba5d72ca6709bf1d94",
                "121bf3748801b40f6f5c02020202020202020202020202020202ac02b84bbbf495b3f5fe35085304",
                "d048e337853f0cc3dac096870ec35322b385d9bc030001016b020165000001016b02016501010101",
                "6b020165ac02020001016b020165020165a670c2148c4b3bb57a8409168cd44d02016b02016100ac",
                "020100016b02016200ac0200"
            ),
        ),
        (Message::Tail { keyspace, after: 300 }, "12811e3c74f1357ac34e4f1e8e08118640ac02"),
        (
            Message::Tailed { keyspace, heads: vec![head], frames, until: 300, is_end: true },
            concat!(
                "13811e3c74f1357ac34e4f1e8e08118640018a88e3dd7409f195fd52db2d3cba5d72ca6709bf1d94",
                "121bf3748801b40f6f5c02020202020202020202020202020202ac02b84bbbf495b3f5fe35085304",
                "d048e337853f0cc3dac096870ec35322b385d9bc01056672616d65ac0201"
            ),
        ),
        (Message::EndTake { keyspace }, "14811e3c74f1357ac34e4f1e8e08118640"),
        (Message::Below { keyspace }, "15811e3c74f1357ac34e4f1e8e08118640"),
        (Message::Left(vec![keyspace]), "1601811e3c74f1357ac34e4f1e8e08118640"),
        (Message::Vouch { keyspace, number: 300 }, "17811e3c74f1357ac34e4f1e8e08118640ac02"),
        (
            Message::Vouched {
                keyspace,
                number: 300,
                held: vec![WantEntry { author: author(), after: 300 }],
            },
            "18811e3c74f1357ac34e4f1e8e08118640ac020165a670c2148c4b3bb57a8409168cd44dac02",
        ),
    ]
}

fn group() -> GroupSecret {
    GroupSecret::from([4; 32])
}

fn mode_record() -> ModeRecord {
    let (epoch, frontier) = (Epoch(3), vec![Dot::new(author(), 300)]);
    let (index, card) = (LogIndex(300), key().card([2; 16]));
    let statement = Statement::Mode { keyspace: keyspace(), epoch, frontier: &frontier, index, card };
    let signature = group().sign(ClusterId::named("golden"), &statement);
    ModeRecord { epoch, frontier, index, card, signature }
}

fn roster() -> SignedRoster {
    let seated = Seated {
        anchor: AnchorId(302),
        peer: key().peer(),
        addresses: vec!["/ip4/127.0.0.1/tcp/1".to_owned()],
        is_voter: true,
    };
    let roster = Roster { index: LogIndex(300), members: vec![seated] };
    let signature = group().sign(ClusterId::named("golden"), &Statement::Members(&roster));
    SignedRoster { roster, signature }
}

fn anchor_news() -> AnchorNews {
    AnchorNews {
        seat: Some(AnchorId(302)),
        is_unwilling: true,
        leader: Some(AnchorId(303)),
        exact: vec![keyspace()],
        roster: Some(roster()),
    }
}

fn invite() -> Invite {
    let (anchor, replica) = (AnchorId(302), author());
    let statement = Statement::Invitation { anchor, replica, index: LogIndex(300) };
    let signature = group().sign(ClusterId::named("golden"), &statement);
    Invite { anchor, replica, signature, roster: roster() }
}

fn strong_messages() -> Vec<(Message, &'static str)> {
    let keyspace = keyspace();
    let name = name();
    vec![
        (
            Message::Modes(vec![ModeNews { name, record: mode_record() }]),
            concat!(
                "1901056e6f746573030165a670c2148c4b3bb57a8409168cd44dac02ac028a88e3dd7409f195fd52",
                "db2d3cba5d72ca6709bf1d94121bf3748801b40f6f5c02020202020202020202020202020202ca93",
                "ac1705187071d67b83c7ff0efe8108e8ec4530575d7726879333dbdabe7c4899c0693bc060fac2dd",
                "f10ec515ea6e1d63d43a033423797abf54ff62f497f92395246b8a49bcc0e4affba5546814762822",
                "dac5c8b65b3b962c9c324624e102"
            ),
        ),
        (
            Message::At { keyspace, begin: 300, cut: 301, fingerprint: [7; 16] },
            "1a811e3c74f1357ac34e4f1e8e08118640ac02ad0207070707070707070707070707070707",
        ),
        (
            Message::Ask {
                number: 300,
                operation: Some((ClientId([5; 16]), 301)),
                within_ms: 302,
                is_last: true,
                request: b"request".to_vec(),
            },
            "1bac020105050505050505050505050505050505ad02ae02010772657175657374",
        ),
        (Message::Told { number: 300, reply: b"reply".to_vec() }, "1cac02057265706c79"),
    ]
}

/// What is said of the anchors themselves.
fn anchor_messages() -> Vec<(Message, &'static str)> {
    vec![
        (
            Message::Anchors(anchor_news()),
            concat!(
                "1d01ae020101af0201811e3c74f1357ac34e4f1e8e0811864001ac0201ae028a88e3dd7409f195fd",
                "52db2d3cba5d72ca6709bf1d94121bf3748801b40f6f5c01142f6970342f3132372e302e302e312f",
                "7463702f3101ca93ac1705187071d67b83c7ff0efe8108e8ec4530575d7726879333dbdabe7c185e",
                "addfd91a61b7bdef9037036842818fda2d5e955d2ad2658c97da01d0a3cbb56554d5bb49c57cacca",
                "28d24fd9a4fe9a07b7310996440b82b421c66628df0d"
            ),
        ),
        (
            Message::Invite(invite()),
            concat!(
                "1eae0265a670c2148c4b3bb57a8409168cd44dca93ac1705187071d67b83c7ff0efe8108e8ec4530",
                "575d7726879333dbdabe7c13f724e43cbdd48b245525750f96f87f1775cf2fef023d42012333954e",
                "219120c566246f58b3fe36d98bee87751f6cb1cac5a08081047cbad28d8a0ac4930c07ac0201ae02",
                "8a88e3dd7409f195fd52db2d3cba5d72ca6709bf1d94121bf3748801b40f6f5c01142f6970342f31",
                "32372e302e302e312f7463702f3101ca93ac1705187071d67b83c7ff0efe8108e8ec4530575d7726",
                "879333dbdabe7c185eaddfd91a61b7bdef9037036842818fda2d5e955d2ad2658c97da01d0a3cbb5",
                "6554d5bb49c57cacca28d24fd9a4fe9a07b7310996440b82b421c66628df0d"
            ),
        ),
        (
            Message::Govern {
                number: 300,
                hops: 1,
                within_ms: 301,
                order: AnchorOrder::Remove(vec![AnchorId(302)]),
            },
            "1fac0201ad020201ae02",
        ),
        (
            Message::Govern { number: 300, hops: 1, within_ms: 301, order: AnchorOrder::Add(key().peer()) },
            "1fac0201ad02018a88e3dd7409f195fd52db2d3cba5d72ca6709bf1d94121bf3748801b40f6f5c",
        ),
        (
            Message::Govern {
                number: 300,
                hops: 1,
                within_ms: 301,
                order: AnchorOrder::Transfer(AnchorId(302)),
            },
            "1fac0201ad0203ae02",
        ),
        (
            Message::Govern { number: 300, hops: 1, within_ms: 301, order: AnchorOrder::MakeStrong(name()) },
            "1fac0201ad0204056e6f746573",
        ),
        (
            Message::Governed { number: 300, reply: Err(AnchorError::HoldsData(name())) },
            "20ac020105056e6f746573",
        ),
        (Message::Governed { number: 300, reply: Ok(()) }, "20ac0200"),
        (Message::Governed { number: 300, reply: Err(NotDone::Busy.into()) }, "20ac02010102"),
    ]
}

#[test]
fn modes_have_golden_bytes() {
    let mode = Mode::following(mode_record(), Hlc::from_bits(0x0102_0304_0506_0708));
    let golden = concat!(
        "010301030165a670c2148c4b3bb57a8409168cd44dac02ac028a88e3dd7409f195fd52db2d3cba5d",
        "72ca6709bf1d94121bf3748801b40f6f5c02020202020202020202020202020202ca93ac17051870",
        "71d67b83c7ff0efe8108e8ec4530575d7726879333dbdabe7c4899c0693bc060fac2ddf10ec515ea",
        "6e1d63d43a033423797abf54ff62f497f92395246b8a49bcc0e4affba5546814762822dac5c8b65b",
        "3b962c9c324624e102000000010203040506070800"
    );
    assert_eq!(hex(&mode.encode()), golden);
    assert_eq!(Mode::decode(&mode.encode()), Ok(mode.clone()));
    let newer = [&[2], &mode.encode()[1..]].concat();
    assert_eq!(Mode::decode(&newer), Err(ModeError::Newer(2)));
    for wrong in [&[][..], &[0], &[1], &[&mode.encode()[..], &[0]].concat()] {
        assert_eq!(Mode::decode(wrong), Err(ModeError::Malformed), "{wrong:?}");
    }
}

fn frame() -> Frame {
    let other = ReplicaId::from_bytes([9; 16]);
    let dependencies: VersionVector = [Dot::new(other, 300)].into_iter().collect();
    let start = FrameStart {
        keyspace: keyspace(),
        epoch: Epoch(2),
        author: author(),
        first: 7,
        previous: FrameId::of(b"previous"),
        hlc: Hlc::from_bits(0x0102_0304_0506_0708),
    };
    let mut builder = FrameBuilder::new(start, &dependencies);
    for (op, _) in ops() {
        builder.push(op);
    }
    builder.seal(&key())
}

const FRAME: &str = concat!(
    "01811e3c74f1357ac34e4f1e8e081186400265a670c2148c4b3bb57a8409168cd44d070f8413915b",
    "f1b1575dc4c7b3f125d4b97d1ee2d9099de50d8ac93e0dfe17ebdafc010909090909090909090909",
    "09090909090101ac02010203040506070800016b0176010107020003010102ac020901016b000201",
    "016b01ffffffffffffffffffffffffffffffffffff0302016b01016501000103016b010166017600",
    "04016b01030166010201010102ac0209050002000401ac0201016b00030501016b00000502016b02",
    "0165000006016b01630006016b01630201ac02000104016b00010201ac020701ac0208016bac0201",
    "01ac0209016b01016dbff80000000000000101ac0270c9a92ffdaf63f66cbe97bc3ae4f22be5e1a9",
    "dd88f3ebcafef6f17f7da5fb01cd4bc7ef89f39654f1ac08738ac728f92bd826c8a239d2d15317b2",
    "4310e8f001",
);

#[test]
fn operations_have_golden_bytes() {
    for (op, golden) in ops().into_iter().chain(strong_ops()) {
        let bytes = postcard::to_stdvec(&op).expect("memory");
        assert_eq!(hex(&bytes), golden, "{op:?}");
        assert_eq!(postcard::from_bytes::<Op>(&bytes), Ok(op));
    }
}

#[test]
fn messages_have_golden_bytes() {
    for (message, golden) in
        messages().into_iter().chain(transfer_messages()).chain(strong_messages()).chain(anchor_messages())
    {
        assert_eq!(hex(&message.encode()), golden, "{message:?}");
        assert_eq!(Message::decode(&message.encode()), Ok(message));
    }
}

/// A frame with every operation; ed25519 signatures are deterministic, so they are golden too.
#[test]
fn frames_have_golden_bytes() {
    let frame = frame();
    assert_eq!(hex(frame.bytes()), FRAME);
    assert_eq!(Frame::decode(frame.bytes()), Ok(frame.clone()));
    assert_eq!(frame.verify(&key().card([2; 16])), Ok(()));
    assert_eq!(Frame::peek(frame.bytes()), Some(Dot::new(author(), 21)));
}

#[test]
fn identities_have_golden_bytes() {
    assert_eq!(author().to_string(), "65a670c2148c4b3bb57a8409168cd44d");
    assert_eq!(keyspace().to_string(), "811e3c74f1357ac34e4f1e8e08118640");
    assert_eq!(
        ClusterId::named("golden").to_string(),
        "88d38df01a4db476d938233e8ea4212b704423b523a484bb70b10b571c82bbb4"
    );
}
