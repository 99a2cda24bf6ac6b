//! SUBSCRIBE, PUBLISH and PUBSUB: messages between the clients of all peers.
//!
//! Confirmations and messages are written as they happen and are not replies: CLIENT REPLY does not mute them, and one
//! command gives as many as it names channels.

use super::backend::Backend;
use super::call::Arguments;
use super::errors;
use super::introspection::help;
use super::output::Output;
use super::reply::Reply;
use super::session::Session;
use super::table::{ALONE, FAST, NONE, Other, Run, Spec, spec};
use crate::pubsub::{Hub, Notice, PubSub, PublishError, Space, Subscriber};

/// The commands of this family.
pub(super) const COMMANDS: &[Spec] = &[
    subscribing(
        "psubscribe",
        -2,
        Other::Subscribe(Space::Pattern),
        "Listens to channels that match patterns",
    ),
    spec(("publish", 3, FAST, NONE, Run::Message(publish), "Tells a message to who listens to a channel")),
    spec(("pubsub", -2, NONE_OF_THESE, NONE, Run::Message(pubsub), "Tells who listens to what")),
    subscribing("punsubscribe", -1, Other::Unsubscribe(Space::Pattern), "Listens to patterns no more"),
    spec((
        "spublish",
        3,
        FAST,
        NONE,
        Run::Message(spublish),
        "Tells a message to who listens to a shard channel",
    )),
    subscribing("ssubscribe", -2, Other::Subscribe(Space::Sharded), "Listens to shard channels"),
    subscribing("subscribe", -2, Other::Subscribe(Space::Plain), "Listens to channels"),
    subscribing("sunsubscribe", -1, Other::Unsubscribe(Space::Sharded), "Listens to shard channels no more"),
    subscribing("unsubscribe", -1, Other::Unsubscribe(Space::Plain), "Listens to channels no more"),
];

const NONE_OF_THESE: &[&str] = &[];

const HELP: &[&str] = &[
    "PUBSUB <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    "CHANNELS [<pattern>]",
    "    Return the currently active channels matching a <pattern> (default: '*').",
    "NUMPAT",
    "    Return number of subscriptions to patterns.",
    "NUMSUB [<channel> ...]",
    "    Return the number of subscribers for the specified channels, excluding",
    "    pattern subscriptions(default: no channels).",
    "SHARDCHANNELS [<pattern>]",
    "    Return the currently active shard level channels matching a <pattern> (default: '*').",
    "SHARDNUMSUB [<shardchannel> ...]",
    "    Return the number of subscribers for the specified shard level channel(s)",
    "HELP",
    "    Print this help.",
];

/// A command that changes what the client listens to. It is not queued by MULTI.
const fn subscribing(name: &'static str, arity: i64, other: Other, summary: &'static str) -> Spec {
    spec((name, arity, ALONE, NONE, Run::Other(other), summary))
}

/// `channel message`
fn publish(pubsub: &PubSub, arguments: Arguments) -> Reply {
    tell(pubsub, Space::Plain, arguments)
}

/// `shardchannel message`
fn spublish(pubsub: &PubSub, arguments: Arguments) -> Reply {
    tell(pubsub, Space::Sharded, arguments)
}

fn tell(pubsub: &PubSub, space: Space, mut arguments: Arguments) -> Reply {
    let (channel, payload) = (arguments.take(), arguments.take());
    match pubsub.publish(space, &channel, &payload) {
        Ok(told) => Reply::count(told),
        Err(error @ PublishError::TooLarge { .. }) => Reply::error(format!("ERR {error}")),
    }
}

/// `CHANNELS [pattern] | NUMSUB [channel ...] | NUMPAT | SHARDCHANNELS [pattern] | SHARDNUMSUB [channel ...] | HELP`
fn pubsub(pubsub: &PubSub, mut arguments: Arguments) -> Reply {
    let (hub, subcommand) = (pubsub.hub(), arguments.take());
    let name = errors::text(&subcommand, 16).to_ascii_lowercase();
    let (least, most) = match name.as_str() {
        "channels" | "shardchannels" => (0, 1),
        "numsub" | "shardnumsub" => (0, usize::MAX),
        "numpat" | "help" => (0, 0),
        _ => return errors::unknown_subcommand("PUBSUB", &subcommand),
    };
    if !(least..=most).contains(&arguments.len()) {
        // Redis checks these two itself, and not by its table.
        return match name.as_str() {
            "channels" | "shardchannels" => Reply::error(format!(
                "ERR unknown subcommand or wrong number of arguments for '{}'. Try PUBSUB HELP.",
                errors::text(&subcommand, 16)
            )),
            _ => errors::arity(&format!("pubsub|{name}")),
        };
    }
    let space = if name.starts_with("shard") { Space::Sharded } else { Space::Plain };
    match name.as_str() {
        "help" => help(HELP),
        "numpat" => Reply::count(hub.figures().patterns),
        "channels" | "shardchannels" => {
            let channels = hub.channels(space, arguments.next().as_deref());
            Reply::Array(channels.into_iter().map(Reply::Bulk).collect())
        }
        _ => {
            let counts = arguments
                .as_slice()
                .iter()
                .flat_map(|channel| [Reply::Bulk(channel.clone()), Reply::count(hub.count(space, channel))]);
            Reply::Array(counts.collect())
        }
    }
}

/// How a kind of channel is called in what is pushed.
fn words(space: Space) -> [&'static str; 2] {
    match space {
        Space::Plain => ["subscribe", "unsubscribe"],
        Space::Sharded => ["ssubscribe", "sunsubscribe"],
        Space::Pattern => ["psubscribe", "punsubscribe"],
    }
}

/// What Redis counts together: channels with patterns, and shard channels by themselves.
fn count(subscriber: &Subscriber, space: Space) -> usize {
    match space {
        Space::Sharded => subscriber.names(space).len(),
        _ => subscriber.names(Space::Plain).len() + subscriber.names(Space::Pattern).len(),
    }
}

/// What a subscriber is told; `None` for what it has lost.
fn pushed(notice: &Notice) -> Option<Reply> {
    let Notice::Message { pattern, letter } = notice else { return None };
    let (channel, payload) = (Reply::Bulk(letter.channel.clone()), Reply::Bulk(letter.payload.clone()));
    Some(Reply::Push(match pattern {
        Some(pattern) => vec![Reply::text("pmessage"), Reply::Bulk(pattern.to_vec()), channel, payload],
        None if letter.is_sharded() => vec![Reply::text("smessage"), channel, payload],
        None => vec![Reply::text("message"), channel, payload],
    }))
}

impl<B: Backend> Session<B> {
    /// Listens to more, and confirms each.
    pub(super) fn subscribe(&mut self, space: Space, mut arguments: Arguments, out: &mut Output<'_>) {
        let bytes_max = out.bytes_max();
        let hub = self.backend.pubsub().hub();
        let subscriber = self.subscriber.get_or_insert_with(|| Hub::subscriber(hub, bytes_max));
        while let Some(name) = arguments.next() {
            subscriber.subscribe(space, &name);
            let count = Reply::count(count(subscriber, space));
            let confirmed = Reply::Push(vec![Reply::text(words(space)[0]), Reply::Bulk(name), count]);
            out.push(&confirmed, self.state.protocol);
        }
        self.note_subscriptions();
    }

    /// Listens to less, or to nothing of a kind, and confirms each. What was told before comes first.
    pub(super) fn unsubscribe(&mut self, space: Space, mut arguments: Arguments, out: &mut Output<'_>) {
        self.push_messages(usize::MAX, out);
        let mut names: Vec<Vec<u8>> = std::iter::from_fn(|| arguments.next()).collect();
        if names.is_empty() {
            let all = self.subscriber.iter().flat_map(|subscriber| subscriber.names(space));
            names = all.map(|name| name.to_vec()).collect();
        }
        let word = || Reply::text(words(space)[1]);
        let protocol = self.state.protocol;
        let mut confirm = |name, subscriber: Option<&Subscriber>| {
            let count = Reply::count(subscriber.map_or(0, |subscriber| count(subscriber, space)));
            out.push(&Reply::Push(vec![word(), name, count]), protocol);
        };
        if names.is_empty() {
            confirm(Reply::Null, self.subscriber.as_ref());
        }
        for name in names {
            if let Some(subscriber) = &mut self.subscriber {
                subscriber.unsubscribe(space, &name);
            }
            confirm(Reply::Bulk(name), self.subscriber.as_ref());
        }
        self.note_subscriptions();
    }

    /// Listens to nothing more, and forgets what was told.
    pub(super) fn unsubscribe_all(&mut self) {
        self.subscriber = None;
        self.note_subscriptions();
    }

    /// Writes the messages that wait, until so many bytes are unread. A client that lost some is closed, as Redis does.
    pub(super) fn push_messages(&self, unread_bytes_max: usize, out: &mut Output<'_>) {
        let Some(subscriber) = &self.subscriber else { return };
        while out.len() < unread_bytes_max && out.failure().is_none() {
            let Some(notice) = subscriber.try_next() else { return };
            match pushed(&notice) {
                Some(message) => out.push(&message, self.state.protocol),
                None => out.give_up(),
            }
        }
    }

    fn note_subscriptions(&mut self) {
        let of = |space| self.subscriber.as_ref().map_or(0, |subscriber| subscriber.names(space).len());
        self.state.subscriptions = Subscriptions {
            plain: of(Space::Plain),
            patterns: of(Space::Pattern),
            sharded: of(Space::Sharded),
        };
    }
}

/// Returns when a message waits. With no room for one it waits for the loss of one.
pub(super) async fn told(subscriber: Option<&Subscriber>, has_room: bool) {
    match subscriber {
        Some(subscriber) => subscriber.told(has_room).await,
        None => std::future::pending().await,
    }
}

/// Refuses what a client that listens to something cannot be answered.
pub(super) fn check_listening(spec: &Spec) -> Result<(), Reply> {
    let is_subscribing = matches!(spec.run, Run::Other(Other::Subscribe(_) | Other::Unsubscribe(_)));
    if is_subscribing || matches!(spec.name, "ping" | "quit" | "reset") {
        return Ok(());
    }
    Err(Reply::error(format!(
        "ERR Can't execute '{}': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context",
        spec.name
    )))
}

/// How much a client listens to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Subscriptions {
    pub(super) plain: usize,
    pub(super) patterns: usize,
    pub(super) sharded: usize,
}

impl Subscriptions {
    pub(super) fn is_any(self) -> bool {
        self != Self::default()
    }
}
