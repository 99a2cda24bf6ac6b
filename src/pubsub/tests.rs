//! The laws of the hub: who is told what, how often and in which order.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::redis::glob_matches;

fn pubsub() -> PubSub {
    PubSub::new(PeerId::from_public_key([1; 32]), None)
}

fn publish(pubsub: &PubSub, channel: &str, payload: &str) -> usize {
    pubsub.publish(Space::Plain, channel.as_bytes(), payload.as_bytes()).expect("it is short")
}

/// All that waits: by which pattern, on which channel, what.
fn read(subscriber: &Subscriber) -> Vec<(Option<String>, String, String)> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let read = |notice| match notice {
        Notice::Message { pattern, letter } => {
            (pattern.map(|pattern| text(&pattern)), text(&letter.channel), text(&letter.payload))
        }
        Notice::Lagged(lost) => (None, "lost".to_owned(), lost.to_string()),
    };
    std::iter::from_fn(|| subscriber.try_next()).map(read).collect()
}

fn told(pattern: Option<&str>, channel: &str, payload: &str) -> (Option<String>, String, String) {
    (pattern.map(str::to_owned), channel.to_owned(), payload.to_owned())
}

#[test]
fn channel_and_pattern_both_tell() {
    let pubsub = pubsub();
    let mut subscriber = Hub::subscriber(pubsub.hub(), 1 << 20);
    subscriber.subscribe(Space::Plain, b"news");
    subscriber.subscribe(Space::Plain, b"news");
    subscriber.subscribe(Space::Pattern, b"n*");
    subscriber.subscribe(Space::Pattern, b"*s");
    subscriber.subscribe(Space::Sharded, b"news");
    assert_eq!(publish(&pubsub, "news", "1"), 3);
    assert_eq!(publish(&pubsub, "none", "2"), 1);
    assert_eq!(publish(&pubsub, "other", "3"), 0);
    let told = [
        told(None, "news", "1"),
        told(Some("*s"), "news", "1"),
        told(Some("n*"), "news", "1"),
        told(Some("n*"), "none", "2"),
    ];
    assert_eq!(read(&subscriber), told);
    subscriber.unsubscribe(Space::Pattern, b"n*");
    subscriber.unsubscribe(Space::Plain, b"news");
    assert_eq!(publish(&pubsub, "news", "4"), 1);
    drop(subscriber);
    assert_eq!(publish(&pubsub, "news", "5"), 0);
    let HubFigures { channels, patterns, sharded_channels, queued_bytes, .. } = pubsub.hub().figures();
    assert_eq!((channels, patterns, sharded_channels, queued_bytes), (0, 0, 0, 0));
}

#[test]
fn slow_subscriber_loses_and_is_told_and_the_others_lose_nothing() {
    let pubsub = pubsub();
    let mut slow = Hub::subscriber(pubsub.hub(), 10 * (64 + 2));
    let mut quick = Hub::subscriber(pubsub.hub(), 1 << 20);
    slow.subscribe(Space::Plain, b"c");
    quick.subscribe(Space::Plain, b"c");
    for _ in 0..25 {
        publish(&pubsub, "c", "x");
    }
    let mut of_slow = vec![told(None, "c", "x"); 10];
    of_slow.push(told(None, "lost", "15"));
    assert_eq!(read(&slow), of_slow);
    assert_eq!(read(&quick).len(), 25);
    assert_eq!(publish(&pubsub, "c", "y"), 2, "it goes on");
    assert_eq!(read(&slow), [told(None, "c", "y")]);
    assert_eq!(pubsub.hub().figures().lost, 15);
}

#[test]
fn message_beyond_the_bound_is_refused_and_one_at_it_is_not() {
    let pubsub = pubsub();
    let longest = vec![0; PUBLISHED_BYTES_MAX - 1];
    assert_eq!(pubsub.publish(Space::Plain, b"c", &longest), Ok(0));
    let bytes = PUBLISHED_BYTES_MAX + 1;
    assert_eq!(pubsub.publish(Space::Plain, b"cc", &longest), Err(PublishError::TooLarge { bytes }));
}

#[test]
fn letter_has_golden_bytes_and_refuses_what_is_none() {
    let author = PeerId::from_public_key([1; 32]);
    let letter = Letter { space: Space::Sharded, channel: b"ab".to_vec(), payload: b"xyz".to_vec(), author };
    let bytes = letter.encode();
    assert_eq!(bytes, b"\x01\0\0\0\x02abxyz");
    assert_eq!(Letter::decode(author, &bytes), Some(letter));
    for none in [&b""[..], b"\0\0\0\0", b"\x02\0\0\0\0", b"\0\0\0\0\x01", b"\0\xff\xff\xff\xffab"] {
        assert_eq!(Letter::decode(author, none), None, "{none:?}");
    }
}

proptest! {
    /// Two publishers, three subscribers that come and go, channels and patterns that overlap: everybody is told
    /// exactly what the rules say, those of one publisher in their order.
    #[test]
    fn everybody_is_told_each_message_once_for_each_way(
        steps in prop::collection::vec((0_usize..3, 0_usize..6, 0_usize..4), 1..200),
    ) {
        const NAMES: [&str; 4] = ["a", "ab", "b", "?b"];
        let pubsub = pubsub();
        let new = || Hub::subscriber(pubsub.hub(), 1 << 20);
        let mut subscribers = [new(), new(), new()];
        let mut wanted: [Vec<(Space, &str)>; 3] = Default::default();
        let mut expected: [BTreeMap<(String, bool), Vec<usize>>; 3] = Default::default();
        for (number, (who, what, name)) in steps.into_iter().enumerate() {
            let name = NAMES[name];
            match what {
                0 | 1 => {
                    let space = [Space::Plain, Space::Pattern][what];
                    subscribers[who].subscribe(space, name.as_bytes());
                    if !wanted[who].contains(&(space, name)) {
                        wanted[who].push((space, name));
                    }
                }
                2 | 3 => {
                    let space = [Space::Plain, Space::Pattern][what - 2];
                    subscribers[who].unsubscribe(space, name.as_bytes());
                    wanted[who].retain(|known| *known != (space, name));
                }
                _ => {
                    let mut count = 0;
                    for (who, wanted) in wanted.iter().enumerate() {
                        for (space, by) in wanted {
                            let is_pattern = *space == Space::Pattern;
                            let is_told = if is_pattern {
                                glob_matches(by.as_bytes(), name.as_bytes())
                            } else {
                                *by == name
                            };
                            if is_told {
                                count += 1;
                                expected[who].entry(((*by).to_owned(), is_pattern)).or_default().push(number);
                            }
                        }
                    }
                    prop_assert_eq!(publish(&pubsub, name, &number.to_string()), count);
                }
            }
        }
        for (subscriber, expected) in subscribers.iter().zip(expected) {
            let mut found: BTreeMap<(String, bool), Vec<usize>> = BTreeMap::new();
            for (pattern, channel, payload) in read(subscriber) {
                let is_pattern = pattern.is_some();
                let number = payload.parse().expect("a number");
                found.entry((pattern.unwrap_or(channel), is_pattern)).or_default().push(number);
            }
            prop_assert_eq!(found, expected);
        }
    }
}
