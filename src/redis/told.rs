//! What is told of the node, the server or the connection within a transaction.
//!
//! It is no part of the batch. It is answered once that is done, so it tells of what the batch has left.

use super::backend::Backend;
use super::call::Arguments;
use super::client_commands;
use super::output::Output;
use super::reply::Reply;
use super::session::{Flow, Session};
use super::table::Other;
use super::transaction::Transaction;
use super::watched::Watched;

impl Other {
    /// Whether it may stand in a transaction: it neither reads data nor changes how the connection goes on.
    pub(super) fn is_told(self) -> bool {
        matches!(
            self,
            Self::Client | Self::Config | Self::Info | Self::LastSave | Self::Latency | Self::SlowLog
        )
    }

    /// Whether it is done at once where commands are queued. WATCH is refused there, which is no reason not to execute
    /// what was queued.
    pub(super) fn is_done_in_multi(self) -> bool {
        matches!(self, Self::Exec | Self::Discard | Self::Multi | Self::Reset | Self::WatchKeys)
    }
}

/// Refuses what could never be told, before it is queued: Redis knows the subcommands of CLIENT by then.
pub(super) fn check(what: Other, arguments: &Arguments) -> Result<(), Reply> {
    if what == Other::Client { client_commands::subcommand(&mut arguments.clone()).map(drop) } else { Ok(()) }
}

/// A command that is answered once the batch is done, and the place of its answer.
#[derive(Debug)]
pub(super) struct Told {
    pub(super) place: usize,
    pub(super) what: Other,
    pub(super) arguments: Arguments,
}

impl<B: Backend> Session<B> {
    /// Executes a transaction in which something is told. If the batch is refused, or a watched key was changed, nothing
    /// is.
    pub(super) async fn execute_and_tell(
        &mut self,
        (mut transaction, watched): (Transaction, Watched),
        out: &mut Output<'_>,
    ) -> Flow<B::Watch> {
        self.flush(out).await;
        let told = transaction.take_told();
        self.burst.batch(&self.state, (transaction, watched), self.is_strong());
        let mut reply = self.burst.only(&self.backend, out.bytes_max()).await;
        let mut flow = Flow::Continue;
        if let Reply::Array(replies) = &mut reply {
            for Told { place, what, arguments } in told {
                replies[place] = match self.answer(what, arguments).await {
                    Ok(goes_on) => {
                        flow = if matches!(flow, Flow::Close) { flow } else { goes_on };
                        self.burst.take_ready()
                    }
                    Err(refused) => refused,
                };
            }
        }
        self.burst.ready(reply);
        flow
    }
}
