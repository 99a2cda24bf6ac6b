//! What `top` knows: the last two reads of a node, what happened between them, and what the keys chose. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value as Json, json};

use crate::cli::client::{Client, ClientError};
use crate::cli::json;
use crate::cli::text::cell;
use crate::cli::value::Value;

/// A node as it was at a moment.
#[derive(Clone, Debug)]
pub(super) struct Reading {
    /// When, since the start of `top`.
    pub(super) at: Duration,
    /// The answer of `TIDE.STATUS`.
    pub(super) status: Value,
    /// The answer of `TIDE.PEERS`.
    pub(super) peers: Value,
    /// The answer of `TIDE.KEYSPACES`.
    pub(super) keyspaces: Value,
    /// Fields of `INFO` that are numbers.
    pub(super) info: BTreeMap<String, i64>,
}

impl Reading {
    /// Asks a node for everything.
    pub(super) fn ask(client: &mut Client, at: Duration) -> Result<Self, ClientError> {
        let status = client.call(&[b"TIDE.STATUS"])?;
        let peers = client.call(&[b"TIDE.PEERS"])?;
        let keyspaces = client.call(&[b"TIDE.KEYSPACES"])?;
        let Value::Bytes(info) = client.call(&[b"INFO"])? else { return Err(ClientError::NotANode) };
        Ok(Self { at, status, peers, keyspaces, info: numbers(&String::from_utf8_lossy(&info)) })
    }

    /// What is counted since the start of the node, by name.
    fn counts(&self) -> impl Iterator<Item = (String, i64)> {
        let commands = self.info.get("total_commands_processed").map(|count| ("commands".to_owned(), *count));
        let counters = self.status.field("counters").pairs().iter();
        commands.into_iter().chain(counters.filter_map(|(name, count)| Some((cell(name), count.integer()?))))
    }

    /// The keys of each keyspace.
    fn keys(&self) -> impl Iterator<Item = (String, i64)> {
        let keyspaces = self.keyspaces.items().iter();
        keyspaces
            .filter_map(|keyspace| Some((cell(keyspace.field("name")), keyspace.field("keys").integer()?)))
    }
}

fn numbers(info: &str) -> BTreeMap<String, i64> {
    let field = |line: &str| {
        let (name, number) = line.split_once(':')?;
        Some((name.to_owned(), number.parse().ok()?))
    };
    info.lines().filter_map(field).collect()
}

/// The list that the arrow keys scroll.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Focus {
    #[default]
    Peers,
    Keyspaces,
}

/// A key that means something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key {
    Pause,
    Switch,
    Up,
    Down,
}

/// What is shown.
#[derive(Clone, Debug, Default)]
pub(super) struct Model {
    pub(super) reading: Option<Reading>,
    /// Counts that changed between the last two readings, a second; `commands` first.
    pub(super) rates: Vec<(String, f64)>,
    /// Keys that came or went, a second, by keyspace.
    pub(super) key_rates: BTreeMap<String, f64>,
    /// Why there is nothing newer.
    pub(super) trouble: Option<String>,
    pub(super) is_paused: bool,
    pub(super) focus: Focus,
    pub(super) peers_scrolled: usize,
    pub(super) keyspaces_scrolled: usize,
}

impl Model {
    /// Takes in what the node answered, or why it did not. While it is paused, nothing changes.
    pub(super) fn take(&mut self, read: Result<Reading, String>) {
        if self.is_paused {
            return;
        }
        match read {
            Ok(reading) => {
                self.trouble = None;
                if let Some(before) = self.reading.take() {
                    let took = reading.at.saturating_sub(before.at);
                    self.rates = rates(&before.counts().collect(), reading.counts(), took);
                    self.rates.retain(|(name, rate)| name == "commands" || *rate > 0.0);
                    let keys = rates(&before.keys().collect(), reading.keys(), took);
                    self.key_rates = keys.into_iter().collect();
                }
                self.reading = Some(reading);
                self.scroll(0);
            }
            Err(trouble) => {
                // What was counted before a node went down is not compared with what it counts after it.
                self.trouble = Some(trouble);
                self.rates.clear();
                self.key_rates.clear();
            }
        }
    }

    pub(super) fn press(&mut self, key: Key) {
        match key {
            Key::Pause => self.is_paused = !self.is_paused,
            Key::Switch => {
                self.focus = if self.focus == Focus::Peers { Focus::Keyspaces } else { Focus::Peers };
            }
            Key::Up => self.scroll(-1),
            Key::Down => self.scroll(1),
        }
    }

    /// Moves the list in focus; the last line of either stays in sight.
    fn scroll(&mut self, by: isize) {
        let lines = |value: Option<&Value>| value.map_or(0, |value| value.items().len().saturating_sub(1));
        let reading = self.reading.as_ref();
        let peers = lines(reading.map(|reading| &reading.peers));
        let keyspaces = lines(reading.map(|reading| &reading.keyspaces));
        match self.focus {
            Focus::Peers => self.peers_scrolled = self.peers_scrolled.saturating_add_signed(by),
            Focus::Keyspaces => self.keyspaces_scrolled = self.keyspaces_scrolled.saturating_add_signed(by),
        }
        self.peers_scrolled = self.peers_scrolled.min(peers);
        self.keyspaces_scrolled = self.keyspaces_scrolled.min(keyspaces);
    }

    /// The last reading, in the fields of the commands that it is made of, and the rates.
    pub(super) fn json(&self) -> Json {
        let of = |pick: fn(&Reading) -> &Value| self.reading.as_ref().map(|reading| json::of(pick(reading)));
        json!({
            "status": of(|reading| &reading.status),
            "peers": of(|reading| &reading.peers),
            "keyspaces": of(|reading| &reading.keyspaces),
            "per_second": self.rates.iter().cloned().collect::<BTreeMap<_, _>>(),
            "keys_per_second": self.key_rates,
        })
    }
}

/// What was counted more, a second. A count that went down belongs to a node that was started again, or to keys.
fn rates(
    before: &BTreeMap<String, i64>,
    after: impl Iterator<Item = (String, i64)>,
    took: Duration,
) -> Vec<(String, f64)> {
    let seconds = took.as_secs_f64();
    #[expect(clippy::cast_precision_loss, reason = "a rate is shown in few digits")]
    let rate = |(name, count): (String, i64)| {
        let more = count - before.get(&name)?;
        (seconds > 0.0).then(|| (name, more as f64 / seconds))
    };
    after.filter_map(rate).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::top::tests::reading;

    #[test]
    fn rates_are_what_changed_between_two_reads() {
        let mut model = Model::default();
        model.take(Ok(reading(1, 1_000, 50)));
        assert!(model.rates.is_empty() && model.key_rates.is_empty());
        model.take(Ok(reading(3, 1_500, 40)));
        assert_eq!(model.rates, [("commands".to_owned(), 250.0), ("frames_received".to_owned(), 250.0)]);
        assert_eq!(model.key_rates.get("notes"), Some(&-5.0));
        model.take(Err("gone".to_owned()));
        assert!(model.rates.is_empty() && model.reading.is_some());
        model.take(Ok(reading(4, 1_500, 40)));
        assert_eq!((model.trouble.as_ref(), &model.rates[..]), (None, &[("commands".to_owned(), 0.0)][..]));
    }

    #[test]
    fn pause_holds_everything() {
        let mut model = Model::default();
        model.take(Ok(reading(1, 1_000, 50)));
        model.press(Key::Pause);
        model.take(Ok(reading(2, 2_000, 50)));
        model.take(Err("gone".to_owned()));
        assert!(model.rates.is_empty() && model.trouble.is_none());
        model.press(Key::Pause);
        model.take(Ok(reading(3, 3_000, 50)));
        assert_eq!(model.rates[0], ("commands".to_owned(), 1_000.0));
    }

    #[test]
    fn lists_scroll_to_their_last_line_and_no_further() {
        let mut model = Model::default();
        model.press(Key::Down);
        assert_eq!(model.peers_scrolled, 0);
        model.take(Ok(reading(1, 1_000, 50)));
        (0..5).for_each(|_| model.press(Key::Down));
        assert_eq!((model.peers_scrolled, model.keyspaces_scrolled), (1, 0));
        model.press(Key::Switch);
        model.press(Key::Down);
        (0..5).for_each(|_| model.press(Key::Up));
        assert_eq!((model.peers_scrolled, model.keyspaces_scrolled), (1, 0));
    }
}
