//! LCS: the longest text that two values have in common, not necessarily in one piece.
//!
//! Source: the table of the textbook, walked back as Redis walks it, so that of several longest ones it is the same.

use tidelock_engine::read::Query;
use tidelock_engine::request::Action;

use super::call::{Arguments, Call, Given, Shape};
use super::errors;
use super::reply::Reply;
use super::substrings::value;
use super::table::{READ, Run, Spec, spec};

/// The commands of this family.
pub(super) const COMMANDS: &[Spec] = &[spec((
    "lcs",
    -3,
    READ,
    (1, 2, 1),
    Run::Data(lcs),
    "Finds the longest common subsequence of two values",
))];

/// The cells of the table, of four bytes each. Two values of 2,047 bytes fit; it takes some milliseconds and 16 MiB.
const CELLS_MAX: usize = 1 << 22;

/// What is wanted.
#[derive(Clone, Copy, Debug, Default)]
struct Wanted {
    is_length: bool,
    is_places: bool,
    match_length_min: usize,
    has_match_lengths: bool,
}

/// `LCS key1 key2 [LEN] [IDX] [MINMATCHLEN length] [WITHMATCHLEN]`
fn lcs(mut arguments: Arguments) -> Result<Call, Reply> {
    let keys = [arguments.key()?, arguments.key()?];
    let mut wanted = Wanted::default();
    while let Some(option) = arguments.next() {
        match option.to_ascii_lowercase().as_slice() {
            b"len" => wanted.is_length = true,
            b"idx" => wanted.is_places = true,
            b"withmatchlen" => wanted.has_match_lengths = true,
            b"minmatchlen" => {
                let length = errors::integer(&arguments.next().ok_or(errors::SYNTAX)?)?;
                wanted.match_length_min = usize::try_from(length.max(0)).unwrap_or(usize::MAX);
            }
            _ => return Err(errors::SYNTAX),
        }
    }
    if wanted.is_length && wanted.is_places {
        return Err(errors::constant("ERR If you want both the length and indexes, please just use IDX."));
    }
    let made = move |given: &mut Vec<Given>| common(given, wanted).unwrap_or_else(|refused| refused);
    Ok(Call::each(keys.into_iter().map(|key| Action::Query(Query::Get(key))), Shape::made(made, true)))
}

fn common(given: &mut Vec<Given>, wanted: Wanted) -> Result<Reply, Reply> {
    let text = |given: &mut Vec<Given>| {
        value(given).map_err(|refused| {
            let is_wrong = refused == errors::WRONG_TYPE;
            let strings = errors::constant("ERR The specified keys must contain string values");
            if is_wrong { strings } else { refused }
        })
    };
    let (b, a) = (text(given)?, text(given)?);
    if (a.len() + 1).saturating_mul(b.len() + 1) > CELLS_MAX {
        return Err(Reply::error(format!(
            "ERR String too long for LCS: the lengths, each with one more, may make {CELLS_MAX} together"
        )));
    }
    let table = Table::new(&a, &b);
    if wanted.is_length {
        return Ok(Reply::count(table.at(a.len(), b.len())));
    }
    let (text, matches) = table.walk_back(&a, &b);
    if !wanted.is_places {
        return Ok(Reply::Bulk(text));
    }
    let long = matches.into_iter().filter(|found| found.length >= wanted.match_length_min);
    Ok(Reply::Map(vec![
        (Reply::text("matches"), Reply::Array(long.map(|found| found.reply(wanted)).collect())),
        (Reply::text("len"), Reply::count(text.len())),
    ]))
}

/// What both have in one piece, and where it begins.
#[derive(Clone, Copy, Debug)]
struct Match {
    a: usize,
    b: usize,
    length: usize,
}

impl Match {
    fn reply(self, wanted: Wanted) -> Reply {
        let range =
            |first: usize| Reply::Array(vec![Reply::count(first), Reply::count(first + self.length - 1)]);
        let mut parts = vec![range(self.a), range(self.b)];
        if wanted.has_match_lengths {
            parts.push(Reply::count(self.length));
        }
        Reply::Array(parts)
    }
}

/// The lengths of what any two beginnings have in common.
struct Table {
    cells: Vec<u32>,
    columns: usize,
}

impl Table {
    fn new(a: &[u8], b: &[u8]) -> Self {
        let columns = b.len() + 1;
        let mut table = Self { cells: vec![0; (a.len() + 1) * columns], columns };
        for (i, byte) in a.iter().enumerate() {
            for (j, other) in b.iter().enumerate() {
                table.cells[(i + 1) * columns + j + 1] = if byte == other {
                    table.at(i, j) + 1
                } else {
                    table.at(i, j + 1).max(table.at(i + 1, j))
                };
            }
        }
        table
    }

    fn at(&self, i: usize, j: usize) -> u32 {
        self.cells[i * self.columns + j]
    }

    /// The longest text, and its pieces from the last to the first.
    fn walk_back(&self, a: &[u8], b: &[u8]) -> (Vec<u8>, Vec<Match>) {
        let (mut text, mut matches): (Vec<u8>, Vec<Match>) = (Vec::new(), Vec::new());
        let (mut i, mut j) = (a.len(), b.len());
        while i > 0 && j > 0 {
            if a[i - 1] == b[j - 1] {
                (i, j) = (i - 1, j - 1);
                text.push(a[i]);
                match matches.last_mut() {
                    Some(last) if last.a == i + 1 && last.b == j + 1 => {
                        *last = Match { a: i, b: j, length: last.length + 1 };
                    }
                    _ => matches.push(Match { a: i, b: j, length: 1 }),
                }
            } else if self.at(i - 1, j) > self.at(i, j - 1) {
                i -= 1;
            } else {
                j -= 1;
            }
        }
        text.reverse();
        (text, matches)
    }
}
