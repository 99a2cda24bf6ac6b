//! What queries must answer, by the specification.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use tidelock_engine::crdt::VisibleKind;
use tidelock_engine::read::{
    Answer, Collection, KeyPage, Pair, Query, QueryError, RandomPick, Scored, SortedPage, SortedRange,
    SubkeyPage,
};
use tidelock_engine::row::Fingerprint;
use tidelock_engine::score::Score;

use crate::sight::{combined, listed, outermost};
use crate::specification::{KeyReads, Reads, Values};

/// What a replica shows: the keys that are there and have not expired.
#[derive(Clone, Debug, Default)]
pub struct Shown {
    keys: Reads,
    /// How many there are with those that have expired, and were not removed yet.
    count: u64,
}

/// What is wrong with the kind of a key that is asked about.
struct WrongKind;

impl Shown {
    /// What is shown by a clock, in Unix milliseconds, where this stands.
    pub fn new(reads: &Reads, clock_ms: u64) -> Self {
        let there = || reads.iter().filter(|(_, key)| key.visible().is_some());
        let keys = there().filter(|(_, key)| !key.is_expired(clock_ms));
        Self {
            keys: keys.map(|(name, key)| (name.clone(), key.clone())).collect(),
            count: there().count() as u64,
        }
    }

    /// What is shown under a key.
    pub fn key(&self, key: &[u8]) -> KeyReads {
        self.keys.get(key).cloned().unwrap_or_default()
    }

    /// The value under a key that shows one.
    pub fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.keys.get(key).and_then(KeyReads::shown)
    }

    /// Whether a query has an answer: what it asks about is of the kind that it is about.
    pub fn answers(&self, query: &Query) -> bool {
        self.answer(query).is_ok()
    }

    /// The queries whose answers tell all that is shown.
    pub fn queries(&self) -> Vec<Query> {
        let mut queries = vec![Query::Size, Query::RandomKey(self.count)];
        let names: Vec<&Vec<u8>> = self.keys.keys().collect();
        let page = |after: Option<&Vec<u8>>, count| {
            Query::Keys(KeyPage { after: after.cloned(), count, ..KeyPage::default() })
        };
        queries.push(page(None, names.len() + 1));
        for (number, key) in names.iter().enumerate() {
            queries.push(page(number.checked_sub(1).map(|before| names[before]), 1));
            queries.extend(self.queries_of(key));
        }
        queries
    }

    fn queries_of(&self, key: &[u8]) -> Vec<Query> {
        let key = key.to_vec();
        let mut queries =
            vec![Query::Kind(key.clone()), Query::Deadline(key.clone()), Query::Get(key.clone())];
        queries.push(Query::Revision(key.clone()));
        let reads = &self.keys[&key];
        let collection = match reads.visible() {
            Some(VisibleKind::Set) => {
                let some = reads.elements.iter().take(3);
                queries.extend(some.map(|element| Query::Contains(key.clone(), element.clone())));
                queries.extend([Query::Cardinality(key.clone()), Query::Members(key.clone())]);
                Collection::Set
            }
            Some(VisibleKind::Map) => {
                let some = reads.fields.keys().take(3);
                queries.extend(some.map(|field| Query::Field(key.clone(), field.clone())));
                queries.extend([Query::FieldCount(key.clone()), Query::Fields(key.clone())]);
                Collection::Map
            }
            Some(VisibleKind::Sorted) => {
                let some = reads.scores.keys().take(3).cloned().collect();
                queries.push(Query::Scores(key.clone(), some));
                let all = SortedPage::all(key.clone());
                queries.push(Query::Sorted(SortedPage { is_reverse: true, offset: 1, ..all.clone() }));
                queries.push(Query::Sorted(all));
                for (member, is_reverse) in reads.scores.keys().zip([false, true]) {
                    queries.push(Query::Rank { key: key.clone(), member: member.clone(), is_reverse });
                }
                let range = SortedRange::Scores { min: Bound::Excluded(Score::ZERO), max: Bound::Unbounded };
                queries.push(Query::SortedCount(key.clone(), range));
                Collection::Sorted
            }
            Some(VisibleKind::Document) => {
                queries.push(Query::Chunks(key));
                return queries;
            }
            _ => return queries,
        };
        let names = reads.elements.first().or(reads.fields.keys().next());
        let after = names.or(reads.scores.keys().next()).cloned();
        queries.push(Query::Page(SubkeyPage { key: key.clone(), collection, after, count: 2 }));
        queries.push(Query::Random(RandomPick {
            key,
            collection,
            count: 2,
            is_repeated: false,
            seed: self.count,
        }));
        queries
    }

    /// The answer to a query, if only one is right.
    fn answer(&self, query: &Query) -> Result<Option<Answer>, WrongKind> {
        let names = |key: &[u8], collection| self.names(key, collection);
        let elements = |key: &[u8]| Ok(self.of_kind(key, VisibleKind::Set)?.elements);
        let sorted = |key: &[u8]| self.of_kind(key, VisibleKind::Sorted);
        let sets = |keys: &[Vec<u8>]| keys.iter().map(|key| elements(key)).collect::<Result<Vec<_>, _>>();
        Ok(Some(match query {
            Query::Get(key) => match self.key(key).visible() {
                None | Some(VisibleKind::Register | VisibleKind::Counter) => Answer::Value(self.get(key)),
                Some(_) => return Err(WrongKind),
            },
            Query::Kind(key) => Answer::Kind(self.key(key).visible()),
            Query::Members(key) => Answer::List(elements(key)?.into_iter().collect()),
            Query::Contains(key, element) => Answer::Bool(elements(key)?.contains(element)),
            Query::Cardinality(key) => Answer::Count(elements(key)?.len() as u64),
            Query::Field(key, field) => {
                let fields = names(key, Collection::Map)?.into_iter();
                Answer::Value(fields.filter(|(name, _)| name == field).map(|(_, value)| value).next())
            }
            Query::Fields(key) => Answer::Pairs(names(key, Collection::Map)?),
            Query::FieldCount(key) => Answer::Count(names(key, Collection::Map)?.len() as u64),
            Query::Scores(key, members) => {
                let scores: BTreeMap<_, _> = scored(names(key, Collection::Sorted)?).into_iter().collect();
                Answer::Scores(members.iter().map(|member| scores.get(member).copied()).collect())
            }
            Query::Rank { key, member, is_reverse } => {
                let members = outermost(&sorted(key)?, u64::MAX, *is_reverse);
                let found = (0..).zip(members).find(|(_, (name, _))| name == member);
                Answer::Rank(found.map(|(rank, (_, score))| (rank, score)))
            }
            Query::SortedCount(key, range) => {
                let page = SortedPage { range: range.clone(), ..SortedPage::all(key.clone()) };
                Answer::Count(listed(&sorted(key)?, &page).len() as u64)
            }
            Query::Sorted(page) => Answer::Scored(listed(&sorted(&page.key)?, page)),
            Query::Page(SubkeyPage { key, collection, after, count }) => {
                let behind = names(key, *collection)?.into_iter();
                let behind = behind.filter(|(name, _)| after.as_ref().is_none_or(|after| name > after));
                list(*collection, behind.take(*count).collect())
            }
            Query::Random(RandomPick { key, collection, .. }) => {
                names(key, *collection)?;
                return Ok(None);
            }
            Query::Combined(how, keys) => Answer::List(combined(*how, &sets(keys)?).into_iter().collect()),
            Query::CommonCount(keys, limit) => {
                let common = combined(tidelock_engine::read::Combination::Intersection, &sets(keys)?);
                Answer::Count((common.len() as u64).min(*limit))
            }
            Query::Keys(KeyPage { prefix, after, count }) => {
                let behind = self.keys.keys().filter(|key| after.as_ref().is_none_or(|after| *key > after));
                Answer::List(behind.filter(|key| key.starts_with(prefix)).take(*count).cloned().collect())
            }
            Query::Chunks(key) => {
                Answer::Chunks(self.of_kind(key, VisibleKind::Document)?.changes.into_iter().collect())
            }
            Query::Deadline(key) => {
                let key = self.key(key);
                Answer::Deadline(key.visible().map(|_| key.deadline_ms()))
            }
            Query::Size
            | Query::RandomKey(_)
            | Query::Revision(_)
            | Query::Entry(_)
            | Query::Outcome(..)
            | Query::Mark(_) => return Ok(None),
        }))
    }

    /// The elements of a set, with empty values, or the fields or members of another collection with theirs.
    fn names(&self, key: &[u8], collection: Collection) -> Result<Vec<Pair>, WrongKind> {
        Ok(match collection {
            Collection::Set => {
                let elements = self.of_kind(key, VisibleKind::Set)?.elements.into_iter();
                elements.map(|element| (element, Vec::new())).collect()
            }
            Collection::Map => winners(self.of_kind(key, VisibleKind::Map)?.fields),
            Collection::Sorted => winners(self.of_kind(key, VisibleKind::Sorted)?.scores),
        })
    }

    fn of_kind(&self, key: &[u8], kind: VisibleKind) -> Result<KeyReads, WrongKind> {
        let reads = self.key(key);
        if reads.visible().is_none_or(|visible| visible == kind) { Ok(reads) } else { Err(WrongKind) }
    }

    /// Whether an answer is one of those that are right.
    fn may_be(&self, query: &Query, answer: &Answer) -> bool {
        match (query, answer) {
            // Those that have expired may have been removed at the beginning of the turn.
            (Query::Size, Answer::Count(count)) => (self.keys.len() as u64..=self.count).contains(count),
            (Query::RandomKey(_), Answer::Value(key)) => match key {
                Some(key) => self.keys.contains_key(key),
                None => self.keys.is_empty(),
            },
            (Query::Random(pick), Answer::List(list)) => {
                let elements = self.key(&pick.key).elements;
                list.iter().all(|element| elements.contains(element))
                    && pick_is_whole(pick, list, elements.len())
            }
            (Query::Random(pick), Answer::Pairs(pairs)) => {
                let fields = winners(self.key(&pick.key).fields);
                pairs.iter().all(|pair| fields.contains(pair)) && pick_is_whole(pick, pairs, fields.len())
            }
            (Query::Random(pick), Answer::Scored(pairs)) => {
                let members = scored(winners(self.key(&pick.key).scores));
                pairs.iter().all(|pair| members.contains(pair)) && pick_is_whole(pick, pairs, members.len())
            }
            (Query::Revision(key), Answer::Revision(revision)) => {
                (*revision == Fingerprint::default()) == self.key(key).visible().is_none()
            }
            (Query::Entry(key), Answer::Entry(entry)) => entry.visible == self.key(key).visible(),
            _ => false,
        }
    }
}

/// Whether a query was answered as the specification says.
///
/// # Errors
/// It was not.
pub fn check(shown: &Shown, query: &Query, got: Result<&Answer, &QueryError>) -> Result<(), String> {
    let is_fine = match (shown.answer(query), got) {
        (Err(WrongKind), Err(QueryError::WrongKind { .. })) => true,
        (Ok(Some(wanted)), Ok(answer)) => *answer == wanted,
        (Ok(None), Ok(answer)) => shown.may_be(query, answer),
        _ => false,
    };
    if is_fine {
        return Ok(());
    }
    let wanted = shown.answer(query).map_err(|WrongKind| "that the kind is wrong");
    Err(format!("{query:?}: got {got:?}, want {wanted:?}"))
}

/// Scores are written as bytes that sort as they do.
fn scored(pairs: Vec<Pair>) -> Vec<Scored> {
    let read = |bytes: Vec<u8>| Score::from_bytes(&bytes).expect("it was written as a score");
    pairs.into_iter().map(|(member, score)| (member, read(score))).collect()
}

/// As many as were wanted, or as there are, each once.
fn pick_is_whole<T: Ord>(pick: &RandomPick, chosen: &[T], all: usize) -> bool {
    let distinct: BTreeSet<&T> = chosen.iter().collect();
    let wanted = usize::try_from(pick.count).unwrap_or(usize::MAX).min(all);
    pick.is_repeated || distinct.len() == chosen.len() && chosen.len() == wanted
}

fn list(collection: Collection, pairs: Vec<Pair>) -> Answer {
    match collection {
        Collection::Set => Answer::List(pairs.into_iter().map(|(element, _)| element).collect()),
        Collection::Map => Answer::Pairs(pairs),
        Collection::Sorted => Answer::Scored(scored(pairs)),
    }
}

fn winners(groups: BTreeMap<Vec<u8>, Values>) -> Vec<Pair> {
    let winner = |values: Values| values.last().map(|(_, _, value)| value.clone());
    groups.into_iter().filter_map(|(field, values)| Some((field, winner(values)?))).collect()
}
