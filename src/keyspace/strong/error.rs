//! What became of an operation on a strong keyspace that was not acknowledged.

use thiserror::Error;
use tidelock_engine::command::OperationId;
use tidelock_engine::id::KeyspaceName;
use tidelock_engine::read::QueryError;
use tidelock_engine::request::{ActionError, RequestError};

/// Why an operation on a strong keyspace was not acknowledged. All but [`StrongError::Unknown`], [`StrongError::Untold`] and
/// [`StrongError::Forgotten`] say that it did nothing, and never will. Of one that its client named, it is said of this
/// try: after one that was unknown, an earlier one may have been done.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StrongError {
    /// The keyspace is not strong, as far as this node has heard. Nothing was done.
    #[error("keyspace {0} is not strong, as far as this node knows; nothing was done")]
    NotStrong(KeyspaceName),
    /// It cannot be done: the key holds another kind, or it is too large. Nothing was done.
    #[error(transparent)]
    Refused(ActionError),
    /// It was certainly not executed, and may be tried again. The text says why.
    #[error("{0}")]
    NotDone(String),
    /// Others wrote the key whenever it was to be written. Nothing was done.
    #[error("others have written the key {tries} times between reading and writing; nothing was done")]
    Contended {
        /// How often it was tried.
        tries: usize,
    },
    /// It was executed once, or may be yet, or never will be: its outcome tells, by [`super::Strong::outcome`]. Without
    /// the name of an operation a restart tells, because the disk failed.
    #[error("it may have been executed{}", .operation.map_or_else(String::new, |id| format!(", as operation {id}")))]
    Unknown {
        /// Which operation it is.
        operation: Option<OperationId>,
    },
    /// Its client has gone on so far, or been silent for so long, that nobody knows whether an operation of this name was
    /// executed. It did nothing now, and never will.
    #[error("nobody knows any more whether an operation of this name was executed; it did nothing now")]
    Forgotten {
        /// Which operation it is.
        operation: Option<OperationId>,
    },
    /// It was made certain that the operation of this name is never executed.
    #[error("it was made certain that the operation of this name is never executed")]
    Never,
    /// Its name was given to another operation, which was executed. This one was not.
    #[error("its name was given to another operation, which was executed; this one was not")]
    OtherOperation,
    /// It was executed, and what it gave is too long to be told.
    #[error("it was done, but what it gave is too long to be told; ask for less at once")]
    Untold,
}

impl From<RequestError> for StrongError {
    fn from(error: RequestError) -> Self {
        match error {
            RequestError::Unknown(id) => Self::Unknown { operation: id.parse().ok() },
            RequestError::Commit(_) => Self::Unknown { operation: None },
            RequestError::Untold => Self::Untold,
            RequestError::Forgotten(id) => Self::Forgotten { operation: id.parse().ok() },
            RequestError::Never => Self::Never,
            RequestError::OtherOperation => Self::OtherOperation,
            RequestError::Action { source, .. } => source.into(),
            other => Self::NotDone(other.to_string()),
        }
    }
}

impl From<ActionError> for StrongError {
    fn from(error: ActionError) -> Self {
        match error {
            ActionError::Unknown(id) => Self::Unknown { operation: id.parse().ok() },
            ActionError::TryAgain(reason) | ActionError::NoLeader(reason) => Self::NotDone(reason),
            ActionError::Untold => Self::Untold,
            ActionError::Forgotten(id) => Self::Forgotten { operation: id.parse().ok() },
            other => Self::Refused(other),
        }
    }
}

impl From<QueryError> for StrongError {
    fn from(error: QueryError) -> Self {
        Self::Refused(ActionError::Query(error))
    }
}
