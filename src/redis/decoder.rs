//! Decodes what clients send: flat arrays of bulk strings, and inline commands.
//!
//! It is resumable at any byte and looks at every byte once. It does not recurse, for a command is flat: an
//! array within an array is an error. It never allocates what was announced, only what has come: a half-sent
//! command holds at most twice its bytes. Errors are worded as Redis words them; after one the connection is
//! of no use, because where the next command begins is not known.
//! Source: the Redis serialization protocol specification, "Sending commands to a Redis server".

use thiserror::Error;

use super::config::RedisConfig;
use super::inline;

/// The longest inline command, in bytes, as in Redis.
pub const INLINE_BYTES_MAX: usize = 64 << 10;

/// What an argument counts beyond its bytes towards [`RedisConfig::command_bytes_max`].
pub const ARGUMENT_OVERHEAD_BYTES: usize = 32;

/// The longest `*` or `$` line, in bytes. A number of 64 bits needs 20.
const HEADER_BYTES_MAX: usize = 64;

/// The longest argument of a command that is refused and not the end of the connection, in bytes: what Redis takes.
const SKIPPED_BYTES_MAX: usize = 512 << 20;

/// A command as it was sent: its name, then its arguments. It has a name at least, unless it is too long.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Command {
    /// The name and the arguments.
    pub arguments: Vec<Vec<u8>>,
    /// What it counts towards the limits, in bytes.
    pub bytes: usize,
    /// Why nothing was kept of it, if it is too long.
    pub too_long: Option<TooLong>,
}

/// Why a command is answered and not executed: a client that has sent all of it, and only then reads, is told so.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum TooLong {
    /// One of its arguments is.
    #[error("argument of {bytes} bytes; at most {bytes_max} are allowed")]
    Argument {
        /// Its length.
        bytes: usize,
        /// What it may be.
        bytes_max: usize,
    },
    /// All of it is.
    #[error("command of more than {0} bytes")]
    Command(usize),
}

/// Why the bytes are not a command. The text is what a client is answered before the connection is closed.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum ProtocolError {
    /// The number of an array is not one, or too large.
    #[error("Protocol error: invalid multibulk length")]
    ArrayLength,
    /// The length of a bulk string is not a number, or too large.
    #[error("Protocol error: invalid bulk length")]
    BulkLength,
    /// An array holds something else than bulk strings.
    #[error("Protocol error: expected '$', got '{}'", .0.escape_ascii())]
    NotBulk(u8),
    /// A bulk string is longer than it said.
    #[error("Protocol error: expected CRLF behind a bulk string")]
    BulkEnd,
    /// An array's first line has no end.
    #[error("Protocol error: too big mbulk count string")]
    ArrayHeader,
    /// A bulk string's first line has no end.
    #[error("Protocol error: too big bulk count string")]
    BulkHeader,
    /// An inline command is longer than [`INLINE_BYTES_MAX`].
    #[error("Protocol error: too big inline request")]
    Inline,
    /// A quote in an inline command is not closed, or something follows it at once.
    #[error("Protocol error: unbalanced quotes in request")]
    Quotes,
}

/// What the bytes to come are.
#[derive(Debug, Default)]
enum State {
    /// The first byte of a command.
    #[default]
    Start,
    /// The rest of an inline command.
    Inline,
    /// The rest of an array's first line, behind the `*`.
    ArrayHeader,
    /// The `$` of an argument.
    BulkStart,
    /// The rest of an argument's first line, behind the `$`.
    BulkHeader,
    /// This many bytes of the argument whose begin has come.
    Bulk { missing: usize, begin: Vec<u8> },
    /// This many bytes of an argument of a command that is too long.
    Skipped { missing: usize },
    /// The end of a bulk string, of which the first byte may have come.
    BulkEnd { has_cr: bool },
}

/// Decodes the commands of one connection.
#[derive(Debug)]
pub struct Decoder {
    bulk_bytes_max: usize,
    array_elements_max: usize,
    command_bytes_max: usize,
    state: State,
    /// The line that is coming in, without its end.
    line: Vec<u8>,
    command: Command,
    arguments_missing: usize,
}

impl Decoder {
    /// A decoder with the limits of `config`.
    pub fn new(config: &RedisConfig) -> Self {
        Self {
            bulk_bytes_max: config.bulk_bytes_max,
            array_elements_max: config.array_elements_max,
            command_bytes_max: config.command_bytes_max,
            state: State::Start,
            line: Vec::new(),
            command: Command::default(),
            arguments_missing: 0,
        }
    }

    /// What the half-sent command holds, in bytes.
    pub fn held_bytes(&self) -> usize {
        let begin = if let State::Bulk { begin, .. } = &self.state { begin.len() } else { 0 };
        self.command.bytes + self.line.len() + begin
    }

    /// Takes bytes off the front of `input` until a command is complete, or none are left.
    ///
    /// # Errors
    /// [`ProtocolError`]: nothing that follows can be understood. The decoder must not be used again.
    pub fn decode(&mut self, input: &mut &[u8]) -> Result<Option<Command>, ProtocolError> {
        while let Some(&first) = input.first() {
            match &mut self.state {
                State::Start if first == b'*' => {
                    *input = &input[1..];
                    self.state = State::ArrayHeader;
                }
                State::Start => self.state = State::Inline,
                State::Inline => {
                    if let Some(command) = self.inline(input)? {
                        return Ok(Some(command));
                    }
                }
                State::ArrayHeader => self.array_header(input)?,
                State::BulkStart if first == b'$' => {
                    *input = &input[1..];
                    self.state = State::BulkHeader;
                }
                State::BulkStart => return Err(ProtocolError::NotBulk(first)),
                State::BulkHeader => self.bulk_header(input)?,
                State::Bulk { missing, begin } => {
                    let (now, later) = input.split_at((*missing).min(input.len()));
                    begin.extend_from_slice(now);
                    *missing -= now.len();
                    *input = later;
                    if *missing == 0 {
                        let argument = std::mem::take(begin);
                        self.argument(argument);
                    }
                }
                State::Skipped { missing } => {
                    let now = (*missing).min(input.len());
                    *missing -= now;
                    *input = &input[now..];
                    if *missing == 0 {
                        self.state = State::BulkEnd { has_cr: false };
                    }
                }
                State::BulkEnd { has_cr } => match (*has_cr, first) {
                    (false, b'\r') => {
                        *has_cr = true;
                        *input = &input[1..];
                    }
                    (true, b'\n') => {
                        *input = &input[1..];
                        if let Some(command) = self.end_of_argument() {
                            return Ok(Some(command));
                        }
                    }
                    _ => return Err(ProtocolError::BulkEnd),
                },
            }
        }
        Ok(None)
    }

    /// An empty line is no command, so that somebody may press return.
    fn inline(&mut self, input: &mut &[u8]) -> Result<Option<Command>, ProtocolError> {
        if !self.take_line(input, INLINE_BYTES_MAX).ok_or(ProtocolError::Inline)? {
            return Ok(None);
        }
        let arguments = inline::split(&self.line).ok_or(ProtocolError::Quotes)?;
        // A long line is rare; keeping its buffer would let idle clients hold memory.
        self.line = Vec::new();
        self.state = State::Start;
        if arguments.is_empty() {
            return Ok(None);
        }
        let bytes = arguments.iter().map(|argument| argument.len() + ARGUMENT_OVERHEAD_BYTES).sum();
        let command = Command { arguments, bytes, too_long: None };
        let too_long = (bytes > self.command_bytes_max).then_some(TooLong::Command(self.command_bytes_max));
        Ok(Some(if too_long.is_some() { Command { too_long, ..Command::default() } } else { command }))
    }

    /// As in Redis, an array of no elements, or of fewer than none, is no command.
    fn array_header(&mut self, input: &mut &[u8]) -> Result<(), ProtocolError> {
        if !self.take_line(input, HEADER_BYTES_MAX).ok_or(ProtocolError::ArrayHeader)? {
            return Ok(());
        }
        let count = integer(&self.line).ok_or(ProtocolError::ArrayLength)?;
        self.line.clear();
        let Ok(count) = usize::try_from(count) else {
            self.state = State::Start;
            return Ok(());
        };
        if count > self.array_elements_max {
            return Err(ProtocolError::ArrayLength);
        }
        self.arguments_missing = count;
        self.state = if count == 0 { State::Start } else { State::BulkStart };
        Ok(())
    }

    fn bulk_header(&mut self, input: &mut &[u8]) -> Result<(), ProtocolError> {
        if !self.take_line(input, HEADER_BYTES_MAX).ok_or(ProtocolError::BulkHeader)? {
            return Ok(());
        }
        let length = integer(&self.line).and_then(|length| usize::try_from(length).ok());
        let length = length.filter(|length| *length <= SKIPPED_BYTES_MAX);
        let length = length.ok_or(ProtocolError::BulkLength)?;
        self.line.clear();
        if self.command.too_long.is_none() {
            self.bound(length);
        }
        if self.command.too_long.is_some() {
            self.state = State::Skipped { missing: length };
            return Ok(());
        }
        match input.split_at_checked(length) {
            Some((argument, rest)) => {
                *input = rest;
                self.argument(argument.to_vec());
            }
            None => self.state = State::Bulk { missing: length, begin: Vec::new() },
        }
        Ok(())
    }

    /// From the argument on that makes a command too long, nothing of it is kept.
    fn bound(&mut self, bytes: usize) {
        let bytes_max = self.bulk_bytes_max;
        let too_long = if bytes > bytes_max {
            TooLong::Argument { bytes, bytes_max }
        } else if self.command.bytes + bytes + ARGUMENT_OVERHEAD_BYTES > self.command_bytes_max {
            TooLong::Command(self.command_bytes_max)
        } else {
            return;
        };
        self.command = Command { too_long: Some(too_long), ..Command::default() };
    }

    fn argument(&mut self, argument: Vec<u8>) {
        self.command.bytes += argument.len() + ARGUMENT_OVERHEAD_BYTES;
        self.command.arguments.push(argument);
        self.state = State::BulkEnd { has_cr: false };
    }

    fn end_of_argument(&mut self) -> Option<Command> {
        self.arguments_missing -= 1;
        if self.arguments_missing > 0 {
            self.state = State::BulkStart;
            return None;
        }
        self.state = State::Start;
        Some(std::mem::take(&mut self.command))
    }

    /// Whether `self.line` now is a whole line; `None` when it is longer than `bytes_max`.
    fn take_line(&mut self, input: &mut &[u8], bytes_max: usize) -> Option<bool> {
        let room = bytes_max + 2 - self.line.len();
        let seen = &input[..room.min(input.len())];
        let end = seen.iter().position(|byte| *byte == b'\n');
        self.line.extend_from_slice(&seen[..end.unwrap_or(seen.len())]);
        *input = &input[end.map_or(seen.len(), |end| end + 1)..];
        if end.is_none() {
            return (self.line.len() < bytes_max + 2).then_some(false);
        }
        if self.line.last() == Some(&b'\r') {
            self.line.pop();
        }
        (self.line.len() <= bytes_max).then_some(true)
    }
}

/// The number that a text is, in its only form, as Redis reads lengths.
fn integer(text: &[u8]) -> Option<i64> {
    tidelock_engine::crdt::integer(text)
}
