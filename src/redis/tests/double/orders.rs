//! How orders end that are given to the double.

use tidelock_engine::id::KeyspaceName;
use tidelock_engine::ports::NotDone;
use tidelock_engine::replica::{AnchorError, Order, OrderError};

use crate::node::KeyspaceError;

/// It is in the names.
pub(super) fn end_of(keyspace: KeyspaceName, order: Order) -> Result<(), KeyspaceError> {
    match (keyspace.as_str(), order) {
        ("alone", Order::Leave { is_forced: false }) => {
            Err(OrderError::Unconfirmed { keyspace, operations: 3 }.into())
        }
        ("guest", Order::MakeStrong) => Err(OrderError::NoAnchor.into()),
        ("full", Order::MakeStrong) => Err(OrderError::HoldsData(keyspace).into()),
        ("late", Order::MakeStrong) => Err(OrderError::from(AnchorError::GivenUp(keyspace)).into()),
        ("leaderless", Order::MakeStrong) => {
            Err(OrderError::from(AnchorError::from(NotDone::NoLeader)).into())
        }
        ("elsewhere", Order::MakeStrong) => {
            let refused = NotDone::Refused { reason: "it is not replicated there".to_owned() };
            Err(OrderError::from(AnchorError::from(refused)).into())
        }
        ("slow", Order::MakeStrong) => Err(OrderError::Unfinished.into()),
        ("dropping", Order::Join) => Err(OrderError::Dropping(keyspace).into()),
        _ => Ok(()),
    }
}
