//! One client's session: takes its commands one by one and decides what each needs.

use std::sync::Arc;
use std::time::Duration;

use tidelock_engine::request::RequestError;

use super::anchors;
use super::auth;
use super::backend::Backend;
use super::burst::{Burst, Later};
use super::call::Arguments;
use super::channels;
use super::client_commands::{self, Answered};
use super::clients::{Buffered, Client};
use super::connection;
use super::decoder::Command;
use super::documents;
use super::errors;
use super::info;
use super::keys;
use super::latency;
use super::moving;
use super::output::Output;
use super::reply::{Protocol, Reply};
use super::settings;
use super::slow_log::Said;
use super::state::{Replies, SessionState, Shared};
use super::stream::Stream;
use super::table::{Foreign, Other, Run, Spec};
use super::tide;
use super::told;
use super::transaction::Transaction;
use super::watched::{self, Watched};
use super::watching;
use crate::pubsub::{Subscriber, Tracker};

const NOT_IN_MULTI: Reply = errors::constant("ERR Command not allowed inside a transaction");

/// What the connection does after a command.
#[derive(Debug)]
pub(super) enum Flow<W> {
    /// Goes on.
    Continue,
    /// Closes once all replies are written.
    Close,
    /// Closes at once: these are not Redis commands but somebody's web page.
    Drop,
    /// Waits for peers, then answers how many.
    Wait { peers: usize, timeout: Option<Duration> },
    /// Pushes these changes from now on.
    Watch(W),
    /// Stops pushing.
    Unwatch,
}

#[derive(Debug)]
pub(super) struct Session<B> {
    pub(super) backend: B,
    pub(super) state: SessionState,
    /// What others see of it.
    pub(super) client: Arc<Client>,
    pub(super) shared: Arc<Shared>,
    /// What it listens to, since it first listened to something.
    pub(super) subscriber: Option<Subscriber>,
    /// What it keeps copies of, while it tracks.
    pub(super) tracker: Option<Tracker>,
    pub(super) transaction: Option<Transaction>,
    pub(super) burst: Burst,
    /// What TIDE.NEXT reads.
    pub(super) pieces: Stream,
    /// The commands of the table that were taken and not recorded yet.
    pub(super) taken: Vec<&'static Spec>,
    /// How they began, if any may be slow.
    pub(super) said: Said,
}

impl<B: Backend> Session<B> {
    pub(super) fn new(client: Arc<Client>, backend: B, shared: Arc<Shared>) -> Self {
        let state = Self::first_state(&client, &shared);
        let (subscriber, transaction, burst, pieces) = (None, None, Burst::default(), Stream::default());
        let (tracker, taken, said) = (None, Vec::new(), Said::default());
        Self { backend, state, client, shared, subscriber, tracker, transaction, burst, pieces, taken, said }
    }

    /// Whether the selected keyspace is strong.
    pub(super) fn is_strong(&self) -> bool {
        self.backend.mode(&self.state.keyspace).epoch.is_strong()
    }

    fn first_state(client: &Client, shared: &Shared) -> SessionState {
        let address = client.ends.address.ip();
        let is_authenticated = shared.config.password.is_none();
        SessionState { address, is_authenticated, ..SessionState::new(client.id) }
    }

    /// The bytes that the session holds for later.
    pub(super) fn held_bytes(&self) -> usize {
        let queued = self.transaction.as_ref().map_or(0, Transaction::held_bytes);
        let listening = self.subscriber.as_ref().map_or(0, Subscriber::held_bytes);
        queued + listening + self.pieces.held_bytes() + self.state.watched.held_bytes()
    }

    /// Executes all that was taken and writes the replies.
    pub(super) async fn flush(&mut self, out: &mut Output<'_>) {
        let wanted = (self.state.protocol, self.state.replies);
        self.burst.flush(&self.backend, wanted, out).await;
    }

    /// Shows others what the client is now.
    pub(super) fn show(&self, buffered: Buffered) {
        self.client.show(&self.state, self.transaction.as_ref().map(Transaction::len), buffered);
    }

    /// A reply that is skipped is that of one command, which therefore is executed alone.
    async fn skip(&mut self, out: &mut Output<'_>) {
        let next = match self.state.replies {
            Replies::SkipNext => Replies::Skip,
            Replies::Skip => Replies::On,
            Replies::On | Replies::Off => return,
        };
        self.flush(out).await;
        self.state.replies = next;
    }

    /// Takes a command. Data commands are kept until [`Session::flush`], so that those which came together are
    /// executed together.
    pub(super) async fn run(&mut self, command: Command, out: &mut Output<'_>) -> Flow<B::Watch> {
        self.skip(out).await;
        let Command { arguments, bytes, too_long } = command;
        let name = arguments.first().map(Vec::as_slice).unwrap_or_default();
        if name.eq_ignore_ascii_case(b"post") || name.eq_ignore_ascii_case(b"host:") {
            return Flow::Drop;
        }
        let too_long = too_long.map(|why| Err(Reply::error(format!("ERR {why}"))));
        let understood = too_long.unwrap_or_else(|| self.understand(arguments));
        let (spec, arguments) = match understood {
            Ok(understood) => understood,
            Err(refused) => {
                self.refuse(refused);
                return Flow::Continue;
            }
        };
        self.taken.push(spec);
        if self.shared.slow_log.is_on() {
            self.said.keep(spec.name, &arguments);
        }
        self.state.command = spec.name;
        self.remember(spec, &arguments);
        let arguments = Arguments::behind_name(arguments);
        if self.transaction.is_some() && !matches!(spec.run, Run::Other(other) if other.is_done_in_multi()) {
            self.queue(spec, arguments, bytes);
            return Flow::Continue;
        }
        match spec.run {
            Run::Data(parse) => match parse(arguments) {
                Ok(call) => {
                    let is_strong = self.is_strong();
                    if self.burst.must_flush_before(&call, is_strong) {
                        self.flush(out).await;
                    }
                    self.burst.call(&self.state, (call, bytes), is_strong);
                }
                Err(refused) => self.burst.ready(refused),
            },
            Run::Session(answer) => {
                let reply = answer(&mut self.state, arguments);
                self.burst.ready(reply);
            }
            Run::Message(run) => self.burst.later(Later { run, arguments }),
            Run::Other(other) => return self.other(other, arguments, out).await,
        }
        Flow::Continue
    }

    /// The command, if it exists, has enough arguments and may be given now.
    pub(super) fn find(&self, arguments: &[Vec<u8>]) -> Result<&'static Spec, Reply> {
        let name = arguments.first().map(Vec::as_slice).unwrap_or_default();
        // Those that come together are mostly the same.
        let is_it = |last: &&&Spec| last.name.as_bytes().eq_ignore_ascii_case(name);
        let Some(spec) = self.taken.last().filter(is_it).copied().or_else(|| Spec::find(name)) else {
            let shown = errors::text(name, 32);
            return Err(match Foreign::of(name) {
                // The words by which tools tell that a server is no part of a Redis cluster.
                Foreign::NotYet if name.eq_ignore_ascii_case(b"cluster") => errors::NO_CLUSTER,
                Foreign::NotYet => {
                    Reply::error(format!("ERR the Redis command '{shown}' is not supported yet"))
                }
                Foreign::Unknown => errors::unknown_command(arguments),
            });
        };
        if !spec.takes(arguments.len()) {
            return Err(errors::arity(spec.name));
        }
        if !self.state.is_authenticated && !matches!(spec.name, "auth" | "hello" | "quit" | "reset") {
            return Err(auth::REQUIRED);
        }
        let may_be_pushed_between = self.state.protocol == Protocol::Resp3
            || matches!(spec.name, "ping" | "quit" | "reset" | "tide.unwatch" | "tide.watch");
        if self.state.subscriptions.is_any() && self.state.protocol == Protocol::Resp2 {
            channels::check_listening(spec)?;
        }
        if self.state.is_watching && !may_be_pushed_between {
            return Err(Reply::error(format!(
                "ERR Can't execute '{}': only TIDE.UNWATCH / PING / QUIT are allowed in this context",
                spec.name
            )));
        }
        Ok(spec)
    }

    fn refuse(&mut self, refused: Reply) {
        if let Some(transaction) = &mut self.transaction {
            transaction.spoil();
        }
        self.burst.ready(refused);
    }

    fn queue(&mut self, spec: &Spec, arguments: Arguments, bytes: usize) {
        let bytes_max = self.shared.config.command_bytes_max;
        if self.held_bytes() + bytes > bytes_max {
            return self.refuse(Reply::error(format!("ERR transaction of more than {bytes_max} bytes")));
        }
        let (Some(transaction), true) = (&mut self.transaction, spec.may_be_queued()) else {
            return self.refuse(NOT_IN_MULTI);
        };
        transaction.mark(spec.name, arguments.as_slice());
        match spec.run {
            Run::Data(parse) => match parse(arguments) {
                Ok(call) => transaction.queue(call, bytes),
                Err(refused @ Reply::Error(_)) => return self.refuse(refused),
                Err(told) => transaction.queue_ready(told, bytes),
            },
            Run::Session(answer) => transaction.queue_ready(answer(&mut self.state, arguments), bytes),
            Run::Other(other) if other.is_told() => match told::check(other, &arguments) {
                Ok(()) => transaction.queue_told(other, arguments, bytes),
                Err(refused) => return self.refuse(refused),
            },
            Run::Message(run) => transaction.queue_later(Later { run, arguments }, bytes),
            // EXEC has looked at the watched keys before it would be its turn.
            Run::Other(Other::UnwatchKeys) => transaction.queue_ready(Reply::OK, bytes),
            Run::Other(_) => return self.refuse(NOT_IN_MULTI),
        }
        self.burst.ready(Reply::Simple("QUEUED".into()));
    }

    async fn other(&mut self, other: Other, arguments: Arguments, out: &mut Output<'_>) -> Flow<B::Watch> {
        match other {
            Other::Exec if self.transaction.as_ref().is_some_and(Transaction::tells) => {
                let transaction = self.transaction.take().unwrap_or_default();
                let watched = std::mem::take(&mut self.state.watched);
                return self.execute_and_tell((transaction, watched), out).await;
            }
            Other::Multi | Other::Exec | Other::Discard => self.transact(other),
            Other::Select => {
                let reply = self.select(arguments).map_or_else(|refused| refused, |()| Reply::OK);
                self.burst.ready(reply);
            }
            Other::WatchKeys if self.transaction.is_some() => {
                self.burst.ready(errors::constant("ERR WATCH inside MULTI is not allowed"));
            }
            Other::Subscribe(space) => {
                self.flush(out).await;
                self.subscribe(space, arguments, out);
            }
            Other::Unsubscribe(space) => {
                self.flush(out).await;
                self.unsubscribe(space, arguments, out);
            }
            Other::Quit => {
                self.burst.ready(Reply::OK);
                return Flow::Close;
            }
            // The rest is answered at once, so what came before must be done: for its effects, and because
            // HELLO changes how answers are written.
            _ => {
                self.flush(out).await;
                return match self.answer(other, arguments).await {
                    Ok(flow) => flow,
                    Err(refused) => {
                        self.burst.ready(refused);
                        Flow::Continue
                    }
                };
            }
        }
        Flow::Continue
    }

    fn transact(&mut self, other: Other) {
        let reply = match (other, self.transaction.take()) {
            (Other::Multi, None) => {
                self.transaction = Some(Transaction::default());
                Reply::OK
            }
            (Other::Multi, open) => {
                self.transaction = open;
                errors::constant("ERR MULTI calls can not be nested")
            }
            (Other::Exec, None) => errors::constant("ERR EXEC without MULTI"),
            (Other::Exec, Some(transaction)) if transaction.is_spoilt() => {
                self.state.watched = Watched::default();
                errors::constant("EXECABORT Transaction discarded because of previous errors.")
            }
            (Other::Exec, Some(transaction)) => {
                let watched = std::mem::take(&mut self.state.watched);
                return self.burst.batch(&self.state, (transaction, watched), self.is_strong());
            }
            (_, None) => errors::constant("ERR DISCARD without MULTI"),
            (_, Some(_)) => {
                self.state.watched = Watched::default();
                Reply::OK
            }
        };
        self.burst.ready(reply);
    }

    /// Refuses a keyspace that no command could use.
    fn select(&mut self, mut arguments: Arguments) -> Result<(), Reply> {
        let keyspace = connection::keyspace(arguments.take())?;
        if !self.state.watched.is_empty() && keyspace != self.state.keyspace {
            return Err(errors::constant(
                "ERR keys of this keyspace are watched, and EXEC is of one; UNWATCH first",
            ));
        }
        match self.backend.read(&keyspace, &[], usize::MAX) {
            // It may be chosen before it can be read.
            Ok(_) | Err(RequestError::Loading(_)) => {}
            Err(error) => return Err(errors::request(&error)),
        }
        self.state.keyspace = keyspace;
        Ok(())
    }

    /// Answers a command that is not executed with the data commands.
    pub(super) async fn answer(
        &mut self,
        other: Other,
        arguments: Arguments,
    ) -> Result<Flow<B::Watch>, Reply> {
        let backend = &self.backend;
        let reply = match other {
            Other::Auth | Other::Hello => return self.authenticate(other, arguments),
            Other::Client => return self.tell(arguments),
            Other::Reset => return Ok(self.reset()),
            Other::Info => {
                let about = info::About {
                    status: &backend.status(),
                    keyspaces: &backend.keyspaces(),
                    shared: &self.shared,
                    pubsub: backend.pubsub(),
                };
                Reply::Verbatim(about.sections(arguments.as_slice()))
            }
            Other::Config => settings::config(&self.shared, backend.pubsub(), arguments),
            Other::LastSave => info::last_save(&backend.status()),
            Other::Latency => latency::latency(&self.shared, arguments),
            Other::SlowLog => self.shared.slow_log.answer(arguments),
            Other::FlushAll => keys::flushall(backend, self.state.durability, arguments).await?,
            Other::Keys | Other::Scan | Other::ElementScan | Other::FieldScan | Other::MemberScan => {
                self.scan(other, arguments).await?
            }
            Other::Wait => {
                return tide::wait(arguments).map(|(peers, timeout)| Flow::Wait { peers, timeout });
            }
            Other::Status => tide::status(backend.status()),
            Other::Peers => tide::peers(backend.peers()),
            Other::Keyspaces => tide::keyspaces(backend.keyspaces()),
            Other::Fingerprint => self.fingerprint(arguments)?,
            Other::Connect => tide::connect(backend, arguments).await?,
            Other::Document => {
                let place = (&self.state.keyspace, self.state.durability);
                documents::execute(backend, place, arguments).await?
            }
            Other::Watch if self.state.is_watching => {
                return Err(errors::constant("ERR this connection watches already; TIDE.UNWATCH first"));
            }
            Other::Watch => {
                let watch = watching::begin(backend, &self.state.keyspace, &arguments)?;
                self.state.is_watching = true;
                self.burst.ready(Reply::OK);
                return Ok(Flow::Watch(watch));
            }
            Other::Unwatch => {
                self.state.is_watching = false;
                self.burst.ready(Reply::OK);
                return Ok(Flow::Unwatch);
            }
            Other::WatchKeys => {
                let bytes_max = self.shared.config.command_bytes_max;
                watched::watch(backend, &mut self.state, arguments, bytes_max).await?
            }
            Other::UnwatchKeys => {
                self.state.watched = Watched::default();
                Reply::OK
            }
            Other::Quit | Other::Select | Other::Multi | Other::Exec | Other::Discard => {
                unreachable!("they are executed in order with the data commands")
            }
            other => self.operate(other, arguments).await?,
        };
        self.burst.ready(reply);
        Ok(Flow::Continue)
    }

    /// Makes the connection what it was when it began. What it guessed wrong is not forgotten.
    fn reset(&mut self) -> Flow<B::Watch> {
        self.transaction = None;
        self.pieces = Stream::default();
        self.unsubscribe_all();
        self.tracker = None;
        let SessionState { command, wrong_passwords, .. } = self.state;
        let first = Self::first_state(&self.client, &self.shared);
        self.state = SessionState { command, wrong_passwords, ..first };
        self.burst.ready(Reply::Simple("RESET".into()));
        Flow::Unwatch
    }

    /// Answers what the client asks about itself and the others.
    fn tell(&mut self, mut arguments: Arguments) -> Result<Flow<B::Watch>, Reply> {
        let name = client_commands::subcommand(&mut arguments)?;
        self.state.command = name;
        if let Some(reply) = self.about_tracking(name, &mut arguments) {
            self.burst.ready(reply?);
            return Ok(Flow::Continue);
        }
        self.show(Buffered::default());
        let asking = (&mut self.state, &*self.client);
        let (reply, flow) = match client_commands::answer(asking, &self.shared, (name, arguments))? {
            Answered::Goes(reply) => (reply, Flow::Continue),
            Answered::Ends(reply) => (reply, Flow::Close),
        };
        self.burst.ready(reply);
        Ok(flow)
    }

    /// Answers a command of an operator.
    async fn operate(&mut self, other: Other, mut arguments: Arguments) -> Result<Reply, Reply> {
        let backend = &self.backend;
        Ok(match other {
            Other::Anchor => anchors::execute(backend, &arguments).await?,
            Other::Network => {
                backend.set_online(tide::is_online(&arguments.take())?);
                Reply::OK
            }
            Other::Backup => {
                self.pieces = Stream::begin(backend.backup())?;
                Reply::OK
            }
            Other::Compact => tide::compact(backend, &arguments).await?,
            Other::Export => {
                self.pieces = Stream::begin(backend.export(&self.state.keyspace).await)?;
                Reply::OK
            }
            Other::Next => self.pieces.next_piece()?,
            Other::Keyspace => order(backend, &arguments).await?,
            Other::Label
            | Other::Mode
            | Other::Outbox
            | Other::Outcome
            | Other::Revision
            | Other::Snapshot => self.about_strong(other, arguments).await?,
            Other::Move => {
                let place = (&self.state.keyspace, self.state.durability);
                moving::move_key(backend, place, arguments).await?
            }
            Other::Rejoin => Reply::text(backend.rejoin().await.map_err(refused)?),
            Other::Replicas => tide::replicas(backend.replicas().map_err(refused)?),
            Other::Retire => {
                let (replica, keyspace, is_forced) = tide::retire(arguments)?;
                Reply::count(backend.retire(replica, keyspace, is_forced).await.map_err(refused)?)
            }
            _ => unreachable!("it is answered where it came from"),
        })
    }

    fn fingerprint(&self, mut arguments: Arguments) -> Result<Reply, Reply> {
        let keyspace = match (arguments.next(), arguments.len()) {
            (None, _) => self.state.keyspace.clone(),
            (Some(name), 0) => connection::keyspace(name)?,
            _ => return Err(errors::arity("tide.fingerprint")),
        };
        self.backend.read(&keyspace, &[], usize::MAX).map_err(|error| errors::request(&error))?;
        Ok(Reply::text(self.backend.fingerprint(&keyspace)))
    }
}

/// A sentence of the backend that says why not.
#[expect(clippy::needless_pass_by_value, reason = "it maps an error")]
pub(super) fn refused(reason: String) -> Reply {
    Reply::error(format!("ERR {reason}"))
}

/// Carries out what the operator orders of a keyspace.
async fn order<B: Backend>(backend: &B, arguments: &Arguments) -> Result<Reply, Reply> {
    let (keyspace, order) = tide::order(arguments)?;
    let done = backend.order(keyspace, order).await;
    done.map_or_else(|error| Err(errors::keyspace(&error)), |()| Ok(Reply::OK))
}
