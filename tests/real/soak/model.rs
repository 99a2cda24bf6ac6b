//! What the keys of one writer must hold, and what a node must answer when only this writer writes them.
//!
//! A writer talks to one node only, so it sees all that it did, and every reply is known beforehand. What was
//! in flight when its node was killed is unsure: the node answered none of it and did some of it, in order.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use crate::processes::Client;

use super::operation::{Key, Kind, Operation, Verb};

/// What a key holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    /// A register's value; or a reply that cannot be right.
    Text(String),
    /// A count.
    Count(u64),
    /// Members, of which there is one.
    Set(BTreeSet<String>),
    /// Fields and values, of which there is one.
    Map(BTreeMap<String, String>),
}

/// The keys of a writer that exist.
#[derive(Clone, Debug, Default)]
pub(crate) struct Model {
    keys: BTreeMap<Key, Value>,
}

impl Model {
    /// What a key holds.
    pub(crate) fn value(&self, key: Key) -> Option<&Value> {
        self.keys.get(&key)
    }

    /// Does an operation; answers what a node must reply.
    pub(crate) fn apply(&mut self, operation: &Operation) -> String {
        let key = operation.key;
        match &operation.verb {
            Verb::Delete => flag(self.keys.remove(&key).is_some()),
            Verb::Set(value) => {
                self.keys.insert(key, Value::Text(value.clone()));
                "OK".to_owned()
            }
            Verb::Get => match self.keys.get(&key) {
                Some(Value::Text(text)) => text.clone(),
                Some(Value::Count(count)) => count.to_string(),
                _ => "nil".to_owned(),
            },
            Verb::Increment => {
                let value = self.keys.entry(key).or_insert(Value::Count(0));
                let Value::Count(count) = value else { unreachable!("the workload keeps kinds apart") };
                *count += 1;
                count.to_string()
            }
            Verb::Add(member) => flag(self.members(key, |set| set.insert(member.clone()))),
            Verb::Remove(member) => flag(self.members(key, |set| set.remove(member))),
            Verb::Has(member) => flag(self.members(key, |set| set.contains(member))),
            Verb::Put(field, value) => {
                flag(self.fields(key, |map| map.insert(field.clone(), value.clone()).is_none()))
            }
            Verb::Take(field) => flag(self.fields(key, |map| map.remove(field).is_some())),
            Verb::Look(field) => {
                self.fields(key, |map| map.get(field).cloned().unwrap_or_else(|| "nil".to_owned()))
            }
        }
    }

    /// Finds out what was done of the operations in flight, given what their keys hold now, and takes it over.
    ///
    /// # Errors
    /// No prefix of them explains it: something acknowledged was lost, or something was done that was not asked.
    pub(crate) fn resolve(
        &mut self,
        in_flight: &[Operation],
        found: &BTreeMap<Key, Option<Value>>,
    ) -> Result<usize, String> {
        let mut attempt = self.clone();
        for done in 0..=in_flight.len() {
            if found.iter().all(|(key, value)| attempt.value(*key) == value.as_ref()) {
                *self = attempt;
                return Ok(done);
            }
            if let Some(operation) = in_flight.get(done) {
                attempt.apply(operation);
            }
        }
        let is_touched = |key: &Key| in_flight.iter().any(|operation| operation.key == *key);
        let wrong = found.iter().filter(|(key, value)| self.value(**key) != value.as_ref());
        // A key that nothing was under way for says more.
        let (key, value) =
            wrong.min_by_key(|(key, _)| is_touched(key)).expect("or the first prefix, which is empty, fits");
        let acknowledged = self.value(*key);
        Err(format!(
            "{key} holds {value:?}; acknowledged was {acknowledged:?}, and no prefix of what was in flight \
             explains it: {in_flight:?}"
        ))
    }

    fn members<T>(&mut self, key: Key, act: impl FnOnce(&mut BTreeSet<String>) -> T) -> T {
        let value = self.keys.entry(key).or_insert_with(|| Value::Set(BTreeSet::new()));
        let Value::Set(set) = value else { unreachable!("the workload keeps kinds apart") };
        let answer = act(set);
        if set.is_empty() {
            self.keys.remove(&key);
        }
        answer
    }

    fn fields<T>(&mut self, key: Key, act: impl FnOnce(&mut BTreeMap<String, String>) -> T) -> T {
        let value = self.keys.entry(key).or_insert_with(|| Value::Map(BTreeMap::new()));
        let Value::Map(map) = value else { unreachable!("the workload keeps kinds apart") };
        let answer = act(map);
        if map.is_empty() {
            self.keys.remove(&key);
        }
        answer
    }
}

/// Reads keys as they are on a node.
///
/// # Errors
/// The node went away.
pub(crate) fn observe(client: &mut Client, keys: &[Key]) -> io::Result<BTreeMap<Key, Option<Value>>> {
    let commands = keys.iter().map(|key| {
        let name = match key.kind {
            Kind::Set | Kind::Ledger => "SMEMBERS",
            Kind::Map => "HGETALL",
            Kind::Register | Kind::Counter | Kind::Mixed => "GET",
        };
        [name.to_owned(), key.to_string()]
    });
    client.send(commands)?;
    keys.iter().map(|key| Ok((*key, parse(key.kind, client.read_next()?)))).collect()
}

fn parse(kind: Kind, reply: String) -> Option<Value> {
    let list = || reply.strip_prefix('[')?.strip_suffix(']');
    match (kind, list()) {
        (Kind::Set | Kind::Ledger | Kind::Map, Some("")) => None,
        (Kind::Set | Kind::Ledger, Some(list)) => {
            Some(Value::Set(list.split(' ').map(str::to_owned).collect()))
        }
        (Kind::Map, Some(list)) => {
            let words: Vec<&str> = list.split(' ').collect();
            let pairs = words.chunks(2).map(|pair| (pair[0].to_owned(), pair[1..].concat()));
            Some(Value::Map(pairs.collect()))
        }
        _ if reply == "nil" => None,
        (Kind::Counter, _) if let Ok(count) = reply.parse() => Some(Value::Count(count)),
        _ => Some(Value::Text(reply)),
    }
}

fn flag(is_so: bool) -> String {
    u8::from(is_so).to_string()
}
