//! How far a command is understood without a node, for the fuzz targets.
//!
//! Hidden from the documentation and no part of what this crate promises. It goes the way of a session: find
//! the command, count its arguments, read them.

use tidelock_engine::id::PeerId;

use super::auth::Credentials;
use super::call::Arguments;
use super::state::SessionState;
use super::table::{Foreign, Other, Run, Spec};
use super::{client_commands, connection, errors, glob, naming, strong, tide, watching};
use crate::pubsub::PubSub;

/// Whether these arguments, the first of which is the name, are a command that could be executed.
pub fn is_understood(arguments: Vec<Vec<u8>>) -> bool {
    let name = arguments.first().map(Vec::as_slice).unwrap_or_default();
    let Some(spec) = Spec::find(name) else {
        assert!(!errors::text(name, 32).is_empty() || name.is_empty());
        return Foreign::of(name) != Foreign::Unknown && !arguments.is_empty();
    };
    if !spec.takes(arguments.len()) {
        return false;
    }
    let mut arguments = Arguments::behind_name(arguments);
    match spec.run {
        Run::Data(parse) => parse(arguments).is_ok(),
        Run::Session(answer) => {
            answer(&mut SessionState::new(1), arguments);
            true
        }
        Run::Other(Other::Hello) => {
            connection::hello(&mut SessionState::new(1), arguments, |_, _| Ok(()));
            true
        }
        Run::Other(Other::Client) => client_commands::subcommand(&mut arguments).is_ok(),
        Run::Other(Other::Auth) => Credentials::parse(arguments).is_ok(),
        Run::Other(Other::Wait) => tide::wait(arguments).is_ok(),
        Run::Other(Other::As) => {
            let is_named = |command: &[Vec<u8>]| {
                Spec::find(&command[0]).is_some_and(naming::may_be_named) && is_understood(command.to_vec())
            };
            naming::named(arguments.as_slice()).is_ok_and(|(_, command)| is_named(command))
        }
        Run::Other(Other::Mode) => strong::wanted_mode(&arguments).is_ok(),
        Run::Other(Other::Outbox) => strong::wanted_outbox(&arguments).is_ok(),
        Run::Other(Other::Outcome) => strong::wanted_outcome(arguments).is_ok(),
        Run::Other(Other::Snapshot) => strong::wanted_snapshot(&arguments).is_ok(),
        Run::Other(Other::Watch) => watching::watch(&arguments).is_ok(),
        Run::Other(Other::Retire) => tide::retire(arguments).is_ok(),
        Run::Other(Other::Network) => tide::is_online(&arguments.take()).is_ok(),
        Run::Other(Other::Keys) => {
            let pattern = arguments.take();
            let prefix = glob::prefix(&pattern);
            // What a pattern begins with, without its wildcards, is what its matches begin with.
            assert!(!glob::matches(&pattern, b"some key") || b"some key".starts_with(&prefix));
            true
        }
        Run::Message(answer) => {
            answer(&PubSub::new(PeerId::from_public_key([1; 32]), None), arguments);
            true
        }
        Run::Other(_) => true,
    }
}
