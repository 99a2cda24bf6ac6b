//! Sorted sets: members in order of their scores, a page at a time.

use std::ops::Bound;

use axum::response::Response;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Value, json};
use tidelock_engine::read::{Answer, Query, SortedPage, SortedRange};
use tidelock_engine::score::Score;

use super::blob::Blob;
use super::collections::answer_changes;
use super::input::JsonInput;
use super::place::{Place, limit, number};
use crate::http::problem::Problem;
use crate::keyspace::Batch;

/// A score in JSON: a number, or `"inf"` or `"-inf"`, for which JSON has none.
#[derive(Clone, Copy, Debug)]
pub(super) struct JsonScore(pub(super) Score);

impl Serialize for JsonScore {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let number = self.0.get();
        if number.is_finite() { serializer.serialize_f64(number) } else { serializer.collect_str(&self.0) }
    }
}

impl<'de> Deserialize<'de> for JsonScore {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = match Value::deserialize(deserializer)? {
            Value::Number(number) => number.as_f64(),
            Value::String(text) if text == "inf" => Some(f64::INFINITY),
            Value::String(text) if text == "-inf" => Some(f64::NEG_INFINITY),
            _ => None,
        };
        let score = number.and_then(Score::new).map(Self);
        score.ok_or_else(|| D::Error::custom("a score is a number, \"inf\" or \"-inf\""))
    }
}

/// A member and its score.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Scored {
    member: Blob,
    score: JsonScore,
}

/// What becomes of a sorted set; first it is removed from.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SortedChange {
    #[serde(default)]
    remove: Vec<Blob>,
    #[serde(default)]
    put: Vec<Scored>,
}

/// A page of members, and how many of the range to leave out for the next one if there may be more; or one member.
pub(super) async fn members(place: Place) -> Result<Response, Problem> {
    let parameters =
        place.parameters(["member", "start", "stop", "min", "max", "reverse", "offset", "limit"])?;
    if let [Some(member), others @ ..] = &parameters {
        if others.iter().any(Option::is_some) {
            return Err(Problem::bad_request("a member is asked for by itself, without a range"));
        }
        return one(&place, member).await;
    }
    let [_, start, stop, min, max, reverse, offset, count] = parameters.each_ref().map(Option::as_deref);
    let range = range([start, stop], [min, max])?;
    let is_reverse = match reverse {
        None | Some(b"false") => false,
        Some(b"true") => true,
        Some(_) => return Err(Problem::bad_request("reverse is true or false")),
    };
    let (offset, limit) = (number("offset", offset)?.unwrap_or(0), limit(count)?);
    let page = SortedPage { key: place.key.clone(), range, is_reverse, offset, count: Some(limit as u64) };
    let Answer::Scored(members) = place.ask(Query::Sorted(page)).await? else {
        unreachable!("members were asked for")
    };
    let next = (members.len() == limit).then(|| offset.saturating_add(limit as u64));
    let members = members.into_iter();
    let members: Vec<_> =
        members.map(|(member, score)| Scored { member: Blob(member), score: JsonScore(score) }).collect();
    place.answer(&json!({ "members": members, "next": next }))
}

async fn one(place: &Place, member: &[u8]) -> Result<Response, Problem> {
    let query = Query::Rank { key: place.key.clone(), member: member.to_vec(), is_reverse: false };
    let Answer::Rank(found) = place.ask(query).await? else { unreachable!("a rank was asked for") };
    let (rank, score) = found.ok_or_else(|| Problem::new("not_found", "there is no such member"))?;
    place.answer(&json!({ "score": JsonScore(score), "rank": rank }))
}

pub(super) async fn change(
    place: Place,
    JsonInput(change): JsonInput<SortedChange>,
) -> Result<Response, Problem> {
    let SortedChange { remove, put } = change;
    let removed = remove.len();
    let batch = remove.iter().fold(Batch::new(), |batch, member| batch.unscore(&place.key, &member.0));
    let batch =
        put.iter().fold(batch, |batch, Scored { member, score }| batch.score(&place.key, &member.0, score.0));
    answer_changes(&place, batch, (removed, put.len())).await
}

/// The range that is meant: by ranks, or by scores, or everything.
fn range(ranks: [Option<&[u8]>; 2], scores: [Option<&[u8]>; 2]) -> Result<SortedRange, Problem> {
    let [start, stop] = ranks;
    let [min, max] = scores;
    if scores == [None, None] {
        let (start, stop) = (number("start", start)?, number("stop", stop)?);
        return Ok(SortedRange::Ranks { start: start.unwrap_or(0), stop: stop.unwrap_or(-1) });
    }
    if ranks != [None, None] {
        return Err(Problem::bad_request(
            "a range is by rank (start, stop) or by score (min, max), not both",
        ));
    }
    Ok(SortedRange::Scores { min: bound("min", min)?, max: bound("max", max)? })
}

/// A bound of scores, as Redis writes it: `(` before it says that it is outside.
fn bound(name: &str, value: Option<&[u8]>) -> Result<Bound<Score>, Problem> {
    let Some(value) = value else { return Ok(Bound::Unbounded) };
    let (text, is_outside) = match value.strip_prefix(b"(") {
        Some(text) => (text, true),
        None => (value, false),
    };
    let score = number(name, Some(text)).ok().flatten().and_then(Score::new);
    let score =
        score.ok_or_else(|| Problem::bad_request(format!("{name} is a score, as in 1.5, (1.5 or -inf")))?;
    Ok(if is_outside { Bound::Excluded(score) } else { Bound::Included(score) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_come_back_as_they_were_and_nothing_else_is_one() {
        let largest = "1.7976931348623157e308";
        for text in ["0.1", "-2.5", "5e-324", "5.960464477539063e-8", largest, "\"inf\"", "\"-inf\""] {
            let score: JsonScore = serde_json::from_str(text).expect(text);
            assert_eq!(serde_json::to_string(&score).expect("it is JSON").replace("e+", "e"), text);
        }
        assert_eq!(serde_json::to_string(&JsonScore(Score::ZERO)).expect("it is JSON"), "0.0");
        for wrong in ["NaN", "\"nan\"", "\"1\"", "null", "true", "[1]", "1e999", "\"Infinity\""] {
            assert!(serde_json::from_str::<JsonScore>(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn ranges_are_by_rank_or_by_score() {
        let of = |ranks: [&'static str; 2], scores: [&'static str; 2]| {
            let bytes = |text: &'static str| (!text.is_empty()).then_some(text.as_bytes());
            range(ranks.map(bytes), scores.map(bytes)).map_err(|problem| problem.code)
        };
        let none = ["", ""];
        let score = |number| Score::new(number).expect("a number");
        assert_eq!(of(none, none), Ok(SortedRange::ALL));
        assert_eq!(of(["-2", ""], none), Ok(SortedRange::Ranks { start: -2, stop: -1 }));
        let (min, max) = (Bound::Excluded(score(1.5)), Bound::Included(score(f64::INFINITY)));
        assert_eq!(of(none, ["(1.5", "inf"]), Ok(SortedRange::Scores { min, max }));
        assert_eq!(of(none, ["(1.5", ""]), Ok(SortedRange::Scores { min, max: Bound::Unbounded }));
        for (ranks, scores) in
            [(["1", ""], ["1", ""]), (none, ["nan", ""]), (none, ["((1", ""]), (["1.5", ""], none)]
        {
            assert_eq!(of(ranks, scores), Err("bad_request"), "{ranks:?} {scores:?}");
        }
    }
}
