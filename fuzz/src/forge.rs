//! Frames that anybody could make: any header, any operations, signed as their author would.

use std::sync::LazyLock;

use ed25519_dalek::Signer;
use tidelock_engine::bounds::{KEY_BYTES_MAX, OBSERVED_LISTED_MAX, SUBKEY_BYTES_MAX};
use tidelock_engine::causality::Hlc;
use tidelock_engine::frame::{FRAME_VERSION, FrameHeader, SigningKey};
use tidelock_engine::id::{
    AuthorCard, ClientId, ClusterId, Epoch, FrameId, KeyspaceId, KeyspaceName, ReplicaId,
};
use tidelock_engine::op::{
    DotRef, Element, FieldValue, KeySlot, MemberScore, Op, OutcomeRef, Prefix, RowRef, SlotChange,
};
use tidelock_engine::row::Kind;
use tidelock_engine::score::Score;

use crate::input::Input;

/// The members of the cluster whose keys the inputs have.
pub const MEMBERS: u8 = 4;

/// The moment at which all stories begin, in Unix milliseconds.
pub const START_MS: u64 = 1_800_000_000_000;

/// The keyspaces that the inputs name.
pub const KEYSPACES: [&str; 2] = ["notes", "other"];

const KEYS: [&str; 4] = ["k", "n", "s", "m"];
const SUBKEYS: [&str; 3] = ["e", "f", ""];
const VALUES: [&str; 4] = ["", "v", "7", "-9223372036854775808"];

/// The cluster of all stories.
pub fn cluster() -> ClusterId {
    ClusterId::named("fuzz")
}

/// A keyspace's name.
pub fn named(name: &str) -> KeyspaceName {
    name.parse().expect("the names here are valid")
}

/// A keyspace's id.
pub fn keyspace_id(name: &str) -> KeyspaceId {
    KeyspaceId::of(cluster(), &named(name))
}

/// The key of a member.
pub fn key(member: u8) -> SigningKey {
    SigningKey::from_seed([member + 1; 32])
}

/// The card of a member.
pub fn card(member: u8) -> AuthorCard {
    MEMBER_CARDS[usize::from(member)].0
}

/// The replica of a member.
pub fn replica(member: u8) -> ReplicaId {
    MEMBER_CARDS[usize::from(member)].1
}

// Deriving a key costs more than decoding most inputs.
static MEMBER_SIGNERS: LazyLock<[ed25519_dalek::SigningKey; MEMBERS as usize]> = LazyLock::new(|| {
    [0, 1, 2, 3].map(|member| ed25519_dalek::SigningKey::from_bytes(&key(member).to_seed()))
});

static MEMBER_CARDS: LazyLock<[(AuthorCard, ReplicaId); MEMBERS as usize]> = LazyLock::new(|| {
    [0, 1, 2, 3].map(|member| {
        let card = key(member).card([member; 16]);
        (card, card.replica())
    })
});

/// Where an author's next frame starts.
#[derive(Clone, Copy, Debug)]
pub struct Chain {
    /// The author.
    pub member: u8,
    /// The keyspace.
    pub keyspace: KeyspaceId,
    /// The seq of the next operation.
    pub first: u64,
    /// The frame before.
    pub previous: FrameId,
}

/// An input that makes a frame plain: its header follows the chain.
pub fn plain() -> Input<'static> {
    Input::new(&[])
}

/// A frame of any content that mostly follows the chain, and its operations.
pub fn frame(input: &mut Input<'_>, chain: Chain) -> (FrameHeader, Vec<Op>) {
    let mut ops = vec![op(input)];
    while ops.len() < 5 && input.once_in(3) {
        ops.push(op(input));
    }
    let count = u32::try_from(ops.len()).expect("few");
    let mut header = FrameHeader {
        version: FRAME_VERSION,
        keyspace: chain.keyspace,
        epoch: Epoch(u64::from(ops.iter().any(Op::is_strong))),
        author: replica(chain.member),
        first: chain.first,
        count,
        previous: chain.previous,
        replicas: others(chain.member),
        dependencies: Vec::new(),
        hlc: Hlc::at(START_MS + u64::from(input.byte())),
    };
    // Most frames keep their header, so that their operations are looked at.
    while input.once_in(4) {
        distort(input, &mut header);
    }
    (header, ops)
}

/// The replicas of all members but one.
fn others(member: u8) -> Vec<ReplicaId> {
    (0..MEMBERS).filter(|other| *other != member).map(replica).collect()
}

fn distort(input: &mut Input<'_>, header: &mut FrameHeader) {
    match input.below(10) {
        0 => header.keyspace = keyspace_id(input.pick(&KEYSPACES)),
        1 => header.epoch = Epoch(input.number()),
        2 => header.author = any_replica(input),
        3 => header.first = input.number(),
        4 => header.count = u32::try_from(input.number() & 0xffff_ffff).expect("it is masked"),
        5 => header.previous = FrameId::from_bytes(input.array()),
        6 => header.replicas = input.list(6, any_replica),
        7 => header.dependencies = input.list(5, dot),
        8 => header.hlc = Hlc::from_bits(u64::from_le_bytes(input.array())),
        _ => header.version = input.byte(),
    }
}

/// A member's replica, or nobody's.
pub fn any_replica(input: &mut Input<'_>) -> ReplicaId {
    match input.byte() {
        byte @ 0..=239 => replica(byte % MEMBERS),
        _ => ReplicaId::from_bytes(input.array()),
    }
}

/// Any operation.
pub fn op(input: &mut Input<'_>) -> Op {
    match input.below(12) {
        0 => Op::Set { key: any_key(input), value: value(input), observed: dots(input), slots: slots(input) },
        1 => Op::Increment { key: any_key(input), birth: input.number(), sum: input.signed() },
        2 => {
            let element = |input: &mut Input<'_>| Element { element: subkey(input), observed: dots(input) };
            Op::Add { key: any_key(input), elements: input.list(5, element) }
        }
        3 => {
            let field = |input: &mut Input<'_>| FieldValue {
                field: subkey(input),
                value: value(input),
                observed: dots(input),
            };
            Op::Put { key: any_key(input), fields: input.list(5, field) }
        }
        4 => {
            let row =
                |input: &mut Input<'_>| RowRef { kind: kind(input), subkey: subkey(input), dot: dot(input) };
            Op::Delete { key: any_key(input), rows: input.list(4, row), slots: slots(input) }
        }
        6 => {
            let change = Op::Change { key: any_key(input), chunk: value(input), observed: dots(input) };
            // It draws what a SET draws, so that a round is the same story but for the kind.
            slots(input);
            change
        }
        7 => Op::Retire { last: dot(input) },
        8 => Op::Expire { key: any_key(input), deadline_ms: input.number(), observed: dots(input) },
        9 => {
            let member = |input: &mut Input<'_>| MemberScore {
                member: subkey(input),
                score: score(input),
                observed: dots(input),
            };
            Op::Score { key: any_key(input), members: input.list(5, member) }
        }
        10 => Op::Outcome {
            client: client(input),
            number: input.number(),
            index: input.number(),
            result: input.once_in(2).then(|| value(input)),
            forgotten: forgotten(input),
        },
        11 => Op::Forget { client: client(input), forgotten: forgotten(input) },
        _ => {
            let slot = |input: &mut Input<'_>| KeySlot { key: any_key(input), change: slot_change(input) };
            Op::Clear { prefix: prefix(input), vector: input.list(5, dot), slots: input.list(3, slot) }
        }
    }
}

/// A key.
pub fn any_key(input: &mut Input<'_>) -> Vec<u8> {
    input.text(&KEYS, KEY_BYTES_MAX)
}

/// A score, often one that there is already.
pub fn score(input: &mut Input<'_>) -> Score {
    let number = match input.byte() {
        byte @ 0..=223 => f64::from(byte % 8),
        _ => f64::from_bits(u64::from_le_bytes(input.array())),
    };
    Score::new(number).unwrap_or(Score::LOWEST)
}

/// A set element, map field or member of a sorted set.
pub fn subkey(input: &mut Input<'_>) -> Vec<u8> {
    input.text(&SUBKEYS, SUBKEY_BYTES_MAX)
}

/// A value; long ones are left to a test of their own, because they cost too much here.
pub fn value(input: &mut Input<'_>) -> Vec<u8> {
    input.text(&VALUES, 300)
}

/// A data type.
pub fn kind(input: &mut Input<'_>) -> Kind {
    input.pick(&Kind::ALL)
}

/// A reference to an operation, mostly one that there is.
pub fn dot(input: &mut Input<'_>) -> DotRef {
    let replica = match input.byte() {
        byte @ 0..=239 => u32::from(byte % MEMBERS),
        byte @ 240..=247 => u32::from(byte),
        _ => u32::MAX,
    };
    DotRef { replica, seq: input.number() }
}

fn dots(input: &mut Input<'_>) -> Vec<DotRef> {
    if input.once_in(128) {
        return vec![dot(input); OBSERVED_LISTED_MAX + input.below(2)];
    }
    input.list(3, dot)
}

fn client(input: &mut Input<'_>) -> ClientId {
    ClientId([input.byte() % 2; 16])
}

/// Outcomes, mostly in order.
fn forgotten(input: &mut Input<'_>) -> Vec<OutcomeRef> {
    let outcome = |input: &mut Input<'_>| OutcomeRef { number: input.number(), dot: dot(input) };
    let mut outcomes = input.list(4, outcome);
    if !input.once_in(4) {
        outcomes.sort_by_key(|outcome| outcome.number);
        outcomes.dedup_by_key(|outcome| outcome.number);
    }
    outcomes
}

fn slots(input: &mut Input<'_>) -> Vec<SlotChange> {
    input.list(3, slot_change)
}

fn slot_change(input: &mut Input<'_>) -> SlotChange {
    match input.below(5) {
        0 | 1 => SlotChange::Close { birth: input.number() },
        2 | 3 => SlotChange::Reset { birth: dot(input), top: input.number(), sum: input.signed() },
        _ => SlotChange::Fold { birth: dot(input) },
    }
}

fn prefix(input: &mut Input<'_>) -> Prefix {
    match input.below(3) {
        0 => Prefix::Keyspace,
        1 => Prefix::Key(any_key(input)),
        _ => Prefix::Group { key: any_key(input), kind: kind(input), subkey: subkey(input) },
    }
}

/// The bytes of a frame but for the signature.
pub fn encode(header: &FrameHeader, ops: &[Op]) -> Vec<u8> {
    let mut bytes = postcard::to_stdvec(header).expect("writing to memory cannot fail");
    for op in ops {
        bytes = postcard::to_extend(op, bytes).expect("writing to memory cannot fail");
    }
    bytes
}

/// Adds the signature of a member, over whatever the bytes are.
pub fn sign(member: u8, mut body: Vec<u8>) -> Vec<u8> {
    let signature = MEMBER_SIGNERS[usize::from(member)].sign(FrameId::of(&body).as_bytes()).to_bytes();
    body.extend_from_slice(&signature);
    body
}
