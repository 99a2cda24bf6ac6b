//! Operations on strong keyspaces that their clients name, so that one whose answer was lost can be asked for again, at any
//! node, and is done once.
//!
//! A name is who the client says it is, and a number. The anchors keep with what an operation gave what it was for: a
//! mark, made of the words in which it was asked for, as the last thing that it gives. So whoever gives a name to something
//! else is refused, and nobody takes the answer of one operation for that of another. Where an operation is to be executed
//! never, one that does nothing is executed under its name.

use tidelock_engine::id::ClientId;
use tidelock_engine::read::{Answer, Query};
use tidelock_engine::replica::Terms;
use tidelock_engine::request::{Action, ActionReply, Atomicity, Request, RequestError, RequestReply};

/// Of which client an operation is, and which of its operations.
pub(crate) type Name = (ClientId, u64);

/// The longest name of a client, in bytes.
pub(crate) const CLIENT_BYTES_MAX: usize = 256;

/// What an operation is for, by the words in which it is asked for.
pub(crate) fn mark_of<'a>(words: impl IntoIterator<Item = &'a [u8]>) -> u64 {
    let mut hasher = blake3::Hasher::new();
    for word in words {
        hasher.update(&(word.len() as u64).to_be_bytes());
        hasher.update(word);
    }
    let hash = hasher.finalize();
    u64::from_be_bytes(*hash.as_bytes().first_chunk().expect("a blake3 hash has 32 bytes"))
}

/// Names a request, which becomes one operation. One that only reads is none, and is answered anew each time.
pub(crate) fn put_name((request, terms): (&mut Request, &mut Terms), name: Name, mark: u64) {
    if request.is_query() {
        return;
    }
    terms.operation = Some(name);
    if request.atomicity == Atomicity::Each {
        request.atomicity = Atomicity::Together;
    }
    request.actions.push(Action::Query(Query::Mark(mark)));
}

/// The marks of requests, where any is named; nothing where none is.
pub(crate) fn marks(requests: &[(Request, Terms)]) -> Vec<Option<u64>> {
    if requests.iter().all(|(_, terms)| terms.operation.is_none()) {
        return Vec::new();
    }
    let mark = |(request, terms): &(Request, Terms)| match request.actions.last() {
        Some(Action::Query(Query::Mark(mark))) if terms.operation.is_some() => Some(*mark),
        _ => None,
    };
    requests.iter().map(mark).collect()
}

/// Sees to it that each named request is answered by its own operation, without the mark.
pub(crate) fn judge(marks: &[Option<u64>], replies: &mut [RequestReply]) {
    for (mark, reply) in marks.iter().zip(replies) {
        let (Some(mark), Ok(given)) = (mark, &mut *reply) else { continue };
        match given.pop() {
            Some(Ok(ActionReply::Answer(Answer::Mark(kept)))) if kept == *mark => {}
            Some(Ok(ActionReply::Whole(nothing))) if nothing.is_empty() && given.is_empty() => {
                *reply = Err(RequestError::Never);
            }
            _ => *reply = Err(RequestError::OtherOperation),
        }
    }
}

/// What does nothing, and is done under the name of an operation that is to be executed never.
pub(crate) fn nothing() -> Action {
    Action::Whole(Vec::new())
}

/// What an operation gave, without its mark; none if all that was executed under its name is [`nothing`].
pub(crate) fn told(mut reply: RequestReply) -> Option<RequestReply> {
    if let Ok(given) = &mut reply {
        match &given[..] {
            [Ok(ActionReply::Whole(nothing))] if nothing.is_empty() => return None,
            [.., Ok(ActionReply::Answer(Answer::Mark(_)))] => drop(given.pop()),
            _ => {}
        }
    }
    Some(reply)
}

#[cfg(test)]
mod tests {
    use tidelock_engine::write::{Outcome, Write};

    use super::*;

    fn request(actions: Vec<Action>) -> (Request, Terms) {
        let keyspace = "orders".parse().expect("a name");
        let (atomicity, durability) = (Atomicity::Each, tidelock_engine::ports::Durability::Durable);
        (Request { keyspace, actions, atomicity, durability }, Terms::default())
    }

    fn done() -> ActionReply {
        ActionReply::Outcome(Outcome::Done)
    }

    fn mark(mark: u64) -> ActionReply {
        ActionReply::Answer(Answer::Mark(mark))
    }

    /// What an operation gave.
    #[expect(clippy::unnecessary_wraps, reason = "it is what a request is answered")]
    fn given(given: impl IntoIterator<Item = ActionReply>) -> RequestReply {
        Ok(given.into_iter().map(Ok).collect())
    }

    #[test]
    fn marks_are_those_of_the_words_and_of_where_they_end() {
        let of = |words: &[&str]| mark_of(words.iter().map(|word| word.as_bytes()));
        assert_eq!(of(&["set", "a", "b"]), of(&["set", "a", "b"]));
        let others = [vec![], vec!["set", "ab"], vec!["set", "a", "c"], vec!["set", "a", "b", ""]];
        assert!(others.iter().all(|words| of(words) != of(&["set", "a", "b"])));
    }

    #[test]
    fn named_request_is_one_operation_and_a_read_is_none() {
        let name = (ClientId::named(b"billing"), 7);
        let write = || Action::Write(Write::Delete { key: b"k".to_vec() });
        let mut named = request(vec![write(), write()]);
        put_name((&mut named.0, &mut named.1), name, 5);
        assert_eq!((named.0.atomicity, named.1.operation), (Atomicity::Together, Some(name)));
        let mut read = request(vec![Action::Query(Query::Size)]);
        put_name((&mut read.0, &mut read.1), name, 5);
        assert_eq!((read.0.actions.len(), read.1.operation), (1, None));
        assert_eq!(marks(&[request(vec![write()]), named, read.clone()]), [None, Some(5), None]);
        assert!(marks(&[read]).is_empty());
    }

    #[test]
    fn answer_of_another_operation_is_nobodys() {
        let nothing = ActionReply::Whole(Vec::new());
        let mut replies = vec![
            given([done(), mark(5)]),
            given([done(), mark(6)]),
            given([done()]),
            given([]),
            given([nothing]),
            Err(RequestError::Untold),
        ];
        judge(&[Some(5); 6], &mut replies);
        let shown: Vec<String> = replies.iter().map(|reply| format!("{reply:?}")).collect();
        assert_eq!(shown[0], "Ok([Ok(Outcome(Done))])");
        assert!(shown[1..4].iter().all(|shown| shown == "Err(OtherOperation)"), "{shown:?}");
        assert_eq!(shown[4..], ["Err(Never)", "Err(Untold)"]);
    }

    #[test]
    fn outcome_is_told_without_the_mark() {
        let shown = |reply| told(reply).map(|reply| format!("{reply:?}"));
        assert_eq!(shown(given([done(), mark(5)])).as_deref(), Some("Ok([Ok(Outcome(Done))])"));
        assert_eq!(shown(given([done()])).as_deref(), Some("Ok([Ok(Outcome(Done))])"));
        assert_eq!(shown(given([ActionReply::Whole(Vec::new())])), None);
        assert_eq!(shown(Err(RequestError::Untold)).as_deref(), Some("Err(Untold)"));
    }
}
