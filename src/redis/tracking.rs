//! CLIENT TRACKING: a client keeps copies of what it reads, and is told when one is not good any more.
//!
//! It is told behind the replies to what it sent, so that a reply never brings back what was just given up. In RESP2 another
//! client is told, which listens to a channel: who talks to both must expect to be told before the reply comes.

use std::collections::BTreeSet;
use std::sync::{Arc, Weak};

use super::backend::Backend;
use super::call::Arguments;
use super::errors;
use super::introspection;
use super::output::Output;
use super::reply::{Protocol, Reply};
use super::session::Session;
use super::state::Shared;
use super::table::{Other, Run, Spec};
use crate::pubsub::{Inbox, Invalidation, Tracker};

/// Where clients of RESP2 are told.
const CHANNEL: &str = "__redis__:invalidate";

/// The prefixes of one client, in bytes with [`PREFIX_COST_BYTES`] for each.
const PREFIXES_BYTES_MAX: usize = 64 << 10;
const PREFIX_COST_BYTES: usize = 64;

const OTHER_BROADCAST: Reply = errors::constant(
    "ERR You can't switch BCAST mode on/off before disabling tracking for this client, and then re-enabling it with a \
     different mode.",
);
const OTHER_CHOICE: Reply = errors::constant(
    "ERR You can't switch OPTIN/OPTOUT mode before disabling tracking for this client, and then re-enabling it with a \
     different mode.",
);

/// Of which keys a client is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Which {
    /// Of those that it reads.
    Read,
    /// Of those that it reads when it has said so just before.
    OptedIn,
    /// Of those that it reads unless it has said so just before.
    NotOptedOut,
    /// Of all that begin with its prefixes.
    Prefixed,
}

/// What CLIENT TRACKING said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tracks {
    pub(super) which: Which,
    is_noloop: bool,
    /// The client that is told instead, or 0.
    pub(super) redirect: u64,
    /// Whether CLIENT CACHING spoke of the next command.
    is_chosen: bool,
}

impl Tracks {
    fn remembers(self) -> bool {
        match self.which {
            Which::Read => true,
            Which::OptedIn => self.is_chosen,
            Which::NotOptedOut => !self.is_chosen,
            Which::Prefixed => false,
        }
    }

    /// The words of CLIENT TRACKINGINFO.
    fn words(self) -> Vec<&'static str> {
        let mut words = vec!["on"];
        match (self.which, self.is_chosen) {
            (Which::Read, _) => {}
            (Which::Prefixed, _) => words.push("bcast"),
            (Which::OptedIn, false) => words.push("optin"),
            (Which::OptedIn, true) => words.extend(["optin", "caching-yes"]),
            (Which::NotOptedOut, false) => words.push("optout"),
            (Which::NotOptedOut, true) => words.extend(["optout", "caching-no"]),
        }
        if self.is_noloop {
            words.push("noloop");
        }
        words
    }
}

/// The options of CLIENT TRACKING.
#[derive(Debug, Default)]
struct Options {
    which: BTreeSet<Which>,
    is_noloop: bool,
    redirect: Option<(u64, Weak<Inbox>)>,
    prefixes: Vec<Vec<u8>>,
}

impl Options {
    /// `[REDIRECT id] [BCAST] [PREFIX prefix] ... [OPTIN] [OPTOUT] [NOLOOP]`
    fn parse(arguments: &mut Arguments, shared: &Shared) -> Result<Self, Reply> {
        let mut options = Self::default();
        while let Some(option) = arguments.next() {
            match errors::text(&option, 16).to_ascii_lowercase().as_str() {
                "bcast" => drop(options.which.insert(Which::Prefixed)),
                "optin" => drop(options.which.insert(Which::OptedIn)),
                "optout" => drop(options.which.insert(Which::NotOptedOut)),
                "noloop" => options.is_noloop = true,
                "prefix" => options.prefixes.push(arguments.next().ok_or(errors::SYNTAX)?),
                "redirect" => {
                    let id = arguments.next().ok_or(errors::SYNTAX)?;
                    if options.redirect.is_some() {
                        let text = "ERR A client can only redirect to a single other client";
                        return Err(errors::constant(text));
                    }
                    let id = u64::try_from(errors::integer(&id)?).unwrap_or(0);
                    let client = shared
                        .clients
                        .get(id)
                        .ok_or(errors::constant("ERR The client ID you want redirect to does not exist"))?;
                    options.redirect = Some((id, Arc::downgrade(&client.inbox)));
                }
                _ => return Err(errors::SYNTAX),
            }
        }
        Ok(options)
    }

    /// Of which keys is to be told, if that can be said at once and fits to what was said before.
    fn which(&self, before: Option<Tracks>) -> Result<Which, Reply> {
        let has = |which| self.which.contains(&which);
        let was = |which| before.is_some_and(|before| before.which == which);
        if !self.prefixes.is_empty() && !has(Which::Prefixed) {
            return Err(errors::constant("ERR PREFIX option requires BCAST mode to be enabled"));
        }
        if before.is_some() && was(Which::Prefixed) != has(Which::Prefixed) {
            return Err(OTHER_BROADCAST);
        }
        if has(Which::Prefixed) && self.which.len() > 1 {
            return Err(errors::constant("ERR OPTIN and OPTOUT are not compatible with BCAST"));
        }
        if self.which.len() > 1 {
            return Err(errors::constant("ERR You can't specify both OPTIN mode and OPTOUT mode"));
        }
        let is_other = |now, then| has(now) && was(then);
        if is_other(Which::OptedIn, Which::NotOptedOut) || is_other(Which::NotOptedOut, Which::OptedIn) {
            return Err(OTHER_CHOICE);
        }
        Ok(self.which.first().copied().unwrap_or(Which::Read))
    }

    /// Refuses prefixes of which one begins like another, so that no key is told twice.
    fn check_prefixes(&self, known: &[Arc<[u8]>]) -> Result<(), Reply> {
        let shown = |bytes: &[u8]| errors::text(bytes, 128);
        let overlaps = |a: &[u8], b: &[u8]| a.starts_with(b) || b.starts_with(a);
        let refused = |prefix: &[u8], what: &str, other: &[u8]| {
            Err(Reply::error(format!(
                "ERR Prefix '{}' overlaps with {what} prefix '{}'. Prefixes for a single client must not overlap.",
                shown(prefix),
                shown(other)
            )))
        };
        for (place, prefix) in self.prefixes.iter().enumerate() {
            if let Some(other) = known.iter().find(|other| overlaps(prefix, other)) {
                return refused(prefix, "an existing", other);
            }
            if let Some(other) = self.prefixes[place + 1..].iter().find(|other| overlaps(prefix, other)) {
                return refused(prefix, "another provided", other);
            }
        }
        let lengths = known.iter().map(|prefix| prefix.len()).chain(self.prefixes.iter().map(Vec::len));
        if lengths.map(|length| PREFIX_COST_BYTES + length).sum::<usize>() > PREFIXES_BYTES_MAX {
            return Err(errors::constant("ERR too many prefixes"));
        }
        Ok(())
    }
}

impl<B: Backend> Session<B> {
    /// Answers the subcommands of CLIENT that are about copies.
    pub(super) fn about_tracking(
        &mut self,
        name: &'static str,
        arguments: &mut Arguments,
    ) -> Option<Result<Reply, Reply>> {
        Some(match name {
            "client|tracking" => self.track(arguments),
            "client|caching" => self.choose(&arguments.take()),
            "client|getredir" => Ok(self.redirected()),
            "client|trackinginfo" => Ok(self.tracked()),
            _ => return None,
        })
    }

    fn track(&mut self, arguments: &mut Arguments) -> Result<Reply, Reply> {
        let switch = arguments.take();
        let options = Options::parse(arguments, &self.shared)?;
        if switch.eq_ignore_ascii_case(b"off") {
            (self.tracker, self.state.tracks) = (None, None);
            return Ok(Reply::OK);
        }
        if !switch.eq_ignore_ascii_case(b"on") {
            return Err(errors::SYNTAX);
        }
        let which = options.which(self.state.tracks)?;
        options.check_prefixes(&self.tracker.as_ref().map(Tracker::prefixes).unwrap_or_default())?;
        let redirect = options.redirect.as_ref().map_or(0, |(id, _)| *id);
        let (tracking, inbox) = (self.backend.pubsub().tracking(), &self.client.inbox);
        let tracker = self.tracker.get_or_insert_with(|| Tracker::new(tracking, inbox));
        tracker.redirect(options.redirect);
        if which == Which::Prefixed && options.prefixes.is_empty() {
            tracker.follow(b"");
        }
        options.prefixes.iter().for_each(|prefix| tracker.follow(prefix));
        let is_noloop = options.is_noloop;
        self.state.tracks = Some(Tracks { which, is_noloop, redirect, is_chosen: false });
        Ok(Reply::OK)
    }

    /// `CACHING YES|NO`: says of the next command that its keys are told, or are not.
    fn choose(&mut self, choice: &[u8]) -> Result<Reply, Reply> {
        let tracks = self.state.tracks.as_mut().ok_or(errors::constant(
            "ERR CLIENT CACHING can be called only when the client is in tracking mode with OPTIN or OPTOUT mode enabled",
        ))?;
        let (fits, refused) = if choice.eq_ignore_ascii_case(b"yes") {
            (Which::OptedIn, "ERR CLIENT CACHING YES is only valid when tracking is enabled in OPTIN mode.")
        } else if choice.eq_ignore_ascii_case(b"no") {
            (
                Which::NotOptedOut,
                "ERR CLIENT CACHING NO is only valid when tracking is enabled in OPTOUT mode.",
            )
        } else {
            return Err(errors::SYNTAX);
        };
        if tracks.which != fits {
            return Err(errors::constant(refused));
        }
        tracks.is_chosen = true;
        Ok(Reply::OK)
    }

    fn redirected(&self) -> Reply {
        self.state.tracks.map_or(Reply::Integer(-1), |tracks| Reply::count(tracks.redirect))
    }

    fn tracked(&self) -> Reply {
        let mut words = self.state.tracks.map_or_else(|| vec!["off"], Tracks::words);
        if self.tracker.as_ref().is_some_and(Tracker::is_broken) {
            words.push("broken_redirect");
        }
        let prefixes = self.tracker.as_ref().map(Tracker::prefixes).unwrap_or_default();
        Reply::Map(vec![
            (Reply::text("flags"), Reply::Set(words.into_iter().map(Reply::text).collect())),
            (Reply::text("redirect"), self.redirected()),
            (Reply::text("prefixes"), list(&prefixes)),
        ])
    }

    /// Remembers the keys that a command is about to read, or that a transaction is.
    pub(super) fn remember(&mut self, spec: &Spec, given: &[Vec<u8>]) {
        let (Some(tracker), Some(tracks)) = (&self.tracker, &mut self.state.tracks) else { return };
        if tracks.remembers() && spec.flags.contains(&"readonly") {
            let places = introspection::places(spec, given).into_iter().flatten();
            let keys = places.map(|place| given[place].as_slice());
            match &mut self.transaction {
                // What is told between now and EXEC would be of no copy.
                Some(transaction) => transaction.remember(keys),
                None => tracker.remember(&self.state.keyspace, keys),
            }
        }
        if let (Some(transaction), Run::Other(Other::Exec)) = (&mut self.transaction, &spec.run) {
            let keys = transaction.take_remembered();
            tracker.remember(&self.state.keyspace, keys.iter().map(Vec::as_slice));
        }
        // CLIENT CACHING speaks of one command, or of one transaction.
        tracks.is_chosen &= match spec.name {
            "client" | "multi" => true,
            "exec" | "discard" => false,
            _ => self.transaction.is_some(),
        };
    }

    /// Writes which copies are not good any more, until so many bytes are unread.
    pub(super) fn push_invalidations(&self, unread_bytes_max: usize, out: &mut Output<'_>) {
        while out.len() < unread_bytes_max && out.failure().is_none() {
            let Some((told, is_redirected)) = self.client.inbox.try_next() else { return };
            if let Some(pushed) = self.pushed(&told, is_redirected) {
                out.push(&pushed, self.state.protocol);
            }
        }
    }

    /// In RESP2 only messages can be pushed, and only to who listens to some.
    fn pushed(&self, told: &Invalidation, is_redirected: bool) -> Option<Reply> {
        let is_resp3 = self.state.protocol == Protocol::Resp3;
        let keys = match told {
            Invalidation::Broken(client) => {
                let pushed = vec![Reply::text("tracking-redir-broken"), Reply::count(*client)];
                return is_resp3.then_some(Reply::Push(pushed));
            }
            Invalidation::Keys(keys) => list(keys),
            Invalidation::All => Reply::Null,
        };
        if is_resp3 {
            return Some(Reply::Push(vec![Reply::text("invalidate"), keys]));
        }
        let is_heard = is_redirected && self.state.subscriptions.is_any();
        is_heard.then(|| Reply::Push(vec![Reply::text("message"), Reply::text(CHANNEL), keys]))
    }
}

fn list(names: &[Arc<[u8]>]) -> Reply {
    Reply::Array(names.iter().map(|name| Reply::Bulk(name.to_vec())).collect())
}
