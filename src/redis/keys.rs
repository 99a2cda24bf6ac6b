//! The commands about keys of any type, and the pages of KEYS and SCAN.

use tidelock_engine::id::KeyspaceName;
use tidelock_engine::ports::Durability;
use tidelock_engine::read::{Answer, Entry, KeyPage, PAGE_KEYS_MAX, Query};
use tidelock_engine::replica::Label;
use tidelock_engine::request::{Action, ActionError, ActionReply, Atomicity, Request};
use tidelock_engine::write::Write;

use super::asking::Asking;
use super::backend::Backend;
use super::call::{Arguments, Call, Given, Shape, sum, type_name};
use super::cursors::Scanned;
use super::entry;
use super::errors;
use super::glob;
use super::reply::Reply;
use super::sets::seed;
use super::state::Shared;
use super::table::{ALL, NONE, ONE, Other, READ, READ_FAST, Run, Spec, WRITE, WRITE_FAST, spec};

/// The commands of this family.
pub(super) const COMMANDS: &[Spec] = &[
    spec(("dbsize", 1, READ_FAST, NONE, Run::Data(dbsize), "Counts the keys of the keyspace")),
    spec(("del", -2, WRITE, ALL, Run::Data(del), "Removes keys")),
    spec(("randomkey", 1, READ, NONE, Run::Data(random_key), "Names some key of the keyspace")),
    spec(("touch", -2, READ_FAST, ALL, Run::Data(exists), "Counts those keys that exist")),
    spec(("unlink", -2, WRITE_FAST, ALL, Run::Data(del), "Removes keys")),
    spec(("exists", -2, READ_FAST, ALL, Run::Data(exists), "Counts those keys that exist")),
    spec((
        "flushall",
        -1,
        &["write", "no_multi"],
        NONE,
        Run::Other(Other::FlushAll),
        "Removes all keys of all keyspaces of the node",
    )),
    spec(("flushdb", -1, WRITE, NONE, Run::Data(flushdb), "Removes all keys of the keyspace")),
    spec((
        "keys",
        2,
        &["readonly", "no_multi"],
        NONE,
        Run::Other(Other::Keys),
        "Lists the keys that match a pattern",
    )),
    spec(("scan", -2, &["readonly", "no_multi"], NONE, Run::Other(Other::Scan), "Lists keys page by page")),
    spec(("tide.conflicts", 2, READ, ONE, Run::Data(conflicts), "Lists what lost to concurrent writes")),
    spec(("tide.entry", 2, READ, ONE, Run::Data(entry), "Lists all rows of a key")),
    spec(("type", 2, READ_FAST, ONE, Run::Data(kind), "Tells the type of a key")),
];

pub(super) fn exists(arguments: Arguments) -> Result<Call, Reply> {
    let keys = arguments.keys()?;
    Ok(Call::each(keys.into_iter().map(|key| Action::Query(Query::Kind(key))), Shape::made(existing, false)))
}

fn existing(given: &mut Vec<Given>) -> Reply {
    sum(given, |reply| u64::from(matches!(reply, ActionReply::Answer(Answer::Kind(Some(_))))))
}

pub(super) fn kind(mut arguments: Arguments) -> Result<Call, Reply> {
    Ok(Call::query(Query::Kind(arguments.key()?), Shape::Type))
}

pub(super) fn del(arguments: Arguments) -> Result<Call, Reply> {
    let keys = arguments.keys()?;
    Ok(Call::each(keys.into_iter().map(|key| Action::Write(Write::Delete { key })), Shape::Count))
}

#[expect(clippy::unnecessary_wraps, reason = "a row of the command table")]
pub(super) fn dbsize(_: Arguments) -> Result<Call, Reply> {
    Ok(Call::query(Query::Size, Shape::Count))
}

/// ASYNC and SYNC are the same here: the rows go at once, and their space later.
pub(super) fn flushdb(arguments: Arguments) -> Result<Call, Reply> {
    check_flush(arguments)?;
    Ok(Call::write(Write::Clear, Shape::Done))
}

fn check_flush(mut arguments: Arguments) -> Result<(), Reply> {
    let option = arguments.next();
    let is_known = option
        .is_none_or(|option| option.eq_ignore_ascii_case(b"async") || option.eq_ignore_ascii_case(b"sync"));
    if is_known && arguments.len() == 0 { Ok(()) } else { Err(errors::SYNTAX) }
}

/// `FLUSHALL [ASYNC | SYNC]`: every keyspace that the node holds is cleared as FLUSHDB does it, each by itself, on all
/// peers that have it. If some are not, the answer names the first of them, and nothing is said of the others.
pub(super) async fn flushall<B: Backend>(
    backend: &B,
    durability: Durability,
    arguments: Arguments,
) -> Result<Reply, Reply> {
    check_flush(arguments)?;
    let names: Vec<KeyspaceName> = backend.keyspaces().into_iter().map(|keyspace| keyspace.name).collect();
    let request = |keyspace: &KeyspaceName| Request {
        keyspace: keyspace.clone(),
        actions: vec![Action::Write(Write::Clear)],
        atomicity: Atomicity::Each,
        durability,
    };
    let replies = backend.submit(names.iter().map(request).collect()).await;
    let failed = names.iter().zip(&replies).find_map(|(name, reply)| match reply {
        Ok(given) => {
            given.iter().find_map(|given| given.as_ref().err()).map(|error| (name, error.to_string()))
        }
        Err(error) => Some((name, error.to_string())),
    });
    // Others may have been cleared, so no word may say that nothing was done.
    Ok(failed.map_or(Reply::OK, |(name, reason)| {
        Reply::error(format!("UNKNOWN keyspace {name} was not cleared, and others may be: {reason}"))
    }))
}

pub(super) fn entry(mut arguments: Arguments) -> Result<Call, Reply> {
    Ok(Call::query(Query::Entry(arguments.key()?), Shape::of_one(|reply| rows(reply, entry::entry), true)))
}

pub(super) fn conflicts(mut arguments: Arguments) -> Result<Call, Reply> {
    Ok(Call::query(
        Query::Entry(arguments.key()?),
        Shape::of_one(|reply| rows(reply, |entry| entry::conflicts(&entry)), true),
    ))
}

#[expect(clippy::unnecessary_wraps, reason = "a row of the command table")]
fn random_key(_: Arguments) -> Result<Call, Reply> {
    Ok(Call::query(Query::RandomKey(seed()), Shape::Value))
}

fn rows(reply: ActionReply, show: fn(Entry) -> Reply) -> Reply {
    let ActionReply::Answer(Answer::Entry(entry)) = reply else {
        unreachable!("the rows of a key were asked for")
    };
    show(entry)
}

/// The keys that KEYS reads from one snapshot: at the longest, keys of a page hold 64 MiB.
const KEYS_PAGE: usize = 1_000;

/// What KEYS and SCAN read from.
#[derive(Debug)]
pub(super) struct Pages<'a, B> {
    pub(super) backend: &'a B,
    pub(super) asking: Asking<'a>,
    pub(super) shared: &'a Shared,
    /// What the last page saw of a strong keyspace, if that was less than all that was acknowledged.
    pub(super) label: Option<Label>,
}

impl<B: Backend> Pages<'_, B> {
    /// All keys that match, which may be too many to answer. Each page is a snapshot of its own, so other
    /// clients are served in between; a key that is there throughout is listed.
    pub(super) async fn keys(&mut self, pattern: &[u8]) -> Reply {
        let mut page = KeyPage { prefix: glob::prefix(pattern), after: None, count: KEYS_PAGE };
        let (mut found, mut bytes) = (Vec::new(), 0);
        loop {
            let keys = match self.page(page.clone()).await {
                Ok(keys) => keys,
                Err(refused) => return refused,
            };
            let is_last = keys.len() < page.count;
            page.after = keys.last().cloned();
            found.extend(keys.into_iter().filter(|key| glob::matches(pattern, key)).map(|key| {
                bytes += key.len();
                Reply::Bulk(key)
            }));
            if bytes > self.shared.config.client_output_bytes_max {
                return too_long(self.shared.config.client_output_bytes_max);
            }
            if is_last {
                return Reply::Array(found);
            }
            tokio::task::yield_now().await;
        }
    }

    /// `SCAN cursor [MATCH pattern] [COUNT count] [TYPE type]`. The count is of keys looked at.
    pub(super) async fn scan(&mut self, arguments: Arguments) -> Reply {
        self.scan_page(arguments).await.unwrap_or_else(|refused| refused)
    }

    async fn scan_page(&mut self, mut arguments: Arguments) -> Result<Reply, Reply> {
        let after = self.position(Scanned::Keys, &arguments.take())?;
        let options = ScanOptions::parse(arguments)?;
        let count = options.count;
        let prefix = options.pattern.as_deref().map(glob::prefix).unwrap_or_default();
        let mut keys = self.page(KeyPage { prefix, after, count }).await?;
        let last = if keys.len() < count { None } else { keys.last().cloned() };
        if let Some(pattern) = &options.pattern {
            keys.retain(|key| glob::matches(pattern, key));
        }
        if let Some(kind) = &options.kind {
            keys = self.of_type(keys, kind).await?;
        }
        Ok(self.scanned(Scanned::Keys, last, keys.into_iter().map(Reply::Bulk).collect()))
    }

    /// The reply of a scan: a page, and a cursor that goes on behind it, if there is more.
    pub(super) fn scanned(&self, what: Scanned, behind: Option<Vec<u8>>, page: Vec<Reply>) -> Reply {
        let mut cursors = self.shared.cursors.lock().expect("no holder of the lock panics");
        let cursor = behind.map_or(0, |behind| cursors.insert(what, behind));
        Reply::Array(vec![Reply::text(cursor.to_string()), Reply::Array(page)])
    }

    /// What a cursor goes on behind; 0 begins.
    pub(super) fn position(&self, what: Scanned, cursor: &[u8]) -> Result<Option<Vec<u8>>, Reply> {
        let cursor = std::str::from_utf8(cursor).ok().and_then(|text| text.parse::<u64>().ok());
        let cursor = cursor.ok_or(errors::constant("ERR invalid cursor"))?;
        if cursor == 0 {
            return Ok(None);
        }
        let position =
            self.shared.cursors.lock().expect("no holder of the lock panics").position(what, cursor);
        let gone = errors::constant("ERR invalid cursor: it is unknown or too old, begin again with 0");
        position.map(Some).ok_or(gone)
    }

    async fn page(&mut self, page: KeyPage) -> Result<Vec<Vec<u8>>, Reply> {
        match self.read(vec![Query::Keys(page)]).await?.pop() {
            Some(Ok(Answer::List(keys))) => Ok(keys),
            Some(Err(error)) => Err(errors::action(&error)),
            _ => Ok(Vec::new()),
        }
    }

    async fn of_type(&mut self, keys: Vec<Vec<u8>>, kind: &[u8]) -> Result<Vec<Vec<u8>>, Reply> {
        if keys.is_empty() {
            return Ok(keys);
        }
        let queries: Vec<Query> = keys.iter().cloned().map(Query::Kind).collect();
        let kinds = self.read(queries).await?;
        let of_type = keys.into_iter().zip(kinds).filter(|(_, answer)| match answer {
            Ok(Answer::Kind(Some(found))) => type_name(Some(*found)).as_bytes().eq_ignore_ascii_case(kind),
            _ => false,
        });
        Ok(of_type.map(|(key, _)| key).collect())
    }

    /// Neither a page nor the kinds of keys come near the bound.
    pub(super) async fn read(
        &mut self,
        queries: Vec<Query>,
    ) -> Result<Vec<Result<Answer, ActionError>>, Reply> {
        let (answers, label) = self.asking.ask(self.backend, queries).await?;
        self.label = label;
        Ok(answers)
    }
}

/// The answer instead of one that is too long.
pub(super) fn too_long(bytes_max: usize) -> Reply {
    Reply::error(format!("ERR the reply is longer than the {bytes_max} bytes that a client may leave unread"))
}

/// The options of SCAN.
#[derive(Debug)]
pub(super) struct ScanOptions {
    pub(super) pattern: Option<Vec<u8>>,
    pub(super) kind: Option<Vec<u8>>,
    pub(super) count: usize,
}

/// The keys that SCAN looks at when it is not told, as in Redis.
const SCAN_KEYS_DEFAULT: usize = 10;

impl ScanOptions {
    pub(super) fn parse(mut arguments: Arguments) -> Result<Self, Reply> {
        let mut options = Self { pattern: None, kind: None, count: SCAN_KEYS_DEFAULT };
        while let Some(option) = arguments.next() {
            let value = arguments.next().ok_or(errors::SYNTAX)?;
            match option.to_ascii_lowercase().as_slice() {
                b"match" => options.pattern = Some(value),
                b"type" => options.kind = Some(value),
                b"count" => {
                    let count = usize::try_from(errors::integer(&value)?).map_err(|_| errors::SYNTAX)?;
                    if count == 0 {
                        return Err(errors::SYNTAX);
                    }
                    options.count = count.min(PAGE_KEYS_MAX);
                }
                _ => return Err(errors::SYNTAX),
            }
        }
        Ok(options)
    }
}
