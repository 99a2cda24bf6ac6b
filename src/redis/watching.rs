//! `TIDE.WATCH`: what it is told to watch, and what it pushes.

use tidelock_engine::id::KeyspaceName;

use super::backend::{Backend, Pushed};
use super::call::Arguments;
use super::entry::kind_name;
use super::errors;
use super::reply::Reply;
use super::session::refused;
use super::tide::is;
use crate::keyspace::strong::{StrongChange, StrongOperation};
use crate::watch::{Change, Cursor, WatchEvent, WatchRange};

/// Where a watch begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Begin {
    /// Now, or behind a cursor of this node.
    Log(Option<Cursor>),
    /// Behind a revision of a strong keyspace.
    Revision(u64),
}

/// `TIDE.WATCH key [FROM cursor | AFTER revision]`, `TIDE.WATCH PREFIX prefix [FROM cursor | AFTER revision]`.
pub(super) fn watch(arguments: &Arguments) -> Result<(WatchRange, Begin), Reply> {
    let (range, begin) = match arguments.as_slice() {
        [key] => (WatchRange::Key(key.clone()), None),
        [word, prefix] if is(word, "prefix") => (WatchRange::Prefix(prefix.clone()), None),
        [key, word, number] => (WatchRange::Key(key.clone()), Some((word, number))),
        [word, prefix, begin, number] if is(word, "prefix") => {
            (WatchRange::Prefix(prefix.clone()), Some((begin, number)))
        }
        _ => return Err(errors::SYNTAX),
    };
    let number = |text: &[u8]| std::str::from_utf8(text).ok().and_then(|text| text.parse().ok());
    let begin = match begin {
        None => Begin::Log(None),
        Some((word, cursor)) if is(word, "from") => {
            let cursor = number(cursor).ok_or(errors::constant("ERR invalid cursor"))?;
            Begin::Log(Some(Cursor(cursor)))
        }
        Some((word, revision)) if is(word, "after") => {
            Begin::Revision(number(revision).ok_or(errors::constant("ERR invalid revision"))?)
        }
        Some(_) => return Err(errors::SYNTAX),
    };
    Ok((range, begin))
}

/// Begins what `TIDE.WATCH` asks for.
pub(super) fn begin<B: Backend>(
    backend: &B,
    keyspace: &KeyspaceName,
    arguments: &Arguments,
) -> Result<B::Watch, Reply> {
    let (range, begin) = watch(arguments)?;
    let watch = match begin {
        Begin::Log(from) => backend.watch(keyspace, range, from),
        Begin::Revision(revision) => backend.watch_after(keyspace, range, revision),
    };
    watch.map_err(refused)
}

/// What a watcher is pushed: `tide.change`, cursor, keyspace, key, kind, subkey, old, new, author, replayed; or
/// `tide.lagged` and a cursor. By revision: `tide.operation`, revision, keyspace, and its changes, each `written`, key,
/// kind, subkey, value, or `removed`, key, kind, subkey, or `key-removed`, key, or `all-removed`; or `tide.compacted`, the
/// revision behind which it goes on, and the keyspace; or `tide.ended`, the keyspace and a reason, and no more.
pub(super) fn pushed(watched: &Pushed) -> Reply {
    let about = |word: &str, revision: u64, keyspace: &KeyspaceName| {
        vec![Reply::text(word.to_owned()), Reply::count(revision), Reply::text(keyspace.as_str())]
    };
    Reply::Push(match watched {
        Pushed::Event(told) => event(told),
        Pushed::Operation(keyspace, StrongOperation { revision, changes }) => {
            let mut fields = about("tide.operation", *revision, keyspace);
            fields.push(Reply::Array(changes.iter().map(change).collect()));
            fields
        }
        Pushed::Compacted(keyspace, revision) => about("tide.compacted", *revision, keyspace),
        Pushed::Ended(keyspace, reason) => {
            vec![Reply::text("tide.ended"), Reply::text(keyspace.as_str()), Reply::text(reason.clone())]
        }
    })
}

fn change(change: &StrongChange) -> Reply {
    let of = |word: &'static str, key: &[u8]| vec![Reply::text(word), Reply::Bulk(key.to_vec())];
    Reply::Array(match change {
        StrongChange::Written { key, kind, subkey, value } => {
            let mut fields = of("written", key);
            fields.extend([
                Reply::text(kind_name(*kind)),
                Reply::Bulk(subkey.clone()),
                Reply::Bulk(value.clone()),
            ]);
            fields
        }
        StrongChange::Removed { key, kind, subkey } => {
            let mut fields = of("removed", key);
            fields.extend([Reply::text(kind_name(*kind)), Reply::Bulk(subkey.clone())]);
            fields
        }
        StrongChange::KeyRemoved { key } => of("key-removed", key),
        StrongChange::AllRemoved => vec![Reply::text("all-removed")],
    })
}

fn event(event: &WatchEvent) -> Vec<Reply> {
    match event {
        WatchEvent::Changed(Change {
            cursor,
            keyspace,
            key,
            kind,
            subkey,
            old,
            new,
            author,
            is_replayed,
        }) => vec![
            Reply::text("tide.change"),
            Reply::count(cursor.0),
            Reply::text(keyspace.as_str()),
            Reply::Bulk(key.clone()),
            Reply::text(kind_name(*kind)),
            Reply::Bulk(subkey.clone()),
            Reply::optional(old.clone()),
            Reply::optional(new.clone()),
            Reply::text(author.to_string()),
            Reply::Boolean(*is_replayed),
        ],
        WatchEvent::Lagged(cursor) => vec![Reply::text("tide.lagged"), Reply::count(cursor.0)],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::redis::reply::Protocol;
    use tidelock_engine::row::Kind;

    fn sent(what: &Pushed) -> String {
        let mut out = Vec::new();
        pushed(what).encode_into(Protocol::Resp3, &mut out);
        String::from_utf8(out).expect("the tests write text")
    }

    #[test]
    fn operations_are_pushed_with_all_that_they_changed() {
        let keyspace: KeyspaceName = "ks".parse().expect("a name");
        let key = || b"k".to_vec();
        let changes = vec![
            StrongChange::Written {
                key: key(),
                kind: Kind::Map,
                subkey: b"f".to_vec(),
                value: b"v".to_vec(),
            },
            StrongChange::Removed { key: key(), kind: Kind::Register, subkey: Vec::new() },
            StrongChange::KeyRemoved { key: key() },
            StrongChange::AllRemoved,
        ];
        let operation = StrongOperation { revision: 7, changes };
        let expected = ">4\r\n$14\r\ntide.operation\r\n:7\r\n$2\r\nks\r\n*4\r\n\
            *5\r\n$7\r\nwritten\r\n$1\r\nk\r\n$3\r\nmap\r\n$1\r\nf\r\n$1\r\nv\r\n\
            *4\r\n$7\r\nremoved\r\n$1\r\nk\r\n$8\r\nregister\r\n$0\r\n\r\n\
            *2\r\n$11\r\nkey-removed\r\n$1\r\nk\r\n*1\r\n$11\r\nall-removed\r\n";
        assert_eq!(sent(&Pushed::Operation(keyspace.clone(), operation)), expected);
        let expected = ">3\r\n$14\r\ntide.compacted\r\n:9\r\n$2\r\nks\r\n";
        assert_eq!(sent(&Pushed::Compacted(keyspace.clone(), 9)), expected);
        let expected = ">3\r\n$10\r\ntide.ended\r\n$2\r\nks\r\n$3\r\nwhy\r\n";
        assert_eq!(sent(&Pushed::Ended(keyspace, "why".to_owned())), expected);
    }
}
