//! The command table: what each command is called, how many arguments it takes, and what executes it.

use super::call::{Arguments, Call};
use super::reply::Reply;
use super::state::SessionState;
use super::{connection, hashes, introspection, keys, sets, strings};

/// A command.
pub(super) struct Spec {
    /// In lower case.
    pub(super) name: &'static str,
    /// The arguments with the name; negative if that is the least number, as in Redis.
    pub(super) arity: i64,
    /// As COMMAND lists them. `no_multi`: not inside MULTI.
    pub(super) flags: &'static [&'static str],
    /// The place of the first key, of the last (negative from the end), and the step between keys.
    pub(super) keys: (i64, i64, i64),
    /// What it does.
    pub(super) summary: &'static str,
    /// What executes it.
    pub(super) run: Run,
}

/// What executes a command.
#[derive(Clone, Copy)]
pub(super) enum Run {
    /// It becomes reads and writes of the selected keyspace.
    Data(fn(Arguments) -> Result<Call, Reply>),
    /// The state of the session suffices.
    Session(fn(&mut SessionState, Arguments) -> Reply),
    /// It needs the node, or the connection.
    Other(Other),
}

/// The commands that need more than arguments and session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Other {
    Hello,
    Quit,
    Select,
    Info,
    Keys,
    Scan,
    Multi,
    Exec,
    Discard,
    Wait,
    Status,
    Peers,
    Keyspaces,
    Keyspace,
    Fingerprint,
    Connect,
    Document,
    Network,
    Watch,
    Unwatch,
    Backup,
    Compact,
    Export,
    Next,
    Rejoin,
    Replicas,
    Retire,
}

const FAST: &[&str] = &["fast"];
const READ: &[&str] = &["readonly"];
const READ_FAST: &[&str] = &["readonly", "fast"];
const WRITE: &[&str] = &["write"];
const WRITE_FAST: &[&str] = &["write", "fast"];
const ALONE: &[&str] = &["no_multi"];
const ONE: (i64, i64, i64) = (1, 1, 1);
const ALL: (i64, i64, i64) = (1, -1, 1);
const PAIRS: (i64, i64, i64) = (1, -1, 2);
const NONE: (i64, i64, i64) = (0, 0, 0);

type Row = (&'static str, i64, &'static [&'static str], (i64, i64, i64), Run, &'static str);

const fn spec((name, arity, flags, keys, run, summary): Row) -> Spec {
    Spec { name, arity, flags, keys, summary, run }
}

/// All commands, in order of their names.
pub(super) static COMMANDS: &[Spec] = &[
    spec((
        "client",
        -2,
        ALONE,
        NONE,
        Run::Session(connection::client),
        "Names the connection and tells its id",
    )),
    spec(("command", -1, ALONE, NONE, Run::Session(introspection::command), "Lists the commands")),
    spec(("dbsize", 1, READ_FAST, NONE, Run::Data(keys::dbsize), "Counts the keys of the keyspace")),
    spec(("decr", 2, WRITE_FAST, ONE, Run::Data(strings::decr), "Counts one down")),
    spec(("decrby", 3, WRITE_FAST, ONE, Run::Data(strings::decrby), "Counts down")),
    spec(("del", -2, WRITE, ALL, Run::Data(keys::del), "Removes keys")),
    spec(("discard", 1, FAST, NONE, Run::Other(Other::Discard), "Forgets the queued commands")),
    spec(("echo", 2, FAST, NONE, Run::Session(connection::echo), "Answers its argument")),
    spec(("exec", 1, FAST, NONE, Run::Other(Other::Exec), "Executes the queued commands as one batch")),
    spec(("exists", -2, READ_FAST, ALL, Run::Data(keys::exists), "Counts those keys that exist")),
    spec(("flushdb", -1, WRITE, NONE, Run::Data(keys::flushdb), "Removes all keys of the keyspace")),
    spec(("get", 2, READ_FAST, ONE, Run::Data(strings::get), "Reads a value")),
    spec(("hdel", -3, WRITE_FAST, ONE, Run::Data(hashes::hdel), "Removes fields")),
    spec(("hello", -1, ALONE, NONE, Run::Other(Other::Hello), "Chooses the protocol")),
    spec(("hget", 3, READ_FAST, ONE, Run::Data(hashes::hget), "Reads a field")),
    spec(("hgetall", 2, READ, ONE, Run::Data(hashes::hgetall), "Reads all fields")),
    spec(("hlen", 2, READ_FAST, ONE, Run::Data(hashes::hlen), "Counts fields")),
    spec(("hset", -4, WRITE_FAST, ONE, Run::Data(hashes::hset), "Writes fields")),
    spec(("incr", 2, WRITE_FAST, ONE, Run::Data(strings::incr), "Counts one up")),
    spec(("incrby", 3, WRITE_FAST, ONE, Run::Data(strings::incrby), "Counts up")),
    spec(("info", -1, ALONE, NONE, Run::Other(Other::Info), "Describes the node as text")),
    spec((
        "keys",
        2,
        &["readonly", "no_multi"],
        NONE,
        Run::Other(Other::Keys),
        "Lists the keys that match a pattern",
    )),
    spec(("mget", -2, READ_FAST, ALL, Run::Data(strings::mget), "Reads values")),
    spec(("mset", -3, WRITE, PAIRS, Run::Data(strings::mset), "Writes values, all or none")),
    spec(("multi", 1, FAST, NONE, Run::Other(Other::Multi), "Begins to queue commands")),
    spec(("ping", -1, FAST, NONE, Run::Session(connection::ping), "Answers PONG")),
    spec(("quit", -1, ALONE, NONE, Run::Other(Other::Quit), "Closes the connection")),
    spec(("sadd", -3, WRITE_FAST, ONE, Run::Data(sets::sadd), "Adds elements")),
    spec(("scan", -2, &["readonly", "no_multi"], NONE, Run::Other(Other::Scan), "Lists keys page by page")),
    spec(("scard", 2, READ_FAST, ONE, Run::Data(sets::scard), "Counts elements")),
    spec(("select", 2, ALONE, NONE, Run::Other(Other::Select), "Selects a keyspace by number or name")),
    spec(("set", -3, WRITE, ONE, Run::Data(strings::set), "Writes a value")),
    spec((
        "sismember",
        3,
        READ_FAST,
        ONE,
        Run::Data(sets::sismember),
        "Tells whether an element is in a set",
    )),
    spec(("smembers", 2, READ, ONE, Run::Data(sets::smembers), "Reads all elements")),
    spec(("srem", -3, WRITE_FAST, ONE, Run::Data(sets::srem), "Removes elements")),
    spec(("tide.backup", 1, ALONE, NONE, Run::Other(Other::Backup), "Begins a backup; TIDE.NEXT reads it")),
    spec((
        "tide.compact",
        -1,
        ALONE,
        NONE,
        Run::Other(Other::Compact),
        "Gives back what the files do not use, or tells how far that is",
    )),
    spec((
        "tide.conflicts",
        2,
        READ,
        ONE,
        Run::Data(keys::conflicts),
        "Lists what lost to concurrent writes",
    )),
    spec(("tide.connect", 2, ALONE, NONE, Run::Other(Other::Connect), "Connects to a peer")),
    spec((
        "tide.doc",
        -3,
        &["write", "no_multi"],
        (2, 2, 1),
        Run::Other(Other::Document),
        "Reads, edits, saves and merges documents",
    )),
    spec((
        "tide.durability",
        -1,
        ALONE,
        NONE,
        Run::Session(connection::durability),
        "Chooses when writes are acknowledged",
    )),
    spec(("tide.entry", 2, READ, ONE, Run::Data(keys::entry), "Lists all rows of a key")),
    spec((
        "tide.export",
        1,
        ALONE,
        NONE,
        Run::Other(Other::Export),
        "Begins an export of the keyspace; TIDE.NEXT reads it",
    )),
    spec((
        "tide.fingerprint",
        -1,
        ALONE,
        NONE,
        Run::Other(Other::Fingerprint),
        "Sums up a keyspace in one text",
    )),
    spec((
        "tide.keyspace",
        -3,
        ALONE,
        NONE,
        Run::Other(Other::Keyspace),
        "Joins or leaves a keyspace, or limits what it may hold",
    )),
    spec(("tide.keyspaces", 1, ALONE, NONE, Run::Other(Other::Keyspaces), "Lists the keyspaces of the node")),
    spec(("tide.network", 2, ALONE, NONE, Run::Other(Other::Network), "Goes offline or online")),
    spec((
        "tide.next",
        1,
        ALONE,
        NONE,
        Run::Other(Other::Next),
        "Reads the next piece of a backup or export, nothing at its end",
    )),
    spec(("tide.peers", 1, ALONE, NONE, Run::Other(Other::Peers), "Lists the peers")),
    spec((
        "tide.rejoin",
        1,
        ALONE,
        NONE,
        Run::Other(Other::Rejoin),
        "Goes on as another replica after a fork or a retirement",
    )),
    spec(("tide.replicas", 1, ALONE, NONE, Run::Other(Other::Replicas), "Lists who has ever written")),
    spec((
        "tide.retire",
        -2,
        ALONE,
        NONE,
        Run::Other(Other::Retire),
        "Says that a replica will never write again",
    )),
    spec(("tide.status", 1, ALONE, NONE, Run::Other(Other::Status), "Describes the node")),
    spec(("tide.unwatch", 1, ALONE, NONE, Run::Other(Other::Unwatch), "Ends TIDE.WATCH")),
    spec(("tide.watch", -2, ALONE, NONE, Run::Other(Other::Watch), "Pushes changes as they happen")),
    spec(("type", 2, READ_FAST, ONE, Run::Data(keys::kind), "Tells the type of a key")),
    spec(("wait", 3, ALONE, NONE, Run::Other(Other::Wait), "Waits until peers have the writes on disk")),
];

/// The longest name of a command, in bytes.
const NAME_BYTES_MAX: usize = 16;

impl Spec {
    /// The command of this name, in any case.
    pub(super) fn find(name: &[u8]) -> Option<&'static Self> {
        let mut lower = [0; NAME_BYTES_MAX];
        let lower = lower.get_mut(..name.len())?;
        lower.copy_from_slice(name);
        lower.make_ascii_lowercase();
        let found = COMMANDS.binary_search_by(|spec| spec.name.as_bytes().cmp(lower)).ok()?;
        Some(&COMMANDS[found])
    }

    /// Whether this many arguments, with the name, may be right.
    pub(super) fn takes(&self, count: usize) -> bool {
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        if self.arity < 0 { count >= -self.arity } else { count == self.arity }
    }

    /// Whether it may be queued by MULTI.
    pub(super) fn may_be_queued(&self) -> bool {
        !self.flags.contains(&"no_multi")
    }
}

/// What a name stands for that is not in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Foreign {
    /// Redis has it; it compares before it writes, which an eventual keyspace cannot.
    NeedsStrong,
    /// Redis has it, and tidelock does not yet.
    NotYet,
    /// Nobody knows it.
    Unknown,
}

impl Foreign {
    /// What the name of a command that is not in the table stands for.
    pub(super) fn of(name: &[u8]) -> Self {
        let Ok(name) = std::str::from_utf8(name) else { return Self::Unknown };
        let name = name.to_ascii_lowercase();
        let is_in = |list: &str| list.split_ascii_whitespace().any(|known| known == name);
        if is_in(NEED_STRONG) {
            Self::NeedsStrong
        } else if is_in(NOT_YET) {
            Self::NotYet
        } else {
            Self::Unknown
        }
    }
}

const NEED_STRONG: &str = "getset hsetnx msetnx renamenx setnx watch";

/// The commands of Redis 7 that are neither in the table nor in [`NEED_STRONG`].
const NOT_YET: &str = "acl append asking auth bgrewriteaof bgsave bitcount bitfield bitfield_ro bitop bitpos \
    blmove blmpop blpop brpop brpoplpush bzmpop bzpopmax bzpopmin cluster config copy debug dump eval eval_ro \
    evalsha evalsha_ro expire expireat expiretime failover fcall fcall_ro flushall function geoadd geodist \
    geohash geopos georadius georadius_ro georadiusbymember georadiusbymember_ro geosearch geosearchstore \
    getbit getdel getex getrange hexists hexpire hincrby hincrbyfloat hkeys hmget hmset hpersist hpexpire \
    hpttl hrandfield hscan hstrlen httl hvals incrbyfloat lastsave latency lcs lindex linsert llen lmove lmpop \
    lolwut lpop lpos lpush lpushx lrange lrem lset ltrim memory migrate module monitor move object persist \
    pexpire pexpireat pexpiretime pfadd pfcount pfdebug pfmerge pfselftest psetex psubscribe psync pttl publish \
    pubsub punsubscribe randomkey readonly readwrite rename replconf replicaof reset restore restore-asking \
    role rpop rpoplpush rpush rpushx save script sdiff sdiffstore setbit setex setrange shutdown sinter \
    sintercard sinterstore slaveof slowlog smismember smove sort sort_ro spop spublish srandmember sscan \
    ssubscribe strlen subscribe substr sunion sunionstore sunsubscribe swapdb sync time touch ttl unlink \
    unsubscribe unwatch waitaof xack xadd xautoclaim xclaim xdel xgroup xinfo xlen xpending xrange xread \
    xreadgroup xrevrange xsetid xtrim zadd zcard zcount zdiff zdiffstore zincrby zinter zintercard zinterstore \
    zlexcount zmpop zmscore zpopmax zpopmin zrandmember zrange zrangebylex zrangebyscore zrangestore zrank zrem \
    zremrangebylex zremrangebyrank zremrangebyscore zrevrange zrevrangebylex zrevrangebyscore zrevrank zscan \
    zscore zunion zunionstore";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_is_in_order_and_finds_every_command_in_any_case() {
        assert!(COMMANDS.is_sorted_by(|a, b| a.name < b.name));
        for spec in COMMANDS {
            assert_eq!(
                Spec::find(spec.name.to_ascii_uppercase().as_bytes()).map(|found| found.name),
                Some(spec.name)
            );
            assert_eq!(Foreign::of(spec.name.as_bytes()), Foreign::Unknown, "{}", spec.name);
        }
        assert!(Spec::find(b"").is_none());
        assert!(Spec::find(&[b'g'; 100]).is_none());
        assert!(Spec::find(b"get\0").is_none());
    }

    #[test]
    fn arity_is_the_number_or_the_least_number() {
        let get = Spec::find(b"get").expect("it is in the table");
        assert_eq!([1, 2, 3].map(|count| get.takes(count)), [false, true, false]);
        let del = Spec::find(b"del").expect("it is in the table");
        assert_eq!([1, 2, 3].map(|count| del.takes(count)), [false, true, true]);
    }

    #[test]
    fn commands_of_redis_that_are_missing_are_known() {
        assert_eq!(Foreign::of(b"EXPIRE"), Foreign::NotYet);
        assert_eq!(Foreign::of(b"SetNx"), Foreign::NeedsStrong);
        assert_eq!(Foreign::of(b"frobnicate"), Foreign::Unknown);
        assert_eq!(Foreign::of(b"\xff"), Foreign::Unknown);
    }
}
