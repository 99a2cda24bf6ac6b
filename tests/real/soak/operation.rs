//! The operations of the workload, as values: what is done to which key, and how it is said in Redis.

use std::fmt;

/// What a key holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// One value.
    Register,
    /// A count.
    Counter,
    /// Members.
    Set,
    /// Fields and their values.
    Map,
    /// Whatever was written last: writers use all verbs on it.
    Mixed,
    /// The one set whose members are added once and never removed.
    Ledger,
}

/// A key: who writes it, what it holds, and its number among those.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    /// Its only writer; `None` if all write it.
    pub(crate) owner: Option<usize>,
    /// What it holds.
    pub(crate) kind: Kind,
    /// Its number.
    pub(crate) number: usize,
}

impl fmt::Display for Key {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            Kind::Register => "register",
            Kind::Counter => "counter",
            Kind::Set => "set",
            Kind::Map => "map",
            Kind::Mixed => "mixed",
            Kind::Ledger => "ledger",
        };
        match self.owner {
            Some(owner) => write!(out, "own-{owner}:{kind}:{}", self.number),
            None => write!(out, "all:{kind}:{}", self.number),
        }
    }
}

/// What is done to a key. Words have neither spaces nor brackets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    /// SET.
    Set(String),
    /// GET.
    Get,
    /// INCR.
    Increment,
    /// SADD of one member.
    Add(String),
    /// SREM of one member.
    Remove(String),
    /// SISMEMBER.
    Has(String),
    /// HSET of one field.
    Put(String, String),
    /// HDEL of one field.
    Take(String),
    /// HGET.
    Look(String),
    /// DEL.
    Delete,
}

/// One operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Operation {
    /// On what.
    pub(crate) key: Key,
    /// What.
    pub(crate) verb: Verb,
}

impl Operation {
    /// Whether it changes anything.
    pub(crate) fn is_write(&self) -> bool {
        !matches!(self.verb, Verb::Get | Verb::Has(_) | Verb::Look(_))
    }

    /// The command and its arguments.
    pub(crate) fn command(&self) -> Vec<String> {
        let (name, rest): (&str, &[&String]) = match &self.verb {
            Verb::Set(value) => ("SET", &[value]),
            Verb::Get => ("GET", &[]),
            Verb::Increment => ("INCR", &[]),
            Verb::Add(member) => ("SADD", &[member]),
            Verb::Remove(member) => ("SREM", &[member]),
            Verb::Has(member) => ("SISMEMBER", &[member]),
            Verb::Put(field, value) => ("HSET", &[field, value]),
            Verb::Take(field) => ("HDEL", &[field]),
            Verb::Look(field) => ("HGET", &[field]),
            Verb::Delete => ("DEL", &[]),
        };
        let mut command = vec![name.to_owned(), self.key.to_string()];
        command.extend(rest.iter().map(|&word| word.clone()));
        command
    }
}
