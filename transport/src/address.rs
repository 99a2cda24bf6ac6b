//! Addresses as people write them: parsing, the `/p2p/PEERID` suffix, and whether one leaves this machine.
//!
//! Text comes in from configs and from peers, so every function answers an error or `None`, and never panics.

use libp2p::Multiaddr;
use libp2p::multiaddr::Protocol;
use thiserror::Error;
use tidelock_engine::id::PeerId;

use crate::identity::from_libp2p;

/// The longest address that is taken, in bytes of text. A DNS name has at most 253.
const ADDRESS_BYTES_MAX: usize = 1024;

/// Why a text is not an address that can be used.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum AddressError {
    /// The text is not a multiaddress.
    #[error("{text:?} is not a multiaddress such as /ip4/192.0.2.1/tcp/4001: {cause}")]
    NotAnAddress {
        /// The text, cut at its bound.
        text: String,
        /// What the parser says.
        cause: String,
    },
    /// The `/p2p/` suffix names a peer whose key is not ed25519.
    #[error("the /p2p/ suffix of {text} is not the peer id of an ed25519 key")]
    NotEd25519 {
        /// The address.
        text: String,
    },
}

/// An address, and who is said to be there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PeerAddress {
    /// The address without a `/p2p/` suffix.
    pub(crate) address: Multiaddr,
    /// The peer of the suffix.
    pub(crate) peer: Option<PeerId>,
}

/// Says whether a text is a multiaddress that can be dialled.
///
/// # Errors
/// [`AddressError`] says what is wrong with it.
pub fn check_address(text: &str) -> Result<(), AddressError> {
    parse(text).map(drop)
}

/// Reads an address with or without a `/p2p/PEERID` suffix.
pub(crate) fn parse(text: &str) -> Result<PeerAddress, AddressError> {
    let not_an_address = |cause: String| AddressError::NotAnAddress {
        text: text.chars().take(ADDRESS_BYTES_MAX).collect(),
        cause,
    };
    if text.len() > ADDRESS_BYTES_MAX {
        return Err(not_an_address(format!("longer than {ADDRESS_BYTES_MAX} bytes")));
    }
    let mut address: Multiaddr = text.parse().map_err(|error| not_an_address(format!("{error}")))?;
    let Some(Protocol::P2p(peer)) = address.iter().last() else {
        return Ok(PeerAddress { address, peer: None });
    };
    address.pop();
    let peer = from_libp2p(&peer).ok_or_else(|| AddressError::NotEd25519 { text: text.to_owned() })?;
    Ok(PeerAddress { address, peer: Some(peer) })
}

/// Whether only this machine can reach the address. A name, or no host at all, is not taken for loopback.
pub(crate) fn is_loopback(address: &Multiaddr) -> bool {
    match address.iter().next() {
        Some(Protocol::Ip4(ip)) => ip.is_loopback(),
        Some(Protocol::Ip6(ip)) => ip.is_loopback(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::SecretKey;

    #[test]
    fn suffix_is_taken_off_and_understood() {
        let peer = SecretKey::from_seed([1; 32]).peer();
        let parsed = parse(&format!("/ip4/127.0.0.1/tcp/4001/p2p/{peer}")).expect("an address");
        assert_eq!(parsed.address.to_string(), "/ip4/127.0.0.1/tcp/4001");
        assert_eq!(parsed.peer, Some(peer));
        let rsa = "/ip4/127.0.0.1/tcp/1/p2p/QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N";
        assert!(matches!(parse(rsa), Err(AddressError::NotEd25519 { .. })));
    }

    #[test]
    fn text_that_is_no_address_is_an_error() {
        for text in ["", "127.0.0.1:4001", "/ip4/300.0.0.1/tcp/1", "/nonsense"] {
            let parsed = parse(text);
            assert!(parsed.is_err() || text.is_empty(), "{text}: {parsed:?}");
        }
        assert!(parse(&"/".repeat(ADDRESS_BYTES_MAX + 1)).is_err());
    }

    #[test]
    fn only_loopback_addresses_are_loopback() {
        let is_loopback = |text: &str| is_loopback(&parse(text).expect("an address").address);
        assert!(is_loopback("/ip4/127.0.0.1/tcp/0"));
        assert!(is_loopback("/ip4/127.9.9.9/udp/0/quic-v1"));
        assert!(is_loopback("/ip6/::1/tcp/0"));
        for open in ["/ip4/0.0.0.0/tcp/0", "/ip6/::/tcp/0", "/ip4/192.0.2.1/tcp/1", "/dns4/localhost/tcp/1"] {
            assert!(!is_loopback(open), "{open}");
        }
    }
}
