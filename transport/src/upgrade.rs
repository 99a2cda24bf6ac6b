//! Negotiating a lane: the protocol's name is agreed upon, and the bare stream handed over.

use std::array;
use std::convert::Infallible;
use std::iter::{self, Flatten};

use futures::future::{self, Ready};
use libp2p::Stream;
use libp2p::core::UpgradeInfo;
use libp2p::core::upgrade::{InboundUpgrade, OutboundUpgrade};

use crate::lane::Lane;

/// Accepts any of these lanes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Accept(pub(crate) [Option<Lane>; 3]);

/// Opens this lane.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Open(pub(crate) Lane);

impl UpgradeInfo for Accept {
    type Info = Lane;
    type InfoIter = Flatten<array::IntoIter<Option<Lane>, 3>>;

    fn protocol_info(&self) -> Self::InfoIter {
        self.0.into_iter().flatten()
    }
}

impl InboundUpgrade<Stream> for Accept {
    type Output = (Lane, Stream);
    type Error = Infallible;
    type Future = Ready<Result<Self::Output, Infallible>>;

    fn upgrade_inbound(self, stream: Stream, lane: Lane) -> Self::Future {
        future::ready(Ok((lane, stream)))
    }
}

impl UpgradeInfo for Open {
    type Info = Lane;
    type InfoIter = iter::Once<Lane>;

    fn protocol_info(&self) -> Self::InfoIter {
        iter::once(self.0)
    }
}

impl OutboundUpgrade<Stream> for Open {
    type Output = (Lane, Stream);
    type Error = Infallible;
    type Future = Ready<Result<Self::Output, Infallible>>;

    fn upgrade_outbound(self, stream: Stream, lane: Lane) -> Self::Future {
        future::ready(Ok((lane, stream)))
    }
}
