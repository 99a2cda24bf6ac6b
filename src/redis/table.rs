//! The command table: what each command is called, how many arguments it takes, and what executes it. Its parts are in
//! the files of the families.

use std::sync::LazyLock;

use super::call::{Arguments, Call};
use super::reply::Reply;
use super::state::SessionState;
use super::{
    anchors, channels, conditional, connection, copies, edits, expiry, hashes, keys, latency, lcs, memory,
    objects, sets, slow_log, sorted_sets, strings, strong, substrings, tide, transaction,
};
use crate::pubsub::{PubSub, Space};

/// A command.
#[derive(Debug)]
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
#[derive(Clone, Copy, Debug)]
pub(super) enum Run {
    /// It becomes reads and writes of the selected keyspace.
    Data(fn(Arguments) -> Result<Call, Reply>),
    /// The state of the session suffices.
    Session(fn(&mut SessionState, Arguments) -> Reply),
    /// It is about messages, and done in its turn.
    Message(fn(&PubSub, Arguments) -> Reply),
    /// It needs the node, or the connection.
    Other(Other),
}

/// The commands that need more than arguments and session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Other {
    Auth,
    Client,
    Config,
    Hello,
    Reset,
    Quit,
    Select,
    Info,
    LastSave,
    Latency,
    SlowLog,
    Keys,
    Scan,
    ElementScan,
    FieldScan,
    MemberScan,
    FlushAll,
    As,
    Multi,
    Exec,
    Discard,
    Wait,
    Move,
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
    WatchKeys,
    UnwatchKeys,
    Anchor,
    Mode,
    Label,
    Outbox,
    Outcome,
    Revision,
    Backup,
    Compact,
    Export,
    Next,
    Rejoin,
    Replicas,
    Retire,
    Snapshot,
    Subscribe(Space),
    Unsubscribe(Space),
}

pub(super) const FAST: &[&str] = &["fast"];
pub(super) const READ: &[&str] = &["readonly"];
pub(super) const READ_FAST: &[&str] = &["readonly", "fast"];
/// The places of the keys are among the arguments.
pub(super) const READ_MOVABLE: &[&str] = &["readonly", "movablekeys"];
pub(super) const WRITE: &[&str] = &["write"];
pub(super) const WRITE_FAST: &[&str] = &["write", "fast"];
pub(super) const ALONE: &[&str] = &["no_multi"];
/// Nothing is to be said of it but that it may be queued.
pub(super) const QUEUED: &[&str] = &[];
pub(super) const ONE: (i64, i64, i64) = (1, 1, 1);
pub(super) const ALL: (i64, i64, i64) = (1, -1, 1);
pub(super) const PAIRS: (i64, i64, i64) = (1, -1, 2);
pub(super) const NONE: (i64, i64, i64) = (0, 0, 0);

/// A command as a line of a family's table.
pub(super) type Row = (&'static str, i64, &'static [&'static str], (i64, i64, i64), Run, &'static str);

/// The command of a line.
pub(super) const fn spec((name, arity, flags, keys, run, summary): Row) -> Spec {
    Spec { name, arity, flags, keys, summary, run }
}

/// The families, each in the file of what executes it.
const FAMILIES: &[&[Spec]] = &[
    anchors::COMMANDS,
    channels::COMMANDS,
    conditional::COMMANDS,
    connection::COMMANDS,
    copies::COMMANDS,
    edits::COMMANDS,
    expiry::COMMANDS,
    hashes::COMMANDS,
    keys::COMMANDS,
    latency::COMMANDS,
    lcs::COMMANDS,
    memory::COMMANDS,
    objects::COMMANDS,
    sets::COMMANDS,
    slow_log::COMMANDS,
    sorted_sets::COMMANDS,
    strings::COMMANDS,
    strong::COMMANDS,
    substrings::COMMANDS,
    tide::COMMANDS,
    transaction::COMMANDS,
];

/// All commands, in order of their names.
pub(super) static COMMANDS: LazyLock<Vec<&'static Spec>> = LazyLock::new(|| {
    let mut commands: Vec<&Spec> = FAMILIES.iter().copied().flatten().collect();
    commands.sort_by_key(|spec| spec.name);
    commands
});

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
        Some(COMMANDS[found])
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
        if is_in(REDIS) { Self::NotYet } else { Self::Unknown }
    }
}

/// The commands of Redis 7.
const REDIS: &str = "acl append asking auth bgrewriteaof bgsave bitcount bitfield bitfield_ro bitop bitpos blmove blmpop \
    blpop brpop brpoplpush bzmpop bzpopmax bzpopmin client cluster command config copy dbsize debug decr \
    decrby del discard dump echo eval eval_ro evalsha evalsha_ro exec exists expire expireat expiretime \
    failover fcall fcall_ro flushall flushdb function geoadd geodist geohash geopos georadius georadius_ro \
    georadiusbymember georadiusbymember_ro geosearch geosearchstore get getbit getdel getex getrange getset \
    hdel hello hexists hexpire hget hgetall hincrby hincrbyfloat hkeys hlen hmget hmset hpersist hpexpire \
    hpttl hrandfield hscan hset hsetnx hstrlen httl hvals incr incrby incrbyfloat info keys lastsave latency \
    lcs lindex linsert llen lmove lmpop lolwut lpop lpos lpush lpushx lrange lrem lset ltrim memory mget \
    migrate module monitor move mset msetnx multi object persist pexpire pexpireat pexpiretime pfadd pfcount \
    pfdebug pfmerge pfselftest ping psetex psubscribe psync pttl publish pubsub punsubscribe quit randomkey \
    readonly readwrite rename renamenx replconf replicaof reset restore restore-asking role rpop rpoplpush \
    rpush rpushx sadd save scan scard script sdiff sdiffstore select set setbit setex setnx setrange \
    shutdown sinter sintercard sinterstore sismember slaveof slowlog smembers smismember smove sort sort_ro \
    spop spublish srandmember srem sscan ssubscribe strlen subscribe substr sunion sunionstore sunsubscribe \
    swapdb sync time touch ttl type unlink unsubscribe unwatch wait waitaof watch xack xadd xautoclaim \
    xclaim xdel xgroup xinfo xlen xpending xrange xread xreadgroup xrevrange xsetid xtrim zadd zcard zcount \
    zdiff zdiffstore zincrby zinter zintercard zinterstore zlexcount zmpop zmscore zpopmax zpopmin \
    zrandmember zrange zrangebylex zrangebyscore zrangestore zrank zrem zremrangebylex zremrangebyrank \
    zremrangebyscore zrevrange zrevrangebylex zrevrangebyscore zrevrank zscan zscore zunion zunionstore";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_is_in_order_and_finds_every_command_in_any_case() {
        assert!(COMMANDS.is_sorted_by(|a, b| a.name < b.name), "no name is there twice");
        for spec in COMMANDS.iter() {
            assert_eq!(
                Spec::find(spec.name.to_ascii_uppercase().as_bytes()).map(|found| found.name),
                Some(spec.name)
            );
        }
        assert!(Spec::find(b"").is_none());
        assert!(Spec::find(&[b'g'; 100]).is_none());
        assert!(Spec::find(b"get\0").is_none());
    }

    #[test]
    fn every_command_that_writes_is_documented() {
        let documented = include_str!("../../docs/redis.md");
        let is_in_word = |c: char| c.is_ascii_alphanumeric() || c == '.';
        let words: std::collections::BTreeSet<&str> = documented.split(|c| !is_in_word(c)).collect();
        let writes = COMMANDS.iter().filter(|spec| spec.flags.contains(&"write"));
        let names: Vec<String> = writes.map(|spec| spec.name.to_ascii_uppercase()).collect();
        let missing: Vec<&String> = names.iter().filter(|name| !words.contains(name.as_str())).collect();
        assert!(names.len() > 50 && missing.is_empty(), "not in docs/redis.md: {missing:?}");
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
        assert_eq!(Foreign::of(b"XADD"), Foreign::NotYet);
        assert_eq!(Foreign::of(b"frobnicate"), Foreign::Unknown);
        assert_eq!(Foreign::of(b"\xff"), Foreign::Unknown);
    }
}
