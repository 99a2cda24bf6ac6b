//! EXPIRE, TTL, PERSIST and their kin: until when keys live.
//!
//! A client says how long a key is to live from now on, or until when; kept is when it ends, by this node's clock.

use std::time::{SystemTime, UNIX_EPOCH};

use tidelock_engine::read::{Answer, Query};
use tidelock_engine::request::ActionReply;
use tidelock_engine::write::{ExpireIf, Ttl, Write};

use super::call::{Arguments, Call, Shape};
use super::errors;
use super::reply::Reply;
use super::table::{ONE, READ_FAST, Run, Spec, WRITE, WRITE_FAST, spec};

/// The commands of this family.
pub(super) const COMMANDS: &[Spec] = &[
    spec(("expire", -3, WRITE_FAST, ONE, Run::Data(expire), "Lets a key live for so many seconds more")),
    spec(("expireat", -3, WRITE_FAST, ONE, Run::Data(expireat), "Lets a key live until a Unix second")),
    spec(("expiretime", 2, READ_FAST, ONE, Run::Data(expiretime), "Tells the Unix second of a key's end")),
    spec(("persist", 2, WRITE_FAST, ONE, Run::Data(persist), "Lets a key live for ever")),
    spec((
        "pexpire",
        -3,
        WRITE_FAST,
        ONE,
        Run::Data(pexpire),
        "Lets a key live for so many milliseconds more",
    )),
    spec((
        "pexpireat",
        -3,
        WRITE_FAST,
        ONE,
        Run::Data(pexpireat),
        "Lets a key live until a Unix millisecond",
    )),
    spec((
        "pexpiretime",
        2,
        READ_FAST,
        ONE,
        Run::Data(pexpiretime),
        "Tells the Unix millisecond of a key's end",
    )),
    spec(("psetex", 4, WRITE, ONE, Run::Data(psetex), "Writes a value that lives for so many milliseconds")),
    spec(("pttl", 2, READ_FAST, ONE, Run::Data(pttl), "Tells how many milliseconds a key has left")),
    spec(("setex", 4, WRITE, ONE, Run::Data(setex), "Writes a value that lives for so many seconds")),
    spec(("ttl", 2, READ_FAST, ONE, Run::Data(ttl), "Tells how many seconds a key has left")),
];

/// How a command says when a key ends.
#[derive(Clone, Copy)]
struct Form {
    /// The milliseconds of its unit.
    unit_ms: i64,
    /// Whether it counts from now on.
    is_relative: bool,
}

const SECONDS: Form = Form { unit_ms: 1_000, is_relative: true };
const MILLISECONDS: Form = Form { unit_ms: 1, is_relative: true };
const UNIX_SECOND: Form = Form { unit_ms: 1_000, is_relative: false };
const UNIX_MILLISECOND: Form = Form { unit_ms: 1, is_relative: false };

impl Form {
    /// The Unix millisecond that an argument means, which may be long past; `None` if there is no such moment.
    fn deadline_ms(self, argument: i64) -> Option<i64> {
        let from = if self.is_relative { now_ms() } else { 0 };
        argument.checked_mul(self.unit_ms)?.checked_add(from)
    }
}

/// This node's clock, in Unix milliseconds.
fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

fn expire(arguments: Arguments) -> Result<Call, Reply> {
    end("expire", SECONDS, arguments)
}

fn pexpire(arguments: Arguments) -> Result<Call, Reply> {
    end("pexpire", MILLISECONDS, arguments)
}

fn expireat(arguments: Arguments) -> Result<Call, Reply> {
    end("expireat", UNIX_SECOND, arguments)
}

fn pexpireat(arguments: Arguments) -> Result<Call, Reply> {
    end("pexpireat", UNIX_MILLISECOND, arguments)
}

/// `EXPIRE key when [NX|XX] [GT|LT]`. A moment that is past removes the key.
fn end(command: &str, form: Form, mut arguments: Arguments) -> Result<Call, Reply> {
    let (key, when) = (arguments.key()?, errors::integer(&arguments.take())?);
    let deadline_ms = form.deadline_ms(when).ok_or_else(|| invalid(command))?;
    let deadline_ms = u64::try_from(deadline_ms).unwrap_or(0);
    let only = only(arguments)?;
    Ok(Call::write(Write::Expire { key, deadline_ms, only }, Shape::Count))
}

fn only(mut arguments: Arguments) -> Result<Option<ExpireIf>, Reply> {
    let [mut nx, mut xx, mut gt, mut lt] = [false; 4];
    while let Some(option) = arguments.next() {
        match option.to_ascii_lowercase().as_slice() {
            b"nx" => nx = true,
            b"xx" => xx = true,
            b"gt" => gt = true,
            b"lt" => lt = true,
            _ => {
                let option = errors::text(&option, 64);
                return Err(Reply::error(format!("ERR Unsupported option {option}")));
            }
        }
    }
    match (nx, xx, gt, lt) {
        (true, xx, gt, lt) if xx || gt || lt => {
            Err(errors::constant("ERR NX and XX, GT or LT options at the same time are not compatible"))
        }
        (_, _, true, true) => {
            Err(errors::constant("ERR GT and LT options at the same time are not compatible"))
        }
        (true, ..) => Ok(Some(ExpireIf::HasNone)),
        (_, _, true, _) => Ok(Some(ExpireIf::Later)),
        (_, true, _, true) => Ok(Some(ExpireIf::HasLater)),
        (_, _, _, true) => Ok(Some(ExpireIf::Sooner)),
        (_, true, ..) => Ok(Some(ExpireIf::HasOne)),
        _ => Ok(None),
    }
}

fn persist(mut arguments: Arguments) -> Result<Call, Reply> {
    Ok(Call::write(Write::Persist { key: arguments.key()? }, Shape::Count))
}

fn setex(arguments: Arguments) -> Result<Call, Reply> {
    set_for("setex", SECONDS, arguments)
}

fn psetex(arguments: Arguments) -> Result<Call, Reply> {
    set_for("psetex", MILLISECONDS, arguments)
}

fn set_for(command: &str, form: Form, mut arguments: Arguments) -> Result<Call, Reply> {
    let (key, when, value) = (arguments.key()?, arguments.take(), arguments.take());
    let ttl = until(command, form, &when)?;
    Ok(Call::write(Write::SetFor { key, value, ttl }, Shape::Done))
}

/// What an option of SET or its kin says about the end of the key; `None` if it is another option. Its value follows
/// it.
pub(super) fn ttl_option(
    command: &str,
    option: &[u8],
    arguments: &mut Arguments,
) -> Result<Option<Ttl>, Reply> {
    let form = match option.to_ascii_lowercase().as_slice() {
        b"ex" => SECONDS,
        b"px" => MILLISECONDS,
        b"exat" => UNIX_SECOND,
        b"pxat" => UNIX_MILLISECOND,
        _ => return Ok(None),
    };
    let when = arguments.next().ok_or(errors::SYNTAX)?;
    until(command, form, &when).map(Some)
}

/// What must be in the future of the epoch, if not of this moment.
fn until(command: &str, form: Form, when: &[u8]) -> Result<Ttl, Reply> {
    let when = errors::integer(when)?;
    let deadline_ms = form.deadline_ms(when).filter(|_| when > 0).ok_or_else(|| invalid(command))?;
    Ok(Ttl::Until(u64::try_from(deadline_ms).unwrap_or(0)))
}

fn invalid(command: &str) -> Reply {
    Reply::error(format!("ERR invalid expire time in '{command}' command"))
}

fn ttl(arguments: Arguments) -> Result<Call, Reply> {
    ask(arguments, |unix_ms| seconds(left(unix_ms)))
}

fn pttl(arguments: Arguments) -> Result<Call, Reply> {
    ask(arguments, left)
}

fn expiretime(arguments: Arguments) -> Result<Call, Reply> {
    ask(arguments, seconds)
}

fn pexpiretime(arguments: Arguments) -> Result<Call, Reply> {
    ask(arguments, |unix_ms| unix_ms)
}

/// A question about the end of a key: -2 if there is no key, -1 if it has no end.
fn ask(mut arguments: Arguments, show: fn(i64) -> i64) -> Result<Call, Reply> {
    let query = Query::Deadline(arguments.key()?);
    let shape = Shape::made(
        move |given| match given.pop() {
            Some(Ok(ActionReply::Answer(Answer::Deadline(None)))) => Reply::Integer(-2),
            Some(Ok(ActionReply::Answer(Answer::Deadline(Some(None))))) => Reply::Integer(-1),
            Some(Ok(ActionReply::Answer(Answer::Deadline(Some(Some(unix_ms)))))) => {
                Reply::Integer(show(i64::try_from(unix_ms).unwrap_or(i64::MAX)))
            }
            Some(Err(error)) => errors::action(&error),
            _ => unreachable!("the deadline of a key was asked for"),
        },
        false,
    );
    Ok(Call::query(query, shape))
}

/// A deadline that is past is not shown as such: the key goes in a moment.
fn left(unix_ms: i64) -> i64 {
    unix_ms.saturating_sub(now_ms()).max(0)
}

/// Seconds are rounded to the nearest, as in Redis.
fn seconds(ms: i64) -> i64 {
    ms.saturating_add(500) / 1_000
}
