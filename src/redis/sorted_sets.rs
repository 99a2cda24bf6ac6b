//! Sorted sets: members with scores, in the order of these.
//!
//! A score is a register of its own. What adds to one reads it and writes it back; what depends on the scores or members
//! that are there decides, as the commands of `conditional` do.

use tidelock_engine::read::{Answer, Collection, Query, Scored, SortedRange};
use tidelock_engine::request::{ActionReply, Decided};
use tidelock_engine::score::Score;
use tidelock_engine::write::{MemberIf, Outcome, ScoreRule, Toward, Write};

use super::call::{Arguments, Call, Shape};
use super::conditional::doing;
use super::errors;
use super::reply::Reply;
use super::scores::score;
use super::sets::{random, random_count};
use super::sorted_ranges::{Asked, By, Form};
use super::table::{ONE, Other, READ, READ_FAST, Run, Spec, WRITE, WRITE_FAST, spec};

/// The commands of this family.
pub(super) const COMMANDS: &[Spec] = &[
    spec(("zadd", -4, WRITE_FAST, ONE, Run::Data(zadd), "Gives members scores")),
    spec(("zcard", 2, READ_FAST, ONE, Run::Data(zcard), "Counts members")),
    spec(("zcount", 4, READ_FAST, ONE, Run::Data(zcount), "Counts members between two scores")),
    spec(("zincrby", 4, WRITE_FAST, ONE, Run::Data(zincrby), "Adds to the score of a member")),
    spec(("zlexcount", 4, READ_FAST, ONE, Run::Data(zlexcount), "Counts members between two members")),
    spec(("zmscore", -3, READ_FAST, ONE, Run::Data(zmscore), "Reads the scores of some members")),
    spec(("zpopmax", -2, WRITE_FAST, ONE, Run::Data(zpopmax), "Removes the members of the highest scores")),
    spec(("zpopmin", -2, WRITE_FAST, ONE, Run::Data(zpopmin), "Removes the members of the lowest scores")),
    spec(("zrandmember", -2, READ, ONE, Run::Data(zrandmember), "Reads some members at random")),
    spec(("zrange", -4, READ, ONE, Run::Data(zrange), "Reads members between ranks, scores or members")),
    spec(("zrangebylex", -4, READ, ONE, Run::Data(zrangebylex), "Reads members between two members")),
    spec(("zrangebyscore", -4, READ, ONE, Run::Data(zrangebyscore), "Reads members between two scores")),
    spec(("zrank", 3, READ_FAST, ONE, Run::Data(zrank), "Tells how many members are before one")),
    spec(("zrem", -3, WRITE_FAST, ONE, Run::Data(zrem), "Removes members")),
    spec(("zremrangebylex", 4, WRITE, ONE, Run::Data(zremrangebylex), "Removes members between two members")),
    spec(("zremrangebyrank", 4, WRITE, ONE, Run::Data(zremrangebyrank), "Removes members between two ranks")),
    spec((
        "zremrangebyscore",
        4,
        WRITE,
        ONE,
        Run::Data(zremrangebyscore),
        "Removes members between two scores",
    )),
    spec(("zrevrange", -4, READ, ONE, Run::Data(zrevrange), "Reads members between ranks from the end on")),
    spec((
        "zrevrangebylex",
        -4,
        READ,
        ONE,
        Run::Data(zrevrangebylex),
        "Reads members between two members, the last first",
    )),
    spec((
        "zrevrangebyscore",
        -4,
        READ,
        ONE,
        Run::Data(zrevrangebyscore),
        "Reads members between two scores, the highest first",
    )),
    spec(("zrevrank", 3, READ_FAST, ONE, Run::Data(zrevrank), "Tells how many members are behind one")),
    spec((
        "zscan",
        -3,
        &["readonly", "no_multi"],
        ONE,
        Run::Other(Other::MemberScan),
        "Reads members page by page",
    )),
    spec(("zscore", 3, READ_FAST, ONE, Run::Data(zscore), "Reads the score of a member")),
];

/// The options of ZADD.
#[derive(Clone, Copy, Debug, Default)]
struct ZaddOptions {
    rule: ScoreRule,
    /// Whether scores that changed are counted too.
    counts_changed: bool,
    /// Whether the score is added to the one that is there.
    adds: bool,
}

impl ZaddOptions {
    /// Reads what stands before the first score.
    fn parse(arguments: &mut Arguments) -> Result<Self, Reply> {
        let (mut options, mut nx, mut xx, mut gt, mut lt) = (Self::default(), false, false, false, false);
        while let Some(next) = arguments.as_slice().first() {
            match next.to_ascii_lowercase().as_slice() {
                b"nx" => nx = true,
                b"xx" => xx = true,
                b"gt" => gt = true,
                b"lt" => lt = true,
                b"ch" => options.counts_changed = true,
                b"incr" => options.adds = true,
                _ => break,
            }
            arguments.take();
        }
        if arguments.len() == 0 || !arguments.len().is_multiple_of(2) {
            return Err(errors::SYNTAX);
        }
        if nx && xx {
            return Err(errors::constant("ERR XX and NX options at the same time are not compatible"));
        }
        if (nx && (gt || lt)) || (gt && lt) {
            return Err(errors::constant(
                "ERR GT, LT, and/or NX options at the same time are not compatible",
            ));
        }
        if options.adds && arguments.len() > 2 {
            return Err(errors::constant("ERR INCR option supports a single increment-element pair"));
        }
        options.rule = ScoreRule {
            only: if nx { Some(MemberIf::Missing) } else { xx.then_some(MemberIf::There) },
            toward: if gt { Some(Toward::Greater) } else { lt.then_some(Toward::Less) },
        };
        Ok(options)
    }

    /// What the command is called where it is refused, if it decides.
    fn deciding(self) -> Option<&'static str> {
        match (self.rule.only, self.rule.toward) {
            (None, None) => None,
            (Some(MemberIf::Missing), _) => Some("ZADD NX"),
            (Some(MemberIf::There), None) => Some("ZADD XX"),
            (Some(MemberIf::There), Some(Toward::Greater)) => Some("ZADD XX GT"),
            (Some(MemberIf::There), Some(Toward::Less)) => Some("ZADD XX LT"),
            (None, Some(Toward::Greater)) => Some("ZADD GT"),
            (None, Some(Toward::Less)) => Some("ZADD LT"),
        }
    }
}

/// `ZADD key [NX | XX] [GT | LT] [CH] [INCR] score member [score member ...]`
fn zadd(mut arguments: Arguments) -> Result<Call, Reply> {
    let key = arguments.key()?;
    let options = ZaddOptions::parse(&mut arguments)?;
    let mut members = Vec::with_capacity(arguments.len() / 2);
    while arguments.len() > 0 {
        let score = score(&arguments.take())?;
        members.push((arguments.subkey()?, score));
    }
    let rule = options.rule;
    let (write, show): (Write, fn(ActionReply) -> Reply) = match members.pop() {
        Some((member, by)) if options.adds => (Write::AddToScore { key, member, by, rule }, sum),
        last => {
            members.extend(last);
            let write = Write::Score { key, members, rule };
            (write, if options.counts_changed { added_or_changed } else { added })
        }
    };
    let Some(command) = options.deciding() else { return Ok(Call::write(write, Shape::of_one(show, false))) };
    let judge = match (options.adds, options.counts_changed) {
        (true, _) => |decided| sum(done(decided)),
        (false, true) => |decided| added_or_changed(done(decided)),
        (false, false) => |decided| added(done(decided)),
    };
    Ok(Call::decide(command, doing(vec![write]), judge))
}

/// What the one write of a decision gave, which had no conditions.
fn done(decided: Decided) -> ActionReply {
    match decided.given.and_then(|mut given| given.pop()) {
        Some(Ok(reply)) => reply,
        other => unreachable!("it was done, and not {other:?}"),
    }
}

#[expect(clippy::needless_pass_by_value, reason = "it is what a command makes its answer by")]
fn added(reply: ActionReply) -> Reply {
    let ActionReply::Outcome(Outcome::Scored { added, .. }) = reply else { unreachable!("scores were set") };
    Reply::count(added)
}

#[expect(clippy::needless_pass_by_value, reason = "it is what a command makes its answer by")]
fn added_or_changed(reply: ActionReply) -> Reply {
    let ActionReply::Outcome(Outcome::Scored { added, changed }) = reply else {
        unreachable!("scores were set")
    };
    Reply::count(added + changed)
}

#[expect(clippy::needless_pass_by_value, reason = "it is what a command makes its answer by")]
fn sum(reply: ActionReply) -> Reply {
    let ActionReply::Outcome(Outcome::Score(score)) = reply else { unreachable!("a score was added to") };
    score_or_null(score)
}

fn score_or_null(score: Option<Score>) -> Reply {
    score.map_or(Reply::Null, |score| Reply::Double(score.get()))
}

fn zincrby(mut arguments: Arguments) -> Result<Call, Reply> {
    let (key, by, member) = (arguments.key()?, score(&arguments.take())?, arguments.subkey()?);
    let write = Write::AddToScore { key, member, by, rule: ScoreRule::default() };
    Ok(Call::write(write, Shape::of_one(sum, false)))
}

fn zrem(mut arguments: Arguments) -> Result<Call, Reply> {
    let (key, members) = (arguments.key()?, arguments.subkeys()?);
    Ok(Call::write(Write::Unscore { key, members }, Shape::Count))
}

fn zremrangebyrank(arguments: Arguments) -> Result<Call, Reply> {
    remove_range(By::Rank, arguments)
}

fn zremrangebyscore(arguments: Arguments) -> Result<Call, Reply> {
    remove_range(By::Score, arguments)
}

fn zremrangebylex(arguments: Arguments) -> Result<Call, Reply> {
    remove_range(By::Member, arguments)
}

fn remove_range(by: By, mut arguments: Arguments) -> Result<Call, Reply> {
    let (key, min, max) = (arguments.key()?, arguments.take(), arguments.take());
    Ok(Call::write(Write::UnscoreRange { key, range: by.range(&min, &max)? }, Shape::Count))
}

fn zpopmin(arguments: Arguments) -> Result<Call, Reply> {
    pop("ZPOPMIN", false, arguments)
}

fn zpopmax(arguments: Arguments) -> Result<Call, Reply> {
    pop("ZPOPMAX", true, arguments)
}

/// `ZPOPMIN key [count]`, and ZPOPMAX.
fn pop(command: &'static str, is_highest: bool, mut arguments: Arguments) -> Result<Call, Reply> {
    let key = arguments.key()?;
    let count = arguments.next();
    if arguments.len() > 0 {
        return Err(errors::SYNTAX);
    }
    let pop = |count| doing(vec![Write::PopScored { key, count, is_highest }]);
    let Some(count) = count else { return Ok(Call::decide(command, pop(1), popped)) };
    let count = errors::integer(&count).ok().and_then(|count| u64::try_from(count).ok());
    let count = count.ok_or(errors::constant("ERR value is out of range, must be positive"))?;
    Ok(Call::decide(command, pop(count), all_popped))
}

/// One member is not in a list of its own, unlike several.
fn popped(decided: Decided) -> Reply {
    let pair =
        removed(decided).pop().map(|(member, score)| [Reply::Bulk(member), Reply::Double(score.get())]);
    Reply::Array(pair.into_iter().flatten().collect())
}

fn all_popped(decided: Decided) -> Reply {
    with_scores(removed(decided))
}

fn removed(decided: Decided) -> Vec<Scored> {
    let ActionReply::Outcome(Outcome::ScoredMembers(members)) = done(decided) else {
        unreachable!("members were removed")
    };
    members
}

fn zcard(mut arguments: Arguments) -> Result<Call, Reply> {
    Ok(Call::query(Query::SortedCount(arguments.key()?, SortedRange::ALL), Shape::Count))
}

fn zcount(arguments: Arguments) -> Result<Call, Reply> {
    count(By::Score, arguments)
}

fn zlexcount(arguments: Arguments) -> Result<Call, Reply> {
    count(By::Member, arguments)
}

fn count(by: By, mut arguments: Arguments) -> Result<Call, Reply> {
    let (key, min, max) = (arguments.key()?, arguments.take(), arguments.take());
    Ok(Call::query(Query::SortedCount(key, by.range(&min, &max)?), Shape::Count))
}

fn zscore(mut arguments: Arguments) -> Result<Call, Reply> {
    let (key, member) = (arguments.key()?, arguments.subkey()?);
    let show = |reply| score_or_null(scores(reply).pop().flatten());
    Ok(Call::query(Query::Scores(key, vec![member]), Shape::of_one(show, false)))
}

fn zmscore(mut arguments: Arguments) -> Result<Call, Reply> {
    let (key, members) = (arguments.key()?, arguments.subkeys()?);
    let show = |reply| Reply::Array(scores(reply).into_iter().map(score_or_null).collect());
    Ok(Call::query(Query::Scores(key, members), Shape::of_one(show, false)))
}

fn scores(reply: ActionReply) -> Vec<Option<Score>> {
    let ActionReply::Answer(Answer::Scores(scores)) = reply else { unreachable!("scores were asked for") };
    scores
}

fn zrank(arguments: Arguments) -> Result<Call, Reply> {
    rank(false, arguments)
}

fn zrevrank(arguments: Arguments) -> Result<Call, Reply> {
    rank(true, arguments)
}

fn rank(is_reverse: bool, mut arguments: Arguments) -> Result<Call, Reply> {
    let (key, member) = (arguments.key()?, arguments.subkey()?);
    let show = |reply| match reply {
        ActionReply::Answer(Answer::Rank(rank)) => rank.map_or(Reply::Null, |(rank, _)| Reply::count(rank)),
        other => unreachable!("a rank was asked for, not {other:?}"),
    };
    Ok(Call::query(Query::Rank { key, member, is_reverse }, Shape::of_one(show, false)))
}

fn zrange(arguments: Arguments) -> Result<Call, Reply> {
    range(Form::default(), arguments)
}

fn zrevrange(arguments: Arguments) -> Result<Call, Reply> {
    range(Form { by: Some(By::Rank), is_reverse: Some(true) }, arguments)
}

fn zrangebyscore(arguments: Arguments) -> Result<Call, Reply> {
    range(Form { by: Some(By::Score), is_reverse: Some(false) }, arguments)
}

fn zrevrangebyscore(arguments: Arguments) -> Result<Call, Reply> {
    range(Form { by: Some(By::Score), is_reverse: Some(true) }, arguments)
}

fn zrangebylex(arguments: Arguments) -> Result<Call, Reply> {
    range(Form { by: Some(By::Member), is_reverse: Some(false) }, arguments)
}

fn zrevrangebylex(arguments: Arguments) -> Result<Call, Reply> {
    range(Form { by: Some(By::Member), is_reverse: Some(true) }, arguments)
}

fn range(form: Form, arguments: Arguments) -> Result<Call, Reply> {
    let asked = Asked::parse(form, arguments)?;
    let show = if asked.has_scores { shown_with_scores } else { shown };
    Ok(Call::query(asked.query(), Shape::of_one(show, true)))
}

/// `ZRANDMEMBER key [count [WITHSCORES]]`; a negative count asks for so many, which may be the same.
fn zrandmember(mut arguments: Arguments) -> Result<Call, Reply> {
    let key = arguments.key()?;
    let Some(count) = arguments.next() else {
        let show = |reply| Reply::optional(members(reply).pop().map(|(member, _)| member));
        return Ok(Call::query(random(key, Collection::Sorted, 1), Shape::of_one(show, false)));
    };
    let count = random_count(&count)?;
    let option = arguments.next();
    if arguments.len() > 0
        || option.as_ref().is_some_and(|option| !option.eq_ignore_ascii_case(b"withscores"))
    {
        return Err(errors::SYNTAX);
    }
    // As in Redis, which could not count the lines of the answer.
    if option.is_some() && count.unsigned_abs() > i64::MAX.unsigned_abs() / 2 {
        return Err(errors::constant("ERR value is out of range"));
    }
    let show = if option.is_some() { shown_with_scores } else { shown };
    Ok(Call::query(random(key, Collection::Sorted, count), Shape::of_one(show, true)))
}

fn shown(reply: ActionReply) -> Reply {
    Reply::Array(members(reply).into_iter().map(|(member, _)| Reply::Bulk(member)).collect())
}

fn shown_with_scores(reply: ActionReply) -> Reply {
    with_scores(members(reply))
}

fn with_scores(members: Vec<Scored>) -> Reply {
    let pair = |(member, score): Scored| (Reply::Bulk(member), Reply::Double(score.get()));
    Reply::Pairs(members.into_iter().map(pair).collect())
}

fn members(reply: ActionReply) -> Vec<Scored> {
    let ActionReply::Answer(Answer::Scored(members)) = reply else { unreachable!("members were asked for") };
    members
}
