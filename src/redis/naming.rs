//! TIDE.AS: the command behind it is an operation that its client names, and is done once however often it is asked for.

use tidelock_engine::id::ClientId;

use super::backend::Backend;
use super::errors;
use super::reply::Reply;
use super::session::Session;
use super::table::{Other, Run, Spec};
use crate::named::{CLIENT_BYTES_MAX, Name, mark_of};

const NOT_NAMED: Reply =
    errors::constant("ERR TIDE.AS names a command that writes keys of the selected keyspace, or EXEC");

/// `TIDE.AS client number command [argument ...]`, behind its own name: the name of the operation, and the command.
pub(super) fn named(arguments: &[Vec<u8>]) -> Result<(Name, &[Vec<u8>]), Reply> {
    let [client, number, command @ ..] = arguments else { return Err(errors::arity("tide.as")) };
    if client.is_empty() || client.len() > CLIENT_BYTES_MAX {
        return Err(Reply::error(format!("ERR the name of a client has 1 to {CLIENT_BYTES_MAX} bytes")));
    }
    let number = std::str::from_utf8(number).ok().and_then(|text| text.parse().ok());
    let number = number.ok_or(errors::NOT_AN_INTEGER)?;
    Ok(((ClientId::named(client), number), command))
}

/// Whether a command may be an operation with a name.
pub(super) fn may_be_named(spec: &Spec) -> bool {
    matches!(spec.run, Run::Data(_) | Run::Other(Other::Exec))
}

impl<B: Backend> Session<B> {
    /// The command that is meant, and remembers how its operation is named.
    pub(super) fn understand(
        &mut self,
        mut arguments: Vec<Vec<u8>>,
    ) -> Result<(&'static Spec, Vec<Vec<u8>>), Reply> {
        self.state.named = None;
        let spec = self.find(&arguments)?;
        let Run::Other(Other::As) = spec.run else { return Ok((spec, arguments)) };
        let (name, command) = named(&arguments[1..])?;
        let spec = self.find(command)?;
        let is_queued = self.transaction.is_some() && matches!(spec.run, Run::Data(_));
        if is_queued || !may_be_named(spec) {
            return Err(NOT_NAMED);
        }
        let rest = command[1..].iter().map(Vec::as_slice);
        let mark = mark_of(std::iter::once(spec.name.as_bytes()).chain(rest));
        self.state.named = Some((name, mark));
        let before = arguments.len() - command.len();
        arguments.drain(..before);
        Ok((spec, arguments))
    }
}
