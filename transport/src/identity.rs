//! Who we are and who others are: the secret key, and the engine's `PeerId` as libp2p writes it.
//!
//! tidelock's peers have ed25519 keys only, so a peer id is exactly a public key, and both forms sort alike:
//! the bytes that libp2p puts in front of the key are the same for all of them. No other file converts one.

use std::fmt;

use libp2p::identity::Keypair;
use tidelock_engine::id::PeerId;

/// What libp2p writes in front of the 32 key bytes: identity hash, 36 bytes, key type ed25519, 32 bytes.
/// Source: libp2p specification, "Peer Ids and Keys".
const LIBP2P_PREFIX: [u8; 6] = [0x00, 0x24, 0x08, 0x01, 0x12, 0x20];

/// The seed of the node's ed25519 identity. Whoever has it is this node.
///
/// It is never shown: its `Debug` form is redacted and it has no `Display`.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretKey([u8; 32]);

impl SecretKey {
    /// The key with this seed, as RFC 8032 defines it.
    pub const fn from_seed(seed: [u8; 32]) -> Self {
        Self(seed)
    }

    /// The peer that holds this key.
    pub fn peer(&self) -> PeerId {
        from_libp2p(&self.keypair().public().to_peer_id()).expect("an ed25519 key has an ed25519 peer id")
    }

    pub(crate) fn keypair(&self) -> Keypair {
        // libp2p overwrites what it is given, hence the copy.
        Keypair::ed25519_from_bytes(self.0).expect("every 32 bytes are the seed of an ed25519 key")
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretKey(redacted)")
    }
}

/// The peer in libp2p's form.
pub(crate) fn to_libp2p(peer: PeerId) -> libp2p::PeerId {
    let bytes = [&LIBP2P_PREFIX[..], peer.public_key()].concat();
    libp2p::PeerId::from_bytes(&bytes).expect("an identity hash of 36 bytes is a peer id")
}

/// The peer in the engine's form; `None` when its key is not an ed25519 key.
pub(crate) fn from_libp2p(peer: &libp2p::PeerId) -> Option<PeerId> {
    let bytes = peer.to_bytes();
    let key = bytes.strip_prefix(&LIBP2P_PREFIX)?;
    key.try_into().ok().map(PeerId::from_public_key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peer_is_the_same_text_on_both_sides() {
        let peer = SecretKey::from_seed([7; 32]).peer();
        assert_eq!(peer.to_string(), to_libp2p(peer).to_base58());
        assert_eq!(from_libp2p(&to_libp2p(peer)), Some(peer));
    }

    #[test]
    fn peers_sort_as_libp2p_sorts_them() {
        let mut peers: Vec<_> = (0..32).map(|n| SecretKey::from_seed([n; 32]).peer()).collect();
        let mut theirs: Vec<_> = peers.iter().map(|peer| to_libp2p(*peer)).collect();
        peers.sort();
        theirs.sort_by_key(|peer| peer.to_bytes());
        assert_eq!(peers.into_iter().map(to_libp2p).collect::<Vec<_>>(), theirs);
    }

    #[test]
    fn peer_id_of_another_key_type_is_not_a_peer() {
        let rsa = "QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N".parse().expect("a peer id");
        assert_eq!(from_libp2p(&rsa), None);
    }

    #[test]
    fn secret_key_is_not_shown() {
        assert_eq!(format!("{:?}", SecretKey::from_seed([9; 32])), "SecretKey(redacted)");
    }
}
