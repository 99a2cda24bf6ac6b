//! Inputs to begin with: valid encodings of everything, made by a seed and so the same everywhere.

use tidelock::NodeConfig;
use tidelock::redis::{Protocol, Reply};
use tidelock_engine::frame::{Frame, FrameBuilder, FrameStart};
use tidelock_engine::id::{ClientId, Epoch, FrameId};
use tidelock_engine::op::{
    DotRef, Element, FieldValue, KeySlot, MemberScore, Op, OutcomeRef, Prefix, RowRef, SlotChange,
};
use tidelock_engine::row::Kind;
use tidelock_engine::score::Score;

use crate::forge::{self, Chain, KEYSPACES, keyspace_id};
use crate::input::Input;
use crate::mutate::Random;
use crate::{message, row, sound};

/// The inputs of each kind that are drawn.
const DRAWN: u64 = 96;

/// Pieces of the Redis protocol.
pub const RESP_WORDS: &[&str] = &[
    "*1\r\n",
    "*-1\r\n",
    "*0\r\n",
    "*2\r\n",
    "$0\r\n\r\n",
    "$-1\r\n",
    "$3\r\nGET\r\n",
    "\r\n",
    "\n",
    "\"",
    "'",
    "\\x",
    "\\\"",
    "*1048577\r\n",
    "*99999999999999999999\r\n",
    "$16777217\r\n",
    "$9223372036854775807\r\n",
    "$00\r\n",
    "*+1\r\n",
    "=3\r\nabc\r\n",
    "=2\r\nhi\r\n",
    "~2\r\n",
    "%1\r\n",
    ">1\r\n",
    ",nan\r\n",
    "#t\r\n",
    "_\r\n",
    ":-1\r\n",
    "-ERR\r\n",
];

/// Pieces of commands.
pub const COMMAND_WORDS: &[&str] = &[
    "SET ",
    "GET ",
    "MGET ",
    "MSET ",
    "INCRBY ",
    "DECRBY ",
    "DECR ",
    "SADD ",
    "SREM ",
    "SISMEMBER ",
    "HSET ",
    "HDEL ",
    "HGET ",
    "ZADD ",
    "ZRANGE ",
    "ZRANGEBYLEX ",
    "BYSCORE ",
    "LIMIT ",
    "WITHSCORES ",
    "DEL ",
    "EXISTS ",
    "KEYS ",
    "SCAN ",
    "HELLO ",
    "SETNAME ",
    "AUTH ",
    "CLIENT ",
    "WAIT ",
    "TIDE.WATCH ",
    "PREFIX ",
    "FROM ",
    "TIDE.NETWORK ",
    "ONLINE",
    "TIDE.DURABILITY ",
    "COMMAND ",
    "DOCS ",
    "NX ",
    "EX ",
    "-9223372036854775808 ",
    "9223372036854775808 ",
    "k ",
    "\"\" ",
    "\r\n",
    "[a-z]",
    "[^",
    "\\",
    "*",
    "?",
];

/// Pieces of requests.
pub const REQUEST_WORDS: &[&str] = &[
    "localhost",
    "127.0.0.1",
    "[::1]",
    "evil.example.org",
    "@",
    ":8380",
    "http://",
    "null",
    "%ff",
    "%2",
    "&",
    "?prefix=",
    "durability=",
    "{\"hex\":\"ff\"}",
    "{\"add\":[",
    "{\"writes\":[{\"op\":\"",
    "[[[[[[[[",
    "9223372036854775808",
    "\n",
];

/// Pieces of configurations.
pub const CONFIG_WORDS: &[&str] = &[
    "data = ",
    "cluster = ",
    "listen = ",
    "peers = ",
    "allow = ",
    "keyspaces = ",
    "mdns = ",
    "cache_bytes = ",
    "[redis]\n",
    "[http]\n",
    "token = ",
    "allowed_hosts = ",
    "address = ",
    "bulk_bytes_max = ",
    "command_bytes_max = ",
    "clients_max = ",
    "true",
    "\"\"",
    "[\"a\"]",
    "[",
    "]",
    "{",
    "}",
    "\"\"\"",
    "\n",
    "= ",
    "0",
    "9223372036854775807",
    "-1",
    "1e400",
    "nan",
    "1979-05-27T07:32:00Z",
    "\"/ip4/127.0.0.1/tcp/1\"",
    "\"\\uD800\"",
    "[[redis]]",
    "redis.x = 1",
    "\"12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN\"",
];

fn drawn(name: &str) -> impl Iterator<Item = Vec<u8>> + '_ {
    (0..DRAWN).map(move |round| {
        let mut random = Random::of_round(name, round);
        let length = 16 + random.below(400);
        random.bytes(length)
    })
}

/// Bytes that structures are read from.
pub fn structures() -> Vec<Vec<u8>> {
    drawn("structures").collect()
}

/// Frames that decode: one with every operation in it, as a replica makes it, and drawn ones.
pub fn frames() -> Vec<Vec<u8>> {
    let mut frames = vec![every_operation().bytes().to_vec()];
    for (bytes, member) in drawn("frames").zip((0..forge::MEMBERS).cycle()) {
        let mut input = Input::new(&bytes);
        let keyspace = keyspace_id(KEYSPACES[0]);
        let first = 1 + input.number() % 300;
        let chain = Chain { member, keyspace, first, previous: FrameId::NONE };
        let (header, ops) = forge::frame(&mut input, chain);
        if sound::frame(&header, &ops) {
            frames.push(forge::sign(member, forge::encode(&header, &ops)));
        }
    }
    frames
}

fn every_operation() -> Frame {
    let start = FrameStart {
        keyspace: keyspace_id(KEYSPACES[0]),
        epoch: Epoch(1),
        author: forge::replica(1),
        first: 300,
        previous: FrameId::from_bytes([7; 32]),
        hlc: tidelock_engine::causality::Hlc::at(forge::START_MS),
    };
    let seen = [tidelock_engine::causality::Dot::new(forge::replica(2), 1_000)];
    let mut builder = FrameBuilder::new(start, &seen.into_iter().collect());
    let other = builder.reference(seen[0]);
    let own = DotRef { replica: 0, seq: 200 };
    let (key, reset) = (b"k".to_vec(), SlotChange::Reset { birth: other, top: 2_000, sum: -5 });
    let slots = vec![SlotChange::Close { birth: 7 }, reset, SlotChange::Fold { birth: other }];
    let element = |name: &str| Element { element: name.into(), observed: vec![own, other] };
    let field = FieldValue { field: b"f".to_vec(), value: b"w".to_vec(), observed: vec![other] };
    let member = MemberScore { member: b"m".to_vec(), score: Score::LOWEST, observed: vec![own, other] };
    let row = RowRef { kind: Kind::Map, subkey: b"f".to_vec(), dot: own };
    let group = Prefix::Group { key: key.clone(), kind: Kind::Set, subkey: b"e".to_vec() };
    let (client, forgotten) = (ClientId([5; 16]), OutcomeRef { number: 7, dot: other });
    let listed = KeySlot { key: key.clone(), change: reset };
    let ops = [
        Op::Set { key: key.clone(), value: b"value".to_vec(), observed: vec![own], slots: slots.clone() },
        Op::Increment { key: key.clone(), birth: 0, sum: i128::MIN },
        Op::Add { key: key.clone(), elements: vec![element("a"), element("b")] },
        Op::Put { key: key.clone(), fields: vec![field] },
        Op::Delete { key: key.clone(), rows: vec![row], slots },
        Op::Clear { prefix: Prefix::Key(key), vector: vec![own, other], slots: vec![listed.clone()] },
        Op::Clear { prefix: group, vector: vec![other], slots: Vec::new() },
        Op::Clear { prefix: Prefix::Keyspace, vector: vec![own], slots: vec![listed] },
        Op::Change { key: b"k".to_vec(), chunk: b"chunk".to_vec(), observed: vec![own, other] },
        Op::Score { key: b"k".to_vec(), members: vec![member] },
        Op::Retire { last: other },
        Op::Expire { key: b"k".to_vec(), deadline_ms: forge::START_MS, observed: vec![own, other] },
        Op::Outcome {
            client,
            number: 9,
            index: 300,
            result: Some(b"r".to_vec()),
            forgotten: vec![forgotten],
        },
        Op::Forget { client, forgotten: vec![forgotten] },
    ];
    for op in ops {
        builder.push(op);
    }
    builder.seal(&forge::key(1))
}

/// Messages of every kind that decode.
pub fn messages() -> Vec<Vec<u8>> {
    let messages = drawn("messages").map(|bytes| message::any(&mut Input::new(&bytes)));
    messages
        .filter(sound::message)
        .map(|message| message.encode())
        .filter(|bytes| bytes.len() < 4_096)
        .collect()
}

/// Payloads of every kind, each behind the byte that says which.
pub fn payloads() -> Vec<Vec<u8>> {
    let payload = |(bytes, place): (Vec<u8>, usize)| {
        let mut out = vec![u8::try_from(place).expect("there are few")];
        row::any_payload(&mut Input::new(&bytes), Kind::ALL[place]).encode_into(&mut out);
        out
    };
    drawn("payloads").zip((0..Kind::ALL.len()).cycle()).map(payload).collect()
}

/// Pipelines behind their limits and steps.
pub fn pipelines() -> Vec<Vec<u8>> {
    let texts = [
        "*2\r\n$3\r\nGET\r\n$1\r\nk\r\n*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$5\r\na\r\nb\r\n\r\n",
        "PING\r\nset k 'it\\'s' \"\\x41\\n\\q\"\r\n\r\n*0\r\n*-1\r\n*1\r\n$4\r\nQUIT\r\n",
        "*1\r\n$0\r\n\r\n*4\r\n$4\r\nMSET\r\n$1\r\na\r\n$16\r\n0123456789abcdef\r\n$0\r\n\r\n",
        "GET a\nGET b\r\n  spaced   out\t\r\nset k \"\"\r\n",
    ];
    let heads =
        [[0; 5], [0, 1, 1, 1, 1], [0, 3, 0, 7, 1], [255, 0, 0, 0, 0], [200, 2, 5, 1, 0], [160, 1, 2, 3, 4]];
    heads.iter().flat_map(|head| texts.map(|text| [&head[..], text.as_bytes()].concat())).collect()
}

/// Lines of commands.
pub fn commands() -> Vec<Vec<u8>> {
    let lines = [
        "SET k v",
        "GET k",
        "MSET a 1 b 2",
        "MGET a b",
        "INCRBY n -5",
        "DECRBY n 9223372036854775807",
        "SADD s a b",
        "SREM s a",
        "SISMEMBER s a",
        "HSET m f v g w",
        "HDEL m f",
        "HGETALL m",
        "ZADD z GT CH 1.5 m -inf n",
        "ZADD z INCR +1e308 m",
        "ZRANGE z (1 +inf BYSCORE REV LIMIT 0 -1 WITHSCORES",
        "ZRANGEBYLEX z [a (b",
        "ZPOPMIN z 3",
        "MEMORY USAGE z SAMPLES 0",
        "DEL a b",
        "EXISTS a a",
        "TYPE k",
        "KEYS so*[a-m]e?key",
        "SCAN 0 MATCH a* COUNT 5",
        "HELLO 3 SETNAME me",
        "CLIENT SETNAME x",
        "WAIT 2 100",
        "TIDE.WATCH PREFIX a FROM 5",
        "TIDE.RETIRE 00112233445566778899aabbccddeeff KEYSPACE notes FORCE",
        "TIDE.NETWORK offline",
        "TIDE.DURABILITY BUFFERED",
        "COMMAND DOCS get",
        "TIDE.ENTRY k",
        "FLUSHDB ASYNC",
        "SETNX a b",
        "PING hello",
        "ECHO x",
    ];
    lines.iter().map(|line| format!("{line}\r\n").into_bytes()).collect()
}

/// What a node answers.
pub fn answers() -> Vec<Vec<u8>> {
    let replies = [
        Reply::OK,
        Reply::error("ERR no"),
        Reply::Array(vec![Reply::Integer(-5), Reply::Null, Reply::text("a\r\nb"), Reply::NullArray]),
        Reply::Map(vec![(Reply::text("k"), Reply::Set(vec![Reply::Boolean(true), Reply::Double(1.5)]))]),
        Reply::Push(vec![Reply::Verbatim("some text".to_owned()), Reply::Double(f64::NEG_INFINITY)]),
    ];
    let mut answers = Vec::new();
    for reply in replies {
        for protocol in [Protocol::Resp2, Protocol::Resp3] {
            let mut bytes = Vec::new();
            reply.encode_into(protocol, &mut bytes);
            answers.push(bytes);
        }
    }
    answers
}

/// Requests: target, host, origin and body, each on a line.
pub fn requests() -> Vec<Vec<u8>> {
    let texts = [
        "/v1/keyspaces/notes/sets/list?contains=%ff+x\nlocalhost:8380\nhttp://localhost:8380\n",
        "/v1/keyspaces/notes/sets/list?durability=buffered\n127.0.0.1:8380\n\n{\"add\":[\"a\",{\"hex\":\"ff00\"}],\"remove\":[]}",
        "/v1/keyspaces/notes/maps/profile\n[::1]\n\n{\"put\":[{\"field\":\"f\",\"value\":\"v\"}],\"remove\":[\"g\"]}",
        "/v1/keyspaces/notes/sorted-sets/board?min=(1.5&max=inf&reverse=true\nlocalhost\n\n\
         {\"put\":[{\"member\":\"m\",\"score\":-0.5},{\"member\":\"n\",\"score\":\"inf\"}],\"remove\":[\"o\"]}",
        "/v1/keyspaces/notes/counters/edits\nlocalhost\n\n{\"add\":-9223372036854775808}",
        "/v1/keyspaces/notes/batch\nlocalhost\n\n{\"writes\":[{\"op\":\"set\",\"key\":\"k\",\"value\":\"v\"},\
         {\"op\":\"increment\",\"key\":\"k\",\"by\":1},\
         {\"op\":\"score\",\"key\":\"b\",\"member\":\"m\",\"score\":1.5},{\"op\":\"delete\",\"key\":{\"hex\":\"fe\"}}]}",
        "/v1/keyspaces/n/watch?prefix=&after=7\nlocalhost.evil.example.org\nhttp://evil.example.org\n",
        "http://localhost/v1/keyspaces/n/keys?limit=3&after=a&prefix=b\nlocalhost\n\n\"text\"",
    ];
    texts.map(|text| text.as_bytes().to_vec()).to_vec()
}

/// Configurations: the default one, and some with everything set.
pub fn configs() -> Vec<Vec<u8>> {
    let default = toml::to_string(&NodeConfig::default()).expect("a config is TOML");
    let texts = [
        default.as_str(),
        "",
        "cluster = \"c\"\nmdns = true\nname = \"n\"\n[redis]\nclients_max = 5\n",
        "keyspaces = [\"notes\", \"other\"]\npeers = [\"/ip4/127.0.0.1/tcp/7401\", \
         \"/dns4/example.org/udp/1/quic-v1\"]\n",
        "allow = [\"12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN\"]\ncache_bytes = 0x10_0000\n",
        "redis = { address = \"[::1]:0\", bulk_bytes_max = 1, array_elements_max = 1, command_bytes_max = 1025 }\n",
        "data = '''\n/tmp'''\n# a comment\nredis.input_bytes_max = 67_108_864\nredis.output_bytes_max = 1\n",
    ];
    texts.map(|text| text.as_bytes().to_vec()).to_vec()
}
