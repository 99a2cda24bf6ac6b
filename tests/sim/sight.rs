//! What an author sees at one moment, by the specification: what it may write on, and what a write comes to there.
//!
//! Most writes are one operation. Edits, copies, combinations and deadlines are computed from what is read, and come
//! to several writes that are. They are computed here from what was told of the keys, never from rows.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeBounds;

use tidelock_engine::bounds::OBSERVED_LISTED_MAX;
use tidelock_engine::crdt::VisibleKind;
use tidelock_engine::read::{Combination, Scored, SortedPage, SortedRange};
use tidelock_engine::score::Score;
use tidelock_engine::write::{Addend, Decimal, Edit, MemberIf, ScoreRule, Toward, Ttl, Write};

use crate::bits::Bits;
use crate::specification::{KeyReads, Story};

/// What somebody has applied, and its clocks.
#[derive(Clone, Copy, Debug)]
pub struct Sight<'a> {
    /// All operations.
    pub story: &'a Story,
    /// Those that were applied.
    pub applied: &'a Bits,
    /// Its clocks.
    pub clocks: Clocks,
}

/// The clocks that say what has expired, in Unix milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Clocks {
    /// What is past by this one is not to be seen.
    pub shown_ms: u64,
    /// What is past by this one may be removed: it was shown before, if it is later.
    pub removed_ms: u64,
    /// A deadline that is set is past by this one.
    pub set_ms: u64,
}

impl Sight<'_> {
    /// What stands under a key, expired or not.
    pub fn all(&self, key: &[u8]) -> KeyReads {
        self.story.reads_key(self.applied, key)
    }

    /// What is to be seen under a key.
    pub fn key(&self, key: &[u8]) -> KeyReads {
        let reads = self.all(key);
        if reads.is_expired(self.clocks.shown_ms) { KeyReads::default() } else { reads }
    }

    /// Whether a key has expired by a clock, or there is nothing of it but deadlines: then it is removed before anything
    /// is written there.
    pub fn is_over(&self, key: &[u8], clock_ms: u64) -> bool {
        if !self.story.has_deadlines(key) {
            return false;
        }
        let reads = self.all(key);
        !reads.deadlines.is_empty() && (reads.visible().is_none() || reads.is_expired(clock_ms))
    }

    /// The writes of one operation each that a write comes to; none where it changes nothing.
    pub fn steps(&self, write: Write) -> Vec<Write> {
        match write {
            Write::Set { key, value } => self.set(key, value, Ttl::None),
            Write::SetFor { key, value, ttl } => self.set(key, value, ttl),
            Write::Expire { key, deadline_ms, .. } if self.all(&key).visible().is_some() => {
                vec![self.until(key, deadline_ms)]
            }
            Write::Expire { .. } => Vec::new(),
            Write::Persist { key } if self.all(&key).deadlines.is_empty() => Vec::new(),
            Write::Delete { key } if self.all(&key).visible().is_none() => Vec::new(),
            Write::Edit { key, edit } => match edited(&self.key(&key), &edit) {
                Some(value) => self.set(key, value, Ttl::Keep),
                None => Vec::new(),
            },
            Write::AddToField { key, field, by } => {
                let value = field_after(&self.key(&key), &field, by);
                value.map(|value| Write::Put { key, fields: vec![(field, value)] }).into_iter().collect()
            }
            Write::Score { key, members, rule } => {
                scored_after(&self.key(&key), &members, rule).into_write(key).into_iter().collect()
            }
            Write::AddToScore { key, member, by, rule } => {
                let before = self.key(&key);
                let sum = score(&before, &member).unwrap_or(Score::ZERO).plus(by);
                let members: Vec<Scored> = sum.map(|sum| (member, sum)).into_iter().collect();
                scored_after(&before, &members, rule).into_write(key).into_iter().collect()
            }
            Write::UnscoreRange { key, range } => {
                let page = SortedPage { range, ..SortedPage::all(key) };
                taken_out(listed(&self.key(&page.key), &page), page.key)
            }
            Write::PopScored { key, count, is_highest } => {
                taken_out(outermost(&self.key(&key), count, is_highest), key)
            }
            Write::StoreRange { into, page } => {
                let members = listed(&self.key(&page.key), &page);
                let mut steps = self.removal(&into);
                if !members.is_empty() {
                    steps.push(Write::Score { key: into, members, rule: ScoreRule::default() });
                }
                steps
            }
            Write::Copy { from, to, is_move } => self.copied(&from, &to, is_move),
            Write::Combine { into, how, keys } => {
                let sets: Vec<BTreeSet<Vec<u8>>> = keys.iter().map(|key| self.key(key).elements).collect();
                let elements: Vec<Vec<u8>> = combined(how, &sets).into_iter().collect();
                let mut steps = self.removal(&into);
                if !elements.is_empty() {
                    steps.push(Write::Add { key: into, elements });
                }
                steps
            }
            one => vec![one],
        }
    }

    /// A register is written over all that is there; what is of another kind is removed before.
    fn set(&self, key: Vec<u8>, value: Vec<u8>, ttl: Ttl) -> Vec<Write> {
        let before = self.all(&key);
        let is_other = !matches!(before.visible(), None | Some(VisibleKind::Register | VisibleKind::Counter));
        let is_cleared = is_other || before.register.len() > OBSERVED_LISTED_MAX;
        let until_ms = match ttl {
            Ttl::None => None,
            Ttl::Keep => before.deadline_ms().filter(|_| is_cleared),
            Ttl::Until(until_ms) => Some(until_ms),
        };
        let mut steps = Vec::new();
        if is_cleared {
            steps.push(Write::Delete { key: key.clone() });
        } else if ttl == Ttl::None && !before.deadlines.is_empty() {
            steps.push(Write::Persist { key: key.clone() });
        }
        steps.push(Write::Set { key: key.clone(), value });
        steps.extend(until_ms.map(|until_ms| self.until(key, until_ms)));
        steps
    }

    fn until(&self, key: Vec<u8>, deadline_ms: u64) -> Write {
        if deadline_ms <= self.clocks.set_ms {
            return Write::Delete { key };
        }
        Write::Expire { key, deadline_ms, only: None }
    }

    fn removal(&self, key: &[u8]) -> Vec<Write> {
        let is_there = self.all(key).visible().is_some();
        is_there.then(|| Write::Delete { key: key.to_vec() }).into_iter().collect()
    }

    fn copied(&self, from: &[u8], to: &[u8], is_move: bool) -> Vec<Write> {
        let source = self.key(from);
        let Some(visible) = source.visible().filter(|_| from != to) else { return Vec::new() };
        let key = to.to_vec();
        let mut deadline_ms = source.deadline_ms();
        let mut steps = self.removal(to);
        match visible {
            VisibleKind::Register | VisibleKind::Counter => {
                let ttl = deadline_ms.take().map_or(Ttl::None, Ttl::Until);
                steps = self.set(key, source.shown().expect("it shows a value"), ttl);
            }
            VisibleKind::Set => {
                steps.push(Write::Add { key, elements: source.elements.into_iter().collect() });
            }
            VisibleKind::Map => {
                let winners = source.fields.into_iter().filter_map(|(field, values)| {
                    values.into_iter().next_back().map(|(_, _, value)| (field, value))
                });
                steps.push(Write::Put { key, fields: winners.collect() });
            }
            VisibleKind::Sorted => {
                let members = outermost(&source, u64::MAX, false);
                steps.push(Write::Score { key, members, rule: ScoreRule::default() });
            }
            VisibleKind::Document => {
                let change = |chunk| {
                    let (base, replaced) = (Vec::new(), Vec::new());
                    Write::Change { key: key.clone(), chunk, base, replaced }
                };
                steps.extend(source.changes.into_values().map(change));
            }
        }
        steps.extend(deadline_ms.map(|deadline_ms| self.until(to.to_vec(), deadline_ms)));
        if is_move {
            steps.push(Write::Delete { key: from.to_vec() });
        }
        steps
    }
}

/// The value after an edit; `None` if it is refused, or changes nothing.
pub fn edited(key: &KeyReads, edit: &Edit) -> Option<Vec<u8>> {
    if !matches!(key.visible(), None | Some(VisibleKind::Register | VisibleKind::Counter)) {
        return None;
    }
    let before = key.shown();
    let mut value = before.clone().unwrap_or_default();
    match edit {
        Edit::Append(bytes) => value.extend(bytes),
        Edit::Splice { bytes, .. } if bytes.is_empty() => return None,
        Edit::Splice { offset, bytes } => {
            for (at, byte) in (usize::try_from(*offset).ok()?..).zip(bytes) {
                value.resize(value.len().max(at + 1), 0);
                value[at] = *byte;
            }
        }
        Edit::Bit { offset, is_set } => {
            let at = usize::try_from(offset / 8).ok()?;
            value.resize(value.len().max(at + 1), 0);
            let mask = 128_u8 >> (offset % 8);
            value[at] = if *is_set { value[at] | mask } else { value[at] & !mask };
        }
        Edit::Add(by) => value = sum(before.as_deref(), *by)?,
    }
    Some(value)
}

/// The value of a field after something was added; `None` if it is refused.
pub fn field_after(key: &KeyReads, field: &[u8], by: Addend) -> Option<Vec<u8>> {
    if !matches!(key.visible(), None | Some(VisibleKind::Map)) {
        return None;
    }
    let before = key.fields.get(field).and_then(|values| values.last()).map(|(_, _, value)| value.as_slice());
    match by {
        Addend::Integer(by) => {
            let number = before.map_or(Some(0), tidelock_engine::crdt::integer)?;
            Some(number.checked_add(by)?.to_string().into_bytes())
        }
        Addend::Decimal(by) => sum(before, by),
    }
}

/// How decimals are added and written is held against Redis elsewhere.
fn sum(before: Option<&[u8]>, by: Decimal) -> Option<Vec<u8>> {
    let sum = Decimal::parse(before.unwrap_or(b"0"))?.plus(by)?;
    Some(sum.to_string().into_bytes())
}

/// The score of a member.
pub fn score(key: &KeyReads, member: &[u8]) -> Option<Score> {
    let (_, _, bytes) = key.scores.get(member)?.last()?;
    Score::from_bytes(bytes).ok()
}

/// So many members of the lowest scores, or of the highest, the outermost first.
pub fn outermost(key: &KeyReads, count: u64, is_highest: bool) -> Vec<Scored> {
    let mut members: Vec<Scored> =
        key.scores.keys().filter_map(|member| Some((member.clone(), score(key, member)?))).collect();
    members.sort_by(|(a, of_a), (b, of_b)| (of_a, a).cmp(&(of_b, b)));
    if is_highest {
        members.reverse();
    }
    members.truncate(usize::try_from(count).unwrap_or(usize::MAX));
    members
}

/// The members that a page lists, in its order: that of their scores, and where they are meant by their bytes, of those.
pub fn listed(key: &KeyReads, page: &SortedPage) -> Vec<Scored> {
    let mut members = outermost(key, u64::MAX, page.is_reverse);
    if let SortedRange::Members { .. } = page.range {
        members.sort();
        if page.is_reverse {
            members.reverse();
        }
    }
    let count = i64::try_from(members.len()).expect("they are few");
    let from_start = |rank: i64| if rank < 0 { rank + count } else { rank };
    let is_meant = |rank: i64, (member, score): &Scored| match &page.range {
        SortedRange::Ranks { start, stop } => (from_start(*start)..=from_start(*stop)).contains(&rank),
        SortedRange::Scores { min, max } => (*min, *max).contains(score),
        SortedRange::Members { min, max } => {
            RangeBounds::<Vec<u8>>::contains(&(min.as_ref(), max.as_ref()), member)
        }
    };
    let found = (0..).zip(members).filter(|(rank, one)| is_meant(*rank, one)).map(|(_, one)| one);
    let number = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
    found.skip(number(page.offset)).take(page.count.map_or(usize::MAX, number)).collect()
}

/// The removal of members, if there are any.
fn taken_out(members: Vec<Scored>, key: Vec<u8>) -> Vec<Write> {
    let members: Vec<Vec<u8>> = members.into_iter().map(|(member, _)| member).collect();
    let is_any = !members.is_empty();
    is_any.then_some(Write::Unscore { key, members }).into_iter().collect()
}

/// What scoring members comes to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScoredAfter {
    /// The members that are written, and their scores.
    pub written: BTreeMap<Vec<u8>, Score>,
    /// How many came into being.
    pub added: u64,
    /// How many got another score.
    pub changed: u64,
}

impl ScoredAfter {
    fn into_write(self, key: Vec<u8>) -> Option<Write> {
        let members: Vec<Scored> = self.written.into_iter().collect();
        (!members.is_empty()).then_some(Write::Score { key, members, rule: ScoreRule::default() })
    }
}

/// Scores one member after the other, as far as a rule lets it.
pub fn scored_after(key: &KeyReads, members: &[Scored], rule: ScoreRule) -> ScoredAfter {
    let mut after = ScoredAfter::default();
    for (member, wanted) in members {
        let now = after.written.get(member).copied().or_else(|| score(key, member));
        let is_meant = rule.only.is_none_or(|only| (only == MemberIf::There) == now.is_some());
        let is_toward = now.zip(rule.toward).is_none_or(|(now, toward)| match toward {
            Toward::Greater => now < *wanted,
            Toward::Less => *wanted < now,
        });
        if is_meant && is_toward {
            after.added += u64::from(now.is_none());
            after.changed += u64::from(now.is_some_and(|now| now != *wanted));
            after.written.insert(member.clone(), *wanted);
        }
    }
    after
}

/// What sets make together.
pub fn combined(how: Combination, sets: &[BTreeSet<Vec<u8>>]) -> BTreeSet<Vec<u8>> {
    let mut counts: BTreeMap<&Vec<u8>, usize> = BTreeMap::new();
    sets.iter().flatten().for_each(|element| *counts.entry(element).or_default() += 1);
    let is_in = |element: &Vec<u8>, count: usize| match how {
        Combination::Union => true,
        Combination::Intersection => count == sets.len(),
        Combination::Difference => count == 1 && sets[0].contains(element),
    };
    let all = counts.into_iter().filter(|(element, count)| is_in(element, *count));
    all.map(|(element, _)| element.clone()).collect()
}
