//! What COMMAND tells about commands beyond the table: the group that Redis puts each in, the categories of its access
//! lists, and what a command does to its keys.
//!
//! The lists name all commands of Redis 7 in these groups, so that one which is added to the table has its group already.

use super::table::Spec;

/// The groups of Redis, with the category that belongs to each, and their commands.
const GROUPS: &[(&str, &str, &str)] = &[
    ("bitmap", "bitmap", "bitcount bitfield bitfield_ro bitop bitpos getbit setbit"),
    ("cluster", "connection", "readonly readwrite"),
    ("connection", "connection", "auth client echo hello ping quit reset select"),
    (
        "generic",
        "keyspace",
        "copy del dump exists expire expireat expiretime keys migrate move object persist pexpire pexpireat \
         pexpiretime pttl randomkey rename renamenx restore scan sort sort_ro touch ttl type unlink wait waitaof",
    ),
    (
        "hash",
        "hash",
        "hdel hexists hget hgetall hincrby hincrbyfloat hkeys hlen hmget hmset hrandfield hscan hset hsetnx \
         hstrlen hvals",
    ),
    (
        "pubsub",
        "pubsub",
        "psubscribe publish pubsub punsubscribe spublish ssubscribe subscribe sunsubscribe unsubscribe",
    ),
    (
        "server",
        "",
        "acl bgrewriteaof bgsave command config dbsize debug failover flushall flushdb info lastsave latency \
         lolwut memory module monitor role save shutdown slowlog swapdb time",
    ),
    (
        "set",
        "set",
        "sadd scard sdiff sdiffstore sinter sintercard sinterstore sismember smembers smismember smove spop \
         srandmember srem sscan sunion sunionstore",
    ),
    (
        "sorted-set",
        "sortedset",
        "bzmpop bzpopmax bzpopmin zadd zcard zcount zdiff zdiffstore zincrby zinter zintercard zinterstore \
         zlexcount zmpop zmscore zpopmax zpopmin zrandmember zrange zrangebylex zrangebyscore zrangestore zrank \
         zrem zremrangebylex zremrangebyrank zremrangebyscore zrevrange zrevrangebylex zrevrangebyscore zrevrank \
         zscan zscore zunion zunionstore",
    ),
    (
        "string",
        "string",
        "append decr decrby get getdel getex getrange getset incr incrby incrbyfloat lcs mget mset msetnx \
         psetex set setex setnx setrange strlen substr",
    ),
    ("transactions", "transaction", "discard exec multi unwatch watch"),
];

/// The categories of a few commands, beyond that of their group.
const MORE_CATEGORIES: &[(&str, &str)] = &[
    ("connection", "command wait"),
    ("keyspace", "dbsize flushall flushdb swapdb"),
    ("admin", "config debug lastsave"),
    ("dangerous", "config debug flushall flushdb info keys lastsave swapdb"),
];

/// Their group says `keyspace`, and Redis does not.
const NOT_KEYSPACE: &str = "object wait";

/// The categories in the order in which Redis tells them.
pub(super) const CATEGORIES: &[&str] = &[
    "keyspace",
    "read",
    "write",
    "set",
    "sortedset",
    "hash",
    "string",
    "bitmap",
    "pubsub",
    "admin",
    "fast",
    "slow",
    "dangerous",
    "connection",
    "transaction",
];

/// What writes do to their first key, as the key specifications of Redis say it: overwrite, remove, or read and write.
const FIRST_KEYS: &[(&str, &[&str])] = &[
    ("mset psetex sdiffstore setex sunionstore zrangestore", &["OW", "update"]),
    ("msetnx setnx", &["OW", "insert"]),
    ("del unlink", &["RM", "delete"]),
    ("append hsetnx sadd", &["RW", "insert"]),
    ("hdel srem zrem zremrangebylex zremrangebyrank zremrangebyscore", &["RW", "delete"]),
    ("getdel rename renamenx smove spop zpopmax zpopmin", &["RW", "access", "delete"]),
    (
        "decr decrby getset hincrby hincrbyfloat incr incrby incrbyfloat move set setbit zincrby",
        &["RW", "access", "update"],
    ),
    ("exists hexists hlen hstrlen scard sismember strlen touch type watch zcard", &["RO"]),
    ("copy", &["RO", "access"]),
];

/// The same for their other keys, where it is not the same.
const OTHER_KEYS: &[(&str, &[&str])] = &[
    ("copy rename", &["OW", "update"]),
    ("renamenx", &["OW", "insert"]),
    ("smove", &["RW", "insert"]),
    ("sdiffstore sinterstore sunionstore zrangestore", &["RO", "access"]),
];

/// The group that a command is documented in.
pub(super) fn group(spec: &Spec) -> &'static str {
    if spec.name.starts_with("tide.") {
        return "tidelock";
    }
    let found = GROUPS.iter().find(|(.., names)| is_in(names, spec.name));
    found.map_or("generic", |(group, ..)| group)
}

/// Whether a command is in a category of Redis's access lists. The extensions have no category but for what they cost.
pub(super) fn is_in_category(spec: &Spec, category: &str) -> bool {
    let of_group =
        GROUPS.iter().find(|(.., names)| is_in(names, spec.name)).map(|(_, of_group, _)| *of_group);
    match category {
        "read" => spec.flags.contains(&"readonly") && spec.name != "object",
        "write" => spec.flags.contains(&"write"),
        "fast" => spec.flags.contains(&"fast"),
        "slow" => !spec.flags.contains(&"fast"),
        "keyspace" if is_in(NOT_KEYSPACE, spec.name) => false,
        _ => {
            of_group == Some(category)
                || MORE_CATEGORIES.iter().any(|(more, names)| *more == category && is_in(names, spec.name))
        }
    }
}

/// What a command does to its first key, or to another.
pub(super) fn key_flags(spec: &Spec, is_first: bool) -> &'static [&'static str] {
    let of = |list: &'static [(&str, &'static [&str])]| {
        list.iter().find(|(names, _)| is_in(names, spec.name)).map(|(_, flags)| *flags)
    };
    let others = if is_first { None } else { of(OTHER_KEYS) };
    others.or_else(|| of(FIRST_KEYS)).unwrap_or(if spec.flags.contains(&"write") {
        &["RW", "update"]
    } else {
        &["RO", "access"]
    })
}

fn is_in(names: &str, name: &str) -> bool {
    names.split_ascii_whitespace().any(|known| known == name)
}

#[cfg(test)]
mod tests {
    use super::super::table::COMMANDS;
    use super::*;

    #[test]
    fn every_command_is_in_a_group_and_in_categories() {
        for spec in COMMANDS.iter() {
            let is_known = GROUPS.iter().any(|(.., names)| is_in(names, spec.name));
            assert!(is_known || spec.name.starts_with("tide."), "{} has no group", spec.name);
            assert!(CATEGORIES.iter().any(|category| is_in_category(spec, category)), "{}", spec.name);
        }
    }

    #[test]
    fn categories_that_are_named_are_told() {
        let named = GROUPS.iter().map(|(_, category, _)| category).filter(|category| !category.is_empty());
        for category in named.chain(MORE_CATEGORIES.iter().map(|(category, _)| category)) {
            assert!(CATEGORIES.contains(category), "{category}");
        }
    }
}
