//! Commands: what the entries of the anchors' log say, for every strong keyspace and for the changes of modes.
//!
//! A command is plain data, and what comes of it follows from it, its place in the log and the rows alone: no clock, no
//! random choice and no setting of a node has a part in it. So every anchor that stands where the log says makes the
//! same operations, byte for byte.

use std::fmt;
use std::str::FromStr;
use std::sync::OnceLock;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::bounded::list;
pub use crate::bounds::COMMANDS_MAX;
use crate::bounds::{ACTIONS_MAX, REPLICAS_MAX, STRUCTURE_BYTES_MAX};
use crate::causality::{Dot, Hlc};
use crate::frame::SigningKey;
use crate::group_key::GroupSecret;
pub use crate::id::ClientId;
use crate::id::{Epoch, KeyspaceId, KeyspaceName};
use crate::ports::{COMMAND_BYTES_MAX, LogIndex};
use crate::request::{Action, Atomicity};
use crate::row::Fingerprint;
use crate::wire::{self, WireError};

/// The version of the bytes of entries that this code reads and writes.
pub const ENTRY_VERSION: u8 = 1;

/// Names one operation, so that it takes effect once however often it is proposed, and its outcome can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct OperationId {
    /// The epoch in which it was issued. It executes in that one only.
    pub epoch: Epoch,
    /// Who issued it.
    pub client: ClientId,
    /// Which of the client's operations it is. A client that numbers them upwards keeps its outcomes longest.
    pub number: u64,
}

/// Why a text names no operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error(
    "an operation is named by its epoch, the 32 hexadecimal digits of its client and its number, as in 1-00..ff-7"
)]
pub struct OperationIdError;

impl FromStr for OperationId {
    type Err = OperationIdError;

    /// Takes what an operation is named in texts: nothing else, so that each has one name.
    fn from_str(text: &str) -> Result<Self, OperationIdError> {
        let mut parts = text.splitn(3, '-');
        let mut part = || parts.next().ok_or(OperationIdError);
        let (epoch, digits, number) = (part()?, part()?.as_bytes(), part()?);
        let mut client = [0; 16];
        let (pairs, rest) = digits.as_chunks::<2>();
        if pairs.len() != client.len() || !rest.is_empty() {
            return Err(OperationIdError);
        }
        for (byte, pair) in client.iter_mut().zip(pairs) {
            let pair = std::str::from_utf8(pair).map_err(|_| OperationIdError)?;
            *byte = u8::from_str_radix(pair, 16).map_err(|_| OperationIdError)?;
        }
        let number_of = |text: &str| text.parse::<u64>().map_err(|_| OperationIdError);
        let id =
            Self { epoch: Epoch(number_of(epoch)?), client: ClientId(client), number: number_of(number)? };
        if id.to_string() == text { Ok(id) } else { Err(OperationIdError) }
    }
}

/// The secret key that signs the frames of one strong epoch of a keyspace. The anchors have it, and nobody else.
#[derive(Clone, Serialize, Deserialize)]
#[serde(from = "[u8; 32]", into = "[u8; 32]")]
pub struct EpochSecret {
    seed: [u8; 32],
    /// Made when it is asked for: modes are read more often than frames are signed.
    key: OnceLock<Box<SigningKey>>,
}

impl EpochSecret {
    /// The key that signs.
    pub fn key(&self) -> &SigningKey {
        self.key.get_or_init(|| Box::new(SigningKey::from_seed(self.seed)))
    }
}

impl From<[u8; 32]> for EpochSecret {
    fn from(seed: [u8; 32]) -> Self {
        Self { seed, key: OnceLock::new() }
    }
}

impl From<EpochSecret> for [u8; 32] {
    fn from(secret: EpochSecret) -> Self {
        secret.seed
    }
}

impl PartialEq for EpochSecret {
    fn eq(&self, other: &Self) -> bool {
        self.seed == other.seed
    }
}

impl Eq for EpochSecret {}

impl fmt::Debug for EpochSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EpochSecret")
    }
}

/// Actions on a strong keyspace, which happen at one place in the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Execute {
    /// Where.
    pub keyspace: KeyspaceId,
    /// Which operation it is.
    pub operation: OperationId,
    /// The clock of whoever proposed it. The keyspace's clock is the highest of these, in the order of the log.
    pub hlc: Hlc,
    /// What to do.
    #[serde(deserialize_with = "list::<ACTIONS_MAX, _, _>")]
    pub actions: Vec<Action>,
    /// How the actions belong together.
    pub atomicity: Atomicity,
}

/// What one part of an entry says. Those that came together are one entry, and for each keyspace one frame.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// Does something in a strong keyspace.
    Execute(Execute),
    /// Lets what has a deadline up to this moment expire in a strong keyspace.
    Expire {
        /// Where.
        keyspace: KeyspaceId,
        /// The epoch for which it is meant.
        epoch: Epoch,
        /// The moment.
        until: Hlc,
    },
    /// Removes the outcomes of operations that were executed up to this moment.
    ForgetOutcomes {
        /// Where.
        keyspace: KeyspaceId,
        /// The epoch for which it is meant.
        epoch: Epoch,
        /// The moment, by the keyspace's clock.
        until: Hlc,
    },
    /// Begins to make a keyspace strong: from here on, an anchor acknowledges nothing in the epoch that ends.
    BeginSeal {
        /// Which.
        keyspace: KeyspaceName,
        /// The epoch that is to begin.
        epoch: Epoch,
        /// The secret key that signs the frames of that epoch: all anchors make the same ones.
        secret: EpochSecret,
    },
    /// Says where the epoch ends: at this version vector, unless another cut follows.
    Cut {
        /// Of which keyspace.
        keyspace: KeyspaceId,
        /// The place of the [`Command::BeginSeal`] that it belongs to.
        begin: LogIndex,
        /// The version vector, by its dots, in their order.
        #[serde(deserialize_with = "list::<REPLICAS_MAX, _, _>")]
        frontier: Vec<Dot>,
    },
    /// Ends the epoch: a majority of the anchors is durably at the cut.
    Seal {
        /// Of which keyspace.
        keyspace: KeyspaceId,
        /// The place of the [`Command::BeginSeal`] that it belongs to.
        begin: LogIndex,
        /// The place of the cut. If another followed, this has no effect.
        cut: LogIndex,
        /// The fingerprint of the rows at the cut.
        fingerprint: Fingerprint,
    },
    /// Gives up: the epoch goes on.
    AbortSeal {
        /// Of which keyspace.
        keyspace: KeyspaceId,
        /// The place of the [`Command::BeginSeal`] that it belongs to.
        begin: LogIndex,
    },
    /// Says by which key the group of anchors is known. The first one counts.
    NameGroup(GroupSecret),
    /// Says how many voters the group is to have, whatever its anchors are set to; or that these settings count again.
    WantVoters(Option<u8>),
}

/// Why commands are no entry, or bytes are none. Nothing was proposed or done.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum CommandError {
    /// A command alone is more than an entry may be: too long, of too many things, or of decisions too deep in each
    /// other.
    #[error(
        "a command of {bytes} bytes does not fit into an entry of {COMMAND_BYTES_MAX} bytes, of which \
         {STRUCTURE_BYTES_MAX} may be other than keys and values, or its decisions stand too deep in each other"
    )]
    TooLarge {
        /// How long it is.
        bytes: usize,
    },
    /// The bytes are no entry, or one of a newer version.
    #[error("an entry of the log: {0}")]
    Wire(#[from] WireError),
}

/// An entry in the making: commands that came together.
#[derive(Debug, Default)]
pub struct Entry {
    commands: Vec<u8>,
    count: usize,
    structure: usize,
}

/// The bytes of an entry that say its version and how many commands it holds, at most.
const HEAD_BYTES_MAX: usize = 3;

impl Entry {
    /// Adds a command; or says `false` if there is no room for it beside those that are there: it goes into another.
    ///
    /// # Errors
    /// [`CommandError::TooLarge`]: it goes into none.
    pub fn push(&mut self, command: &Command) -> Result<bool, CommandError> {
        let encoded = postcard::to_stdvec(command).expect("writing to memory cannot fail");
        let bytes = encoded.len();
        // An entry that does not decode would stop every anchor, so it is decoded before it is one.
        let Ok((_, structure)) = wire::decode_bare::<Command>(&encoded) else {
            return Err(CommandError::TooLarge { bytes });
        };
        let (long, much) = (self.commands.len() + bytes, self.structure + structure);
        let has_room =
            long + HEAD_BYTES_MAX <= COMMAND_BYTES_MAX && much + HEAD_BYTES_MAX <= STRUCTURE_BYTES_MAX;
        if has_room && self.count < COMMANDS_MAX {
            self.commands.extend_from_slice(&encoded);
            (self.count, self.structure) = (self.count + 1, much);
            return Ok(true);
        }
        if self.count > 0 { Ok(false) } else { Err(CommandError::TooLarge { bytes }) }
    }

    /// How many commands it holds.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The entry as bytes, to be proposed.
    pub fn into_bytes(self) -> Vec<u8> {
        let mut bytes = wire::encode(ENTRY_VERSION, &self.count);
        bytes.extend_from_slice(&self.commands);
        bytes
    }
}

/// The bytes of an entry of these commands. They are few and small: see [`Entry`] for others.
pub fn encode_entry(commands: &[Command]) -> Vec<u8> {
    wire::encode(ENTRY_VERSION, commands)
}

/// The commands of an entry.
///
/// # Errors
/// [`CommandError::Wire`].
pub fn decode_entry(bytes: &[u8]) -> Result<Vec<Command>, CommandError> {
    let Commands(commands) = wire::decode(ENTRY_VERSION, bytes, COMMAND_BYTES_MAX)?;
    Ok(commands)
}

#[derive(Serialize, Deserialize)]
struct Commands(#[serde(deserialize_with = "list::<COMMANDS_MAX, _, _>")] Vec<Command>);
