//! The commands that read, change and write one value whole: APPEND, SETRANGE, SETBIT, INCRBYFLOAT, HINCRBY and
//! HINCRBYFLOAT. Of two that are done at the same time on two replicas, one is lost to readers.

use tidelock_engine::write::{Addend, Decimal, Edit, Write};

use super::call::{Arguments, Call, Shape};
use super::errors;
use super::reply::Reply;
use super::table::{ONE, Run, Spec, WRITE, WRITE_FAST, spec};

/// The commands of this family.
pub(super) const COMMANDS: &[Spec] = &[
    spec(("append", 3, WRITE_FAST, ONE, Run::Data(append), "Writes behind the end of a value")),
    spec(("hincrby", 4, WRITE_FAST, ONE, Run::Data(hincrby), "Adds to the integer in a field")),
    spec(("hincrbyfloat", 4, WRITE_FAST, ONE, Run::Data(hincrbyfloat), "Adds to the number in a field")),
    spec(("incrbyfloat", 3, WRITE_FAST, ONE, Run::Data(incrbyfloat), "Adds to a number with a fraction")),
    spec(("setbit", 4, WRITE, ONE, Run::Data(setbit), "Writes one bit of a value")),
    spec(("setrange", 4, WRITE, ONE, Run::Data(setrange), "Writes over a part of a value")),
];

const NOT_A_FLOAT: Reply = errors::constant("ERR value is not a valid float");

/// Bits are counted up to here, as in Redis; how long a value may be is less.
const BIT_OFFSET_MAX: u64 = u32::MAX as u64;

fn edit(key: Vec<u8>, edit: Edit, shape: Shape) -> Call {
    Call::write(Write::Edit { key, edit }, shape)
}

pub(super) fn append(mut arguments: Arguments) -> Result<Call, Reply> {
    let (key, bytes) = (arguments.key()?, arguments.take());
    Ok(edit(key, Edit::Append(bytes), Shape::Number))
}

pub(super) fn setrange(mut arguments: Arguments) -> Result<Call, Reply> {
    let (key, offset) = (arguments.key()?, errors::integer(&arguments.take())?);
    let offset = u64::try_from(offset).map_err(|_| errors::constant("ERR offset is out of range"))?;
    Ok(edit(key, Edit::Splice { offset, bytes: arguments.take() }, Shape::Number))
}

pub(super) fn setbit(mut arguments: Arguments) -> Result<Call, Reply> {
    let (key, offset, bit) = (arguments.key()?, arguments.take(), arguments.take());
    let offset = errors::integer(&offset).ok().and_then(|offset| u64::try_from(offset).ok());
    let offset = offset
        .filter(|offset| *offset <= BIT_OFFSET_MAX)
        .ok_or(errors::constant("ERR bit offset is not an integer or out of range"))?;
    let is_set = match errors::integer(&bit) {
        Ok(0) => false,
        Ok(1) => true,
        _ => return Err(errors::constant("ERR bit is not an integer or out of range")),
    };
    Ok(edit(key, Edit::Bit { offset, is_set }, Shape::Number))
}

pub(super) fn incrbyfloat(mut arguments: Arguments) -> Result<Call, Reply> {
    let key = arguments.key()?;
    let by = Decimal::parse(&arguments.take()).ok_or(NOT_A_FLOAT)?;
    Ok(edit(key, Edit::Add(by), Shape::Value))
}

pub(super) fn hincrby(mut arguments: Arguments) -> Result<Call, Reply> {
    let (key, field) = (arguments.key()?, arguments.subkey()?);
    let by = Addend::Integer(errors::integer(&arguments.take())?);
    Ok(Call::write(Write::AddToField { key, field, by }, Shape::Number))
}

pub(super) fn hincrbyfloat(mut arguments: Arguments) -> Result<Call, Reply> {
    let (key, field) = (arguments.key()?, arguments.subkey()?);
    let by = Decimal::parse(&arguments.take()).ok_or(NOT_A_FLOAT)?;
    if !by.is_finite() {
        return Err(errors::constant("ERR value is NaN or Infinity"));
    }
    Ok(Call::write(Write::AddToField { key, field, by: Addend::Decimal(by) }, Shape::Value))
}
