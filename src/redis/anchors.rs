//! `TIDE.ANCHOR`: who the anchors are, and who joins them, leaves them and leads.

use tidelock_engine::ports::{AnchorId, LogIndex, NotDone, Role};
use tidelock_engine::replica::{AnchorError, AnchorOrder, AnchorReport, GroupReport};
use tidelock_engine::roster::ANCHORS_MAX;

use super::backend::Backend;
use super::call::Arguments;
use super::errors;
use super::reply::Reply;
use super::table::{ALONE, NONE, Other, Run, Spec, spec};
use super::tide::{fields, is};

/// The commands of this family.
pub(super) const COMMANDS: &[Spec] = &[spec((
    "tide.anchor",
    -2,
    ALONE,
    NONE,
    Run::Other(Other::Anchor),
    "Lists the anchors, adds or removes some, or lets another one lead",
))];

/// `TIDE.ANCHOR LIST`, `ADD peer`, `REMOVE anchor ...`, `TRANSFER anchor`.
pub(super) async fn execute<B: Backend>(backend: &B, arguments: &Arguments) -> Result<Reply, Reply> {
    let order = match arguments.as_slice() {
        [word] if is(word, "list") => return Ok(list(backend.anchors())),
        [word, peer] if is(word, "add") => {
            let peer = std::str::from_utf8(peer).ok().and_then(|text| text.parse().ok());
            AnchorOrder::Add(peer.ok_or(errors::constant("ERR a peer is named as in 12D3KooW..."))?)
        }
        [word, anchors @ ..] if is(word, "remove") && (1..=ANCHORS_MAX).contains(&anchors.len()) => {
            AnchorOrder::Remove(anchors.iter().map(|anchor| number(anchor)).collect::<Result<_, _>>()?)
        }
        [word, anchor] if is(word, "transfer") => AnchorOrder::Transfer(number(anchor)?),
        _ => return Err(errors::SYNTAX),
    };
    backend.govern(order).await.map_or_else(|error| Err(refused(&error)), |()| Ok(Reply::OK))
}

fn number(argument: &[u8]) -> Result<AnchorId, Reply> {
    let number = u64::try_from(errors::integer(argument)?);
    number.map(AnchorId).map_err(|_| errors::constant("ERR an anchor is named by its number"))
}

fn refused(error: &AnchorError) -> Reply {
    match error {
        AnchorError::Not(NotDone::NoLeader | NotDone::NotLeader { .. }) => {
            Reply::error(format!("NOLEADER {error}"))
        }
        AnchorError::Not(NotDone::Busy) => Reply::error(format!("TRYAGAIN {error}")),
        AnchorError::Unknown => Reply::error(format!("UNKNOWN {error}")),
        error => Reply::error(format!("ERR {error}")),
    }
}

fn list(group: Option<GroupReport>) -> Reply {
    let anchor = |anchor: AnchorReport| {
        fields([
            ("anchor", Reply::count(anchor.anchor.0)),
            ("peer", Reply::text(anchor.peer.to_string())),
            ("addresses", Reply::Array(anchor.addresses.into_iter().map(Reply::text).collect())),
            ("votes", Reply::Boolean(anchor.is_voter)),
            ("leads", Reply::Boolean(anchor.is_leader)),
            ("connected", Reply::Boolean(anchor.is_here)),
            ("exact", Reply::Boolean(anchor.is_exact)),
            ("heard_ms", anchor.heard_ms.map_or(Reply::Null, Reply::count)),
        ])
    };
    Reply::Array(group.into_iter().flat_map(|group| group.anchors).map(anchor).collect())
}

/// How the group stands, within the status; nothing as long as nothing is known of one.
pub(super) fn summary(group: Option<GroupReport>) -> Reply {
    let Some(group) = group else { return Reply::Null };
    let index = |index: Option<LogIndex>| index.map_or(Reply::Null, |index| Reply::count(index.0));
    let anchor = |anchor: Option<AnchorId>| anchor.map_or(Reply::Null, |anchor| Reply::count(anchor.0));
    let role = group.seat.map_or("guest", |_| role(group.status.role));
    fields([
        ("group", group.key.map_or(Reply::Null, |key| Reply::text(key.to_string()))),
        ("anchor", anchor(group.seat)),
        ("role", Reply::text(role)),
        ("term", Reply::count(group.status.term.0)),
        ("leader", anchor(group.leader)),
        ("voters", Reply::count(group.anchors.iter().filter(|anchor| anchor.is_voter).count())),
        ("members", Reply::count(group.anchors.len())),
        ("last", index(group.status.last)),
        ("committed", index(group.status.committed)),
        ("applied", index(group.status.applied)),
        ("quorum", Reply::Boolean(group.has_quorum)),
        ("quorum_ack_ms", group.quorum_ack_ms.map_or(Reply::Null, Reply::count)),
    ])
}

fn role(role: Role) -> &'static str {
    match role {
        Role::Learner => "learner",
        Role::Follower => "follower",
        Role::Candidate => "candidate",
        Role::Leader => "leader",
    }
}
