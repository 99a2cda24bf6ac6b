//! Elements, fields and keys that are chosen at random, without reading all of a large set.
//!
//! Where all are few, or many are wanted, every one is equally likely: their number is known, places are drawn, and
//! one pass picks them. Otherwise a walk goes down the tree of common beginnings, by the same chance to each branch,
//! to a leaf of at most [`LEAF`] of them. That alone would favour those in sparse branches. So of several walks one is
//! taken, each weighed by how improbable it was: the chances are then equal for names that branch evenly, such as hashes,
//! and within a factor of about two for others, such as decimal numbers of different lengths.
//!
//! Source: D. Knuth, "Estimating the efficiency of backtrack programs" (1975), for the weight of a walk; D. Rubin,
//! sampling/importance resampling (1987).

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use serde::{Deserialize, Serialize};

use super::pages::{Collection, Gathered};
use super::{Answer, Pair, QueryError, Reader};
use crate::dice::Dice;
use crate::ports::{After, ReadError};
use crate::row::Kind;
use crate::score::Score;

/// All are read if there are no more than these.
const ALL: u64 = 4_096;

/// All are read if there are no more than so many for each that is wanted: what a walk costs, about.
const ALL_PER_WANTED: u64 = 256;

/// What a leaf of the tree holds at most. A page of keys as long as may be is 8 MiB.
const LEAF: usize = 128;

/// The walks of which one is taken.
const WALKS: usize = 16;

/// The places of the tree that are remembered between walks.
const NODES_MAX: usize = 1_024;

/// How often as many walks are made as are wanted, until those that led to the same place are replaced by a pass.
const TRIES: u64 = 4;

/// How many of the same key are answered at most when they may be repeated.
pub const REPEATED_MAX: u64 = 1 << 20;

/// Which elements, fields or members are wanted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RandomPick {
    /// The key.
    #[serde(with = "serde_bytes")]
    pub key: Vec<u8>,
    /// What it must hold, unless it is missing. Fields come with their values, members with their scores.
    pub collection: Collection,
    /// How many: all, if there are no more; or exactly so many, [`REPEATED_MAX`] at most, if they may be repeated.
    pub count: u64,
    /// Whether the same may be answered more than once.
    pub is_repeated: bool,
    /// What the choice follows from. The same seed chooses the same from the same.
    pub seed: u64,
}

impl Reader<'_> {
    pub(super) fn pick(&self, pick: &RandomPick) -> Result<Answer, QueryError> {
        let view = self.expect(&pick.key, pick.collection.visible())?;
        let all = match pick.collection {
            Collection::Set => view.elements,
            Collection::Map => view.fields,
            Collection::Sorted => view.scored,
        };
        let chosen = self.choose(pick, all)?;
        match pick.collection {
            Collection::Set => Ok(Answer::List(chosen)),
            Collection::Map => self.with_values(&pick.key, chosen).map(Answer::Pairs),
            Collection::Sorted => {
                let scored = chosen.into_iter().map(|member| {
                    let score = self.score(&pick.key, &member)?.unwrap_or(Score::ZERO);
                    Ok((member, score))
                });
                scored.collect::<Result<_, _>>().map(Answer::Scored)
            }
        }
    }

    fn with_values(&self, key: &[u8], chosen: Vec<Vec<u8>>) -> Result<Vec<Pair>, QueryError> {
        let (mut pairs, mut gathered) = (Vec::with_capacity(chosen.len()), Gathered::default());
        for field in chosen {
            let value = self.field(key, &field)?.unwrap_or_default();
            gathered.push(value)?;
            pairs.push((field, gathered.list.pop().expect("it was pushed")));
        }
        Ok(pairs)
    }

    fn choose(&self, pick: &RandomPick, all: u64) -> Result<Vec<Vec<u8>>, QueryError> {
        let mut dice = Dice(pick.seed);
        let count = if pick.is_repeated { pick.count } else { pick.count.min(all) };
        if count == 0 || all == 0 {
            return Ok(Vec::new());
        }
        if pick.is_repeated && count > REPEATED_MAX {
            return Err(QueryError::TooLong);
        }
        if all > ALL && count.saturating_mul(ALL_PER_WANTED) < all {
            let page = |from: &[u8], count: usize| {
                let from = After::From(pick.key.clone(), pick.collection.kind(), from.to_vec());
                let pairs = self.names(&pick.key, pick.collection, from, count)?;
                Ok(pairs)
            };
            if let Some(chosen) = Tree::new(&page).choose(&mut dice, count, pick.is_repeated)? {
                return Ok(chosen);
            }
        }
        let mut chosen = self.at(pick, &dice.places(all, count, pick.is_repeated))?;
        dice.shuffle(&mut chosen);
        Ok(chosen)
    }

    /// The elements or fields at these places, by their order.
    fn at(&self, pick: &RandomPick, places: &BTreeMap<u64, u64>) -> Result<Vec<Vec<u8>>, QueryError> {
        let mut gathered = Gathered::default();
        let mut result = Ok(());
        let mut wanted = places.iter().peekable();
        let mut place = 0;
        self.each_subkey(&pick.key, pick.collection, |name| {
            if let Some((_, times)) = wanted.next_if(|(at, _)| **at == place) {
                result = (0..*times).try_for_each(|_| gathered.push(name.clone()));
            }
            place += 1;
            if result.is_err() || wanted.peek().is_none() {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        })?;
        result.map(|()| gathered.list)
    }

    fn names(
        &self,
        key: &[u8],
        collection: Collection,
        from: After,
        count: usize,
    ) -> Result<Vec<Vec<u8>>, ReadError> {
        let pairs = self.pairs(key, collection, Some(from), count, usize::MAX)?;
        Ok(pairs.into_iter().map(|(name, _)| name).collect())
    }

    /// Some key that exists, if there is one.
    pub(super) fn random_key(&self, seed: u64) -> Result<Option<Vec<u8>>, QueryError> {
        let page = |from: &[u8], count: usize| {
            self.keys_from(&[], Some(After::From(from.to_vec(), Kind::ALL[0], Vec::new())), count)
        };
        let chosen = Tree::new(&page).choose(&mut Dice(seed), 1, true)?;
        Ok(chosen.and_then(|mut chosen| chosen.pop()))
    }
}

impl Dice {
    /// So many places of `all`, each with how often it was drawn. Source: R. Floyd's algorithm, in J. Bentley, "A sample
    /// of brilliance" (1987).
    fn places(&mut self, all: u64, count: u64, is_repeated: bool) -> BTreeMap<u64, u64> {
        let mut places = BTreeMap::new();
        if is_repeated {
            (0..count).for_each(|_| *places.entry(self.below(all)).or_default() += 1);
            return places;
        }
        for last in all - count..all {
            let place = self.below(last + 1);
            let place = if places.contains_key(&place) { last } else { place };
            places.insert(place, 1);
        }
        places
    }

    fn shuffle(&mut self, list: &mut [Vec<u8>]) {
        for end in (1..list.len()).rev() {
            list.swap(end, self.index(end + 1));
        }
    }
}

/// Reads so many names from one on, in their order; fewer only if there are no more.
type Page<'a> = dyn Fn(&[u8], usize) -> Result<Vec<Vec<u8>>, ReadError> + 'a;

/// The names as a tree of what they begin with.
struct Tree<'a> {
    page: &'a Page<'a>,
    nodes: BTreeMap<Vec<u8>, Node>,
}

/// What begins with the same bytes.
#[derive(Clone, Debug)]
enum Node {
    /// All of it.
    Leaf(Vec<Vec<u8>>),
    /// The name that is only these bytes, if there is one, and the longer beginnings.
    Branch(Option<Vec<u8>>, Vec<Vec<u8>>),
}

impl<'a> Tree<'a> {
    fn new(page: &'a Page<'a>) -> Self {
        Self { page, nodes: BTreeMap::new() }
    }

    /// So many names, or nothing if they were not found in some walks.
    fn choose(
        &mut self,
        dice: &mut Dice,
        count: u64,
        is_repeated: bool,
    ) -> Result<Option<Vec<Vec<u8>>>, QueryError> {
        let (mut gathered, mut seen) = (Gathered::default(), BTreeSet::new());
        for _ in 0..count.saturating_mul(if is_repeated { 1 } else { TRIES }) {
            let Some(name) = self.one(dice)? else { return Ok(None) };
            if is_repeated || seen.insert(name.clone()) {
                gathered.push(name)?;
            }
            if gathered.list.len() as u64 == count {
                return Ok(Some(gathered.list));
            }
        }
        Ok(None)
    }

    /// One of several walks, by their weights: the later ones each take the place with the chance that they weigh of
    /// all so far.
    #[expect(clippy::cast_precision_loss, reason = "a chance needs no more digits")]
    fn one(&mut self, dice: &mut Dice) -> Result<Option<Vec<u8>>, QueryError> {
        let (mut chosen, mut sum) = (None, 0.0);
        for _ in 0..WALKS {
            let Some((name, weight)) = self.walk(dice)? else { return Ok(None) };
            sum += weight;
            if (dice.next() as f64 / u64::MAX as f64) * sum <= weight {
                chosen = Some(name);
            }
        }
        Ok(chosen)
    }

    /// A name, and one divided by the chance of having come there.
    #[expect(clippy::cast_precision_loss, reason = "a weight needs no more digits")]
    fn walk(&mut self, dice: &mut Dice) -> Result<Option<(Vec<u8>, f64)>, QueryError> {
        let (mut prefix, mut weight) = (Vec::new(), 1.0);
        loop {
            match self.node(&prefix)? {
                Node::Leaf(names) if names.is_empty() => return Ok(None),
                Node::Leaf(mut names) => {
                    let index = dice.index(names.len());
                    weight *= names.len() as f64;
                    return Ok(Some((names.swap_remove(index), weight)));
                }
                Node::Branch(own, mut longer) => {
                    let ways = longer.len() + usize::from(own.is_some());
                    weight *= ways as f64;
                    let way = dice.index(ways);
                    match own {
                        Some(own) if way == longer.len() => return Ok(Some((own, weight))),
                        _ => prefix = longer.swap_remove(way),
                    }
                }
            }
        }
    }

    fn node(&mut self, prefix: &[u8]) -> Result<Node, QueryError> {
        if let Some(node) = self.nodes.get(prefix) {
            return Ok(node.clone());
        }
        let node = self.read(prefix)?;
        if self.nodes.len() < NODES_MAX {
            self.nodes.insert(prefix.to_vec(), node.clone());
        }
        Ok(node)
    }

    fn read(&self, prefix: &[u8]) -> Result<Node, QueryError> {
        let mut names = (self.page)(prefix, LEAF + 1)?;
        names.truncate(names.iter().take_while(|name| name.starts_with(prefix)).count());
        if names.len() <= LEAF {
            return Ok(Node::Leaf(names));
        }
        let shared = self.shared(prefix, &names[0], &names[LEAF])?;
        if shared > prefix.len() {
            return Ok(Node::Branch(None, vec![names[0][..shared].to_vec()]));
        }
        let own = (names[0] == prefix).then(|| prefix.to_vec());
        let mut longer = Vec::new();
        let mut next = Some(0);
        while let Some(byte) = next {
            let from = [prefix, &[byte]].concat();
            let Some(found) = self.first(&from)?.filter(|name| name.starts_with(prefix)) else { break };
            let found = found[prefix.len()];
            longer.push([prefix, &[found]].concat());
            next = found.checked_add(1);
        }
        Ok(Node::Branch(own, longer))
    }

    /// How many bytes all names with this prefix share, of which one is the first and another some later one.
    fn shared(&self, prefix: &[u8], first: &[u8], later: &[u8]) -> Result<usize, QueryError> {
        let same = first.iter().zip(later).take_while(|(a, b)| a == b).count();
        // Invariant: all share `low` bytes; not all share more than `high`.
        let (mut low, mut high) = (prefix.len(), same);
        while low < high {
            let middle = (low + high).div_ceil(2);
            let is_shared = match behind(&first[..middle]) {
                Some(behind) => self.first(&behind)?.is_none_or(|name| !name.starts_with(prefix)),
                None => true,
            };
            if is_shared {
                low = middle;
            } else {
                high = middle - 1;
            }
        }
        Ok(low)
    }

    fn first(&self, from: &[u8]) -> Result<Option<Vec<u8>>, QueryError> {
        Ok((self.page)(from, 1)?.pop())
    }
}

/// The least byte string behind all that begin with `prefix`.
fn behind(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|byte| *byte < u8::MAX)?;
    let mut behind = prefix[..=last].to_vec();
    behind[last] += 1;
    Some(behind)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn page(names: &BTreeSet<Vec<u8>>) -> impl Fn(&[u8], usize) -> Result<Vec<Vec<u8>>, ReadError> {
        |from, count| Ok(names.range(from.to_vec()..).take(count).cloned().collect())
    }

    /// How often the most and the least frequent tenth of the names come up, as multiples of their share.
    fn extremes(names: &BTreeSet<Vec<u8>>, seed: u64) -> (f64, f64) {
        let page = page(names);
        let (mut tree, mut dice) = (Tree::new(&page), Dice(seed));
        let mut tenths = [0.0_f64; 10];
        let order: Vec<&Vec<u8>> = names.iter().collect();
        for _ in 0..2_000 {
            let name = tree.one(&mut dice).expect("in memory").expect("there are names");
            let place = order.binary_search(&&name).expect("it is one of them");
            tenths[place * 10 / order.len()] += 10.0 / 2_000.0;
        }
        (tenths.iter().copied().fold(0.0, f64::max), tenths.iter().copied().fold(9.0, f64::min))
    }

    #[test]
    fn names_that_branch_evenly_come_up_equally_often() {
        let mut dice = Dice(9);
        let hashes = (0..20_000).map(|_| dice.next().to_be_bytes().to_vec()).collect();
        let (most, least) = extremes(&hashes, 2);
        assert!(most < 1.25 && least > 0.75, "{most} {least}");
    }

    #[test]
    fn names_that_branch_unevenly_come_up_within_a_factor_of_their_share() {
        let numbers = (0..20_000).map(|number| format!("a long beginning:{number}").into_bytes()).collect();
        let (most, least) = extremes(&numbers, 1);
        assert!(most < 2.0 && least > 0.5, "{most} {least}");
        let mut names: BTreeSet<Vec<u8>> = (0..18_000).map(|n| format!("user:{n}").into_bytes()).collect();
        names.extend((0..2_000).map(|number| format!("x{number}").into_bytes()));
        let (most, least) = extremes(&names, 3);
        assert!(most < 2.0 && least > 0.5, "{most} {least}");
    }

    proptest! {
        #[test]
        fn every_name_has_one_way_to_it(names in prop::collection::btree_set(prop::collection::vec(prop::sample::select(vec![0_u8, 1, 254, 255]), 0..8), 200..600)) {
            let page = page(&names);
            let tree = Tree::new(&page);
            let (mut found, mut open) = (Vec::new(), vec![Vec::new()]);
            while let Some(prefix) = open.pop() {
                match tree.read(&prefix).expect("in memory") {
                    Node::Leaf(names) => found.extend(names),
                    Node::Branch(own, longer) => {
                        found.extend(own);
                        open.extend(longer);
                    }
                }
            }
            found.sort();
            prop_assert_eq!(found, names.iter().cloned().collect::<Vec<_>>());
        }

        #[test]
        fn places_are_distinct_unless_repeated(seed: u64, all in 1_u64..50, count in 0_u64..50) {
            let count = count.min(all);
            let places = Dice(seed).places(all, count, false);
            prop_assert_eq!(places.len() as u64, count);
            prop_assert!(places.keys().all(|place| *place < all));
            prop_assert_eq!(Dice(seed).places(all, count, true).values().sum::<u64>(), count);
        }
    }
}
