//! The handle of a sorted set, and its writes in a batch.

use std::ops::Bound;

use tidelock_engine::crdt::VisibleKind;
use tidelock_engine::read::{QueryError, SortedRange};
use tidelock_engine::request::ActionError;
use tidelock_engine::score::Score;
use tidelock_engine::write::{Outcome, WriteError as Refused};

use super::{Batch, Keyspace, WriteError};
use crate::config::NodeConfig;
use crate::node::Node;

type Checked = Result<(), Box<dyn std::error::Error>>;

async fn open(folder: &tempfile::TempDir) -> (Node, Keyspace) {
    let config = NodeConfig { listen: Vec::new(), ..NodeConfig::at(folder.path()) };
    let node = Node::open(config).await.expect("a node opens");
    let keyspace = node.keyspace("ks").expect("a name");
    (node, keyspace)
}

fn score(number: f64) -> Score {
    Score::new(number).expect("a number")
}

fn scored(pairs: &[(&str, f64)]) -> Vec<(Vec<u8>, Score)> {
    pairs.iter().map(|(member, number)| (member.as_bytes().to_vec(), score(*number))).collect()
}

#[tokio::test]
async fn sorted_set_is_in_order_of_scores_and_stays_so_when_it_is_opened_again() -> Checked {
    let folder = tempfile::tempdir()?;
    let (node, keyspace) = open(&folder).await;
    let board = keyspace.sorted_set("board");
    assert!(board.is_empty()?);
    for (member, number) in [("top", f64::INFINITY), ("bottom", f64::NEG_INFINITY), ("b", 0.1), ("a", 0.1)] {
        assert!(board.put(member, score(number)).await?, "{member} is new");
    }
    assert!(!board.put("top", score(f64::INFINITY)).await?);
    assert_eq!(board.add("c", score(2.5)).await?, score(2.5));
    assert_eq!(board.add("c", score(-3.0)).await?, score(-0.5));
    let undefined = board.add("top", score(f64::NEG_INFINITY)).await;
    assert!(undefined.is_err(), "infinity less infinity is no number: {undefined:?}");
    assert!(board.remove("a").await?);
    assert!(!board.remove("a").await?);
    node.shutdown().await;

    let (node, keyspace) = open(&folder).await;
    let board = keyspace.sorted_set("board");
    let all = [("bottom", f64::NEG_INFINITY), ("c", -0.5), ("b", 0.1), ("top", f64::INFINITY)];
    assert_eq!(board.members(SortedRange::ALL)?, scored(&all));
    assert_eq!(board.members(SortedRange::Ranks { start: -2, stop: -1 })?, scored(&all[2..]));
    let range = |min, max| SortedRange::Scores { min, max };
    let above = range(Bound::Excluded(score(-0.5)), Bound::Unbounded);
    assert_eq!(board.members(above.clone())?, scored(&all[2..]));
    assert_eq!((board.count(above)?, board.len()?), (2, 4));
    let finite = range(Bound::Excluded(Score::LOWEST), Bound::Excluded(score(f64::INFINITY)));
    assert_eq!(board.members(finite)?, scored(&all[1..3]));
    assert_eq!((board.score("b")?, board.score("a")?), (Some(score(0.1)), None));
    assert_eq!((board.rank("top")?, board.rank("a")?), (Some((3, score(f64::INFINITY))), None));
    assert_eq!(keyspace.kind("board")?, Some(VisibleKind::Sorted));
    node.shutdown().await;
    Ok(())
}

#[tokio::test]
async fn scores_in_a_batch_are_written_together_or_not_at_all() -> Checked {
    let folder = tempfile::tempdir()?;
    let (node, keyspace) = open(&folder).await;
    let board = keyspace.sorted_set("board");
    let batch = Batch::new().score("board", "ann", score(1.0)).score("board", "bob", score(2.0));
    let outcomes = keyspace.batch(batch.score("board", "ann", score(3.0)).unscore("board", "bob")).await?;
    let counted = |added, changed| Outcome::Scored { added, changed };
    assert_eq!(outcomes, [counted(1, 0), counted(1, 0), counted(0, 1), Outcome::Changed(1)]);
    assert_eq!(board.members(SortedRange::ALL)?, scored(&[("ann", 3.0)]));

    keyspace.set("list").add("apples").await?;
    let batch = Batch::new().unscore("board", "ann").score("list", "ann", score(1.0));
    let refused = keyspace.batch(batch).await;
    assert!(refused.is_err(), "a set has no scores: {refused:?}");
    assert_eq!(board.members(SortedRange::ALL)?, scored(&[("ann", 3.0)]), "nothing was done");
    let refused = keyspace.sorted_set("list").put("ann", Score::ZERO).await;
    let is_wrong_kind = matches!(
        &refused,
        Err(WriteError::Refused(ActionError::Write(Refused::WrongKind { found: VisibleKind::Set })))
    );
    assert!(is_wrong_kind, "{refused:?}");
    let read = keyspace.sorted_set("list").members(SortedRange::ALL);
    assert!(matches!(read, Err(QueryError::WrongKind { found: VisibleKind::Set })), "{read:?}");
    node.shutdown().await;
    Ok(())
}
