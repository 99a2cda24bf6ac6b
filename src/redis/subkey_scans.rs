//! SSCAN, HSCAN and ZSCAN: the elements of a set, the fields of a hash and the members of a sorted set, page by page.
//!
//! A page costs what is on it, however many there are, and what is there throughout is listed.

use tidelock_engine::read::{
    Answer, Collection, PAGE_BYTES_MAX, PAGE_SUBKEYS_MAX, Query, Scored, SubkeyPage,
};

use super::asking::Asking;
use super::backend::Backend;
use super::call::Arguments;
use super::cursors::Scanned;
use super::errors;
use super::glob;
use super::keys::{Pages, ScanOptions};
use super::reply::Reply;
use super::scores;
use super::session::Session;
use super::table::Other;

impl<B: Backend> Session<B> {
    /// Answers a command that lists page by page.
    pub(super) async fn scan(&mut self, what: Other, mut arguments: Arguments) -> Result<Reply, Reply> {
        let is_strong = self.is_strong();
        let asking = Asking { keyspace: &self.state.keyspace, freshness: self.state.freshness };
        let mut pages = Pages { backend: &self.backend, asking, shared: &self.shared, label: None };
        let reply = match what {
            Other::Keys => Ok(pages.keys(&arguments.take()).await),
            Other::Scan => Ok(pages.scan(arguments).await),
            Other::ElementScan => pages.scan_subkeys(Collection::Set, arguments).await,
            Other::FieldScan => pages.scan_subkeys(Collection::Map, arguments).await,
            Other::MemberScan => pages.scan_subkeys(Collection::Sorted, arguments).await,
            _ => unreachable!("it lists nothing"),
        };
        if is_strong {
            self.burst.saw(pages.label);
        }
        reply
    }
}

impl<B: Backend> Pages<'_, B> {
    /// `SSCAN key cursor [MATCH pattern] [COUNT count]`, HSCAN and ZSCAN. The count is of what is looked at.
    pub(super) async fn scan_subkeys(
        &mut self,
        collection: Collection,
        mut arguments: Arguments,
    ) -> Result<Reply, Reply> {
        let key = arguments.key()?;
        let scanned = match collection {
            Collection::Set => Scanned::Elements,
            Collection::Map => Scanned::Fields,
            Collection::Sorted => Scanned::Scores,
        };
        let after = self.position(scanned, &arguments.take())?;
        let ScanOptions { pattern, kind, count } = ScanOptions::parse(arguments)?;
        if kind.is_some() {
            return Err(errors::SYNTAX);
        }
        let count = count.min(PAGE_SUBKEYS_MAX);
        let page = SubkeyPage { key, collection, after, count };
        let answer = match self.read(vec![Query::Page(page)]).await?.pop() {
            Some(answer) => answer.map_err(|error| errors::action(&error))?,
            None => return Err(errors::SYNTAX),
        };
        let is_full = answer.bytes() >= PAGE_BYTES_MAX;
        let found: Vec<(Vec<u8>, Option<Vec<u8>>)> = match answer {
            Answer::List(elements) => elements.into_iter().map(|element| (element, None)).collect(),
            Answer::Scored(scored) => {
                let text = |(member, score): Scored| (member, Some(scores::print(score.get()).into_bytes()));
                scored.into_iter().map(text).collect()
            }
            Answer::Pairs(pairs) => pairs.into_iter().map(|(field, value)| (field, Some(value))).collect(),
            _ => unreachable!("a page was asked for"),
        };
        let last = found.last().filter(|_| is_full || found.len() == count).map(|(name, _)| name.clone());
        let is_wanted = |name: &Vec<u8>| pattern.as_ref().is_none_or(|pattern| glob::matches(pattern, name));
        let wanted = found.into_iter().filter(|(name, _)| is_wanted(name));
        let page = wanted.flat_map(|(name, value)| std::iter::once(name).chain(value)).map(Reply::Bulk);
        Ok(self.scanned(scanned, last, page.collect()))
    }
}
