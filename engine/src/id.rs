//! The names of things: peers, replicas, clusters, keyspaces, frames.
//!
//! Every identity is a fixed number of bytes that follows from what it names, so two nodes that never met
//! agree on it. Nothing here is drawn at random except the nonce of an [`AuthorCard`], which the caller supplies.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The multihash prefix of a libp2p peer id that carries an ed25519 key: identity hash, 36 bytes, key type 1,
/// 32 key bytes. Source: libp2p specification, "Peer Ids and Keys".
const PEER_ID_PREFIX: [u8; 6] = [0x00, 0x24, 0x08, 0x01, 0x12, 0x20];

/// The longest keyspace name, in bytes.
pub const KEYSPACE_NAME_BYTES_MAX: usize = 128;

macro_rules! hex_id {
    ($name:ident, $bytes:literal) => {
        impl $name {
            /// The identity as raw bytes.
            pub const fn as_bytes(&self) -> &[u8; $bytes] {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "("))?;
                self.0.iter().take(4).try_for_each(|byte| write!(f, "{byte:02x}"))?;
                write!(f, ")")
            }
        }
    };
}

/// A running node as the network knows it: its ed25519 public key.
///
/// Shown and parsed in libp2p's base58 form (`12D3KooW...`), which encodes exactly these 32 bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PeerId([u8; 32]);

impl PeerId {
    /// The peer whose public key is `public_key`.
    pub const fn from_public_key(public_key: [u8; 32]) -> Self {
        Self(public_key)
    }

    /// The peer's ed25519 public key.
    pub const fn public_key(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = PEER_ID_PREFIX.to_vec();
        bytes.extend_from_slice(&self.0);
        f.write_str(&bs58::encode(bytes).into_string())
    }
}

impl fmt::Debug for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.to_string();
        write!(f, "PeerId(..{})", &text[text.len() - 6..])
    }
}

/// Why a text is not a peer id.
#[derive(Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum ParsePeerIdError {
    /// The text is not base58.
    #[error("a peer id is written in base58, as in 12D3KooW...")]
    NotBase58,
    /// The text is a peer id of another key type; tidelock's are ed25519.
    #[error("not the peer id of an ed25519 key")]
    NotEd25519,
}

impl FromStr for PeerId {
    type Err = ParsePeerIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bytes = bs58::decode(text).into_vec().map_err(|_| ParsePeerIdError::NotBase58)?;
        let key = bytes.strip_prefix(&PEER_ID_PREFIX).ok_or(ParsePeerIdError::NotEd25519)?;
        key.try_into().map(Self).map_err(|_| ParsePeerIdError::NotEd25519)
    }
}

/// The identity of one store, and so of every operation minted in it: the first 16 bytes of
/// blake3(public key, nonce) of its [`AuthorCard`].
///
/// A store that may have lost its memory (restored, copied, wiped) takes a new one: a dot is never used twice.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ReplicaId([u8; 16]);
hex_id!(ReplicaId, 16);

impl ReplicaId {
    /// A replica id from bytes that were stored or received; only a matching [`AuthorCard`] proves it.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }
}

/// Why a text is not a replica id.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("a replica is named by 32 hexadecimal digits")]
pub struct ParseReplicaIdError;

impl FromStr for ReplicaId {
    type Err = ParseReplicaIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_hex = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let number = is_hex.then(|| u128::from_str_radix(text, 16).ok()).flatten();
        number.map(|number| Self(number.to_be_bytes())).ok_or(ParseReplicaIdError)
    }
}

/// What proves a [`ReplicaId`]: the public key that signs its frames, and the nonce that makes it unique.
///
/// Stored with, and sent before, the replica's first frame. Layout: 32 bytes key, 16 bytes nonce.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuthorCard {
    /// The ed25519 key whose signature the replica's frames carry.
    pub public_key: [u8; 32],
    /// Drawn at random when the store was made.
    pub nonce: [u8; 16],
}

impl AuthorCard {
    /// The replica that this card proves.
    pub fn replica(&self) -> ReplicaId {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.public_key);
        hasher.update(&self.nonce);
        ReplicaId(first_16(&hasher.finalize()))
    }
}

/// Peers with the same cluster id replicate to each other; all others are refused.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ClusterId([u8; 32]);
hex_id!(ClusterId, 32);

impl ClusterId {
    /// The cluster that everybody who knows `name` is in.
    pub fn named(name: &str) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(b"tidelock");
        hasher.update(name.as_bytes());
        Self(*hasher.finalize().as_bytes())
    }
}

/// A keyspace of a cluster: hash(cluster, name), so two nodes that create "notes" offline create the same one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct KeyspaceId([u8; 16]);
hex_id!(KeyspaceId, 16);

impl KeyspaceId {
    /// The id of the keyspace `name` in `cluster`.
    pub fn of(cluster: ClusterId, name: &KeyspaceName) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&cluster.0);
        hasher.update(name.as_str().as_bytes());
        Self(first_16(&hasher.finalize()))
    }

    /// A keyspace id from bytes that were stored or received.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }
}

/// The name of a keyspace: 1 to [`KEYSPACE_NAME_BYTES_MAX`] bytes of printable text without white space.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct KeyspaceName(String);

impl KeyspaceName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for KeyspaceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why a text is not a keyspace name.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("a keyspace name is 1 to {KEYSPACE_NAME_BYTES_MAX} bytes of printable text without white space")]
pub struct KeyspaceNameError;

impl TryFrom<String> for KeyspaceName {
    type Error = KeyspaceNameError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let is_printable = text.chars().all(|c| !c.is_control() && !c.is_whitespace());
        if text.is_empty() || text.len() > KEYSPACE_NAME_BYTES_MAX || !is_printable {
            return Err(KeyspaceNameError);
        }
        Ok(Self(text))
    }
}

impl FromStr for KeyspaceName {
    type Err = KeyspaceNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::try_from(text.to_owned())
    }
}

impl From<KeyspaceName> for String {
    fn from(name: KeyspaceName) -> Self {
        name.0
    }
}

/// The content address of a frame: blake3 of all its bytes but the signature.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct FrameId([u8; 32]);
hex_id!(FrameId, 32);

impl FrameId {
    /// What an author's first frame in a keyspace names as its previous one.
    pub const NONE: Self = Self([0; 32]);

    /// The id of a frame whose bytes without the signature are `body`.
    pub fn of(body: &[u8]) -> Self {
        Self(*blake3::hash(body).as_bytes())
    }

    /// A frame id from bytes that were stored or received.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

/// The epoch of a keyspace: the number of its mode changes. Even is eventual, odd is strong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Epoch(pub u64);

impl Epoch {
    /// Whether the keyspace is strong in it.
    pub const fn is_strong(self) -> bool {
        !self.0.is_multiple_of(2)
    }
}

/// Who asks, for as long as it counts its operations: drawn at random by the node that asks for a client, or what the
/// client calls itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ClientId(pub [u8; 16]);

impl ClientId {
    /// The client that calls itself so: the first 16 bytes of a BLAKE3 hash of the name, keyed by what it is for.
    pub fn named(name: &[u8]) -> Self {
        let hash = blake3::derive_key("tidelock 2026 the name of a client of strong keyspaces", name);
        Self(*hash.first_chunk().expect("a blake3 hash has 32 bytes"))
    }
}

fn first_16(hash: &blake3::Hash) -> [u8; 16] {
    let (head, _) = hash.as_bytes().split_first_chunk().expect("a blake3 hash has 32 bytes");
    *head
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peer_id_is_written_as_libp2p_writes_it() {
        let peer = PeerId::from_public_key([7; 32]);
        let text = peer.to_string();
        assert!(text.starts_with("12D3KooW"), "{text}");
        assert_eq!(text.parse(), Ok(peer));
        assert_eq!("not base58!".parse::<PeerId>(), Err(ParsePeerIdError::NotBase58));
        assert_eq!(
            "QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N".parse::<PeerId>(),
            Err(ParsePeerIdError::NotEd25519)
        );
    }

    /// All peer ids begin alike.
    #[test]
    fn debug_of_a_peer_is_the_end_of_its_text() {
        let peer = PeerId::from_public_key([7; 32]);
        let text = peer.to_string();
        assert_eq!(format!("{peer:?}"), format!("PeerId(..{})", &text[text.len() - 6..]));
    }

    #[test]
    fn replica_is_read_as_it_is_written() {
        let replica = ReplicaId::from_bytes(*b"\x00\xffreplica of one");
        assert_eq!(replica.to_string().parse(), Ok(replica));
        for wrong in ["", "0", &"0".repeat(33), &"g".repeat(32), &format!("+{}", "0".repeat(31))] {
            assert_eq!(wrong.parse::<ReplicaId>(), Err(ParseReplicaIdError), "{wrong}");
        }
    }

    #[test]
    fn keyspace_name_is_bounded_at_its_bound() {
        assert!("n".repeat(KEYSPACE_NAME_BYTES_MAX).parse::<KeyspaceName>().is_ok());
        assert!("n".repeat(KEYSPACE_NAME_BYTES_MAX + 1).parse::<KeyspaceName>().is_err());
        assert!("".parse::<KeyspaceName>().is_err());
        assert!("two words".parse::<KeyspaceName>().is_err());
        assert!("bell\u{7}".parse::<KeyspaceName>().is_err());
    }

    #[test]
    fn keyspace_name_is_shown_as_it_was_given() {
        let name: KeyspaceName = "notes".parse().expect("a valid name");
        assert_eq!((name.to_string().as_str(), name.as_str()), ("notes", "notes"));
    }

    #[test]
    fn same_name_in_another_cluster_is_another_keyspace() {
        let name: KeyspaceName = "notes".parse().expect("a valid name");
        let here = KeyspaceId::of(ClusterId::named("local"), &name);
        assert_eq!(here, KeyspaceId::of(ClusterId::named("local"), &name));
        assert_ne!(here, KeyspaceId::of(ClusterId::named("other"), &name));
    }
}
