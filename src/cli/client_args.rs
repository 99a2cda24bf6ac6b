//! What may be asked of a running node on the command line.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use tidelock_engine::id::{KeyspaceName, PeerId, ReplicaId};

/// What can be done with a keyspace of a running node. It outlasts restarts, and goes before --keyspaces.
#[derive(Clone, Debug, Subcommand)]
pub enum KeyspaceCommand {
    /// Make one: join it, and make it strong if that is wanted and it holds nothing
    Create {
        /// The keyspace
        #[arg(value_name = "KEYSPACE")]
        name: KeyspaceName,
        /// `eventual` for one that is written anywhere, offline too; `strong` for one that is linearizable
        #[arg(long, default_value = "eventual", value_parser = ["eventual", "strong"])]
        mode: String,
        /// Which node
        #[command(flatten)]
        node: NodeArgs,
    },
    /// List those of the node, as `keyspaces` does
    Ls(NodeArgs),
    /// Tell all that is known of one
    Show {
        /// The keyspace
        #[arg(value_name = "KEYSPACE")]
        name: KeyspaceName,
        /// Which node
        #[command(flatten)]
        node: NodeArgs,
    },
    /// Replicate it from now on
    Join {
        /// The keyspace
        #[arg(value_name = "KEYSPACE")]
        name: KeyspaceName,
        /// Which node
        #[command(flatten)]
        node: NodeArgs,
    },
    /// Limit what may be written to it on this node
    Quota {
        /// The keyspace
        #[arg(value_name = "KEYSPACE")]
        name: KeyspaceName,
        /// What it may hold, in bytes, or `none`, or `default` for what the config says
        #[arg(value_name = "BYTES", value_parser = quota)]
        bytes: String,
        /// Which node
        #[command(flatten)]
        node: NodeArgs,
    },
    /// Choose what is done with commands that decide, such as SETNX
    Conditional {
        /// The keyspace
        #[arg(value_name = "KEYSPACE")]
        name: KeyspaceName,
        /// `strong` refuses them, `local` decides by what this node sees, `default` is what the config says
        #[arg(value_name = "WHO", value_parser = ["strong", "local", "default"])]
        decided: String,
        /// Which node
        #[command(flatten)]
        node: NodeArgs,
    },
    /// Replicate it no more, once a connected peer has all of it, and drop what is here
    Leave {
        /// The keyspace
        #[arg(value_name = "KEYSPACE")]
        name: KeyspaceName,
        /// Leave at once, and lose what nobody else has
        #[arg(long)]
        force: bool,
        /// Which node
        #[command(flatten)]
        node: NodeArgs,
    },
}

fn quota(text: &str) -> Result<String, String> {
    let is_right = matches!(text, "none" | "default") || text.parse::<i64>().is_ok_and(|bytes| bytes >= 0);
    if is_right { Ok(text.to_owned()) } else { Err("a number of bytes, `none` or `default`".to_owned()) }
}

/// What can be done with the anchors, at any node of the cluster.
#[derive(Clone, Debug, Subcommand)]
pub enum AnchorCommand {
    /// List them
    Ls(NodeArgs),
    /// Let a connected peer be one; it votes once it has caught up and the number of voters stays odd
    Add {
        /// The peer
        peer: PeerId,
        /// Which node
        #[command(flatten)]
        node: NodeArgs,
    },
    /// Remove some; if the number of voters would be even, another peer takes the place of one
    Remove {
        /// Their numbers, as `anchor ls` lists them
        #[arg(required = true, value_name = "NUMBER")]
        anchors: Vec<u64>,
        /// Which node
        #[command(flatten)]
        node: NodeArgs,
    },
    /// Let another one lead
    Transfer {
        /// Its number, as `anchor ls` lists it
        #[arg(value_name = "NUMBER")]
        anchor: u64,
        /// Which node
        #[command(flatten)]
        node: NodeArgs,
    },
}

/// Which node a command acts on, and how it answers.
#[derive(Args, Clone, Debug)]
pub struct NodeArgs {
    /// The Redis port of the node
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:6380")]
    pub node: String,
    /// The keyspace, by name or number; the default one if it is not given
    #[arg(long, value_name = "NAME")]
    pub keyspace: Option<String>,
    /// A file that holds the node's password, if it asks for one; else `TIDELOCK_PASSWORD` in the environment
    #[arg(long, value_name = "FILE")]
    pub password_file: Option<PathBuf>,
    /// Answer in JSON
    #[arg(long)]
    pub json: bool,
}

/// The options of `tidelock bench`.
#[derive(Args, Clone, Debug)]
pub struct BenchArgs {
    /// What to measure, one after another
    #[arg(long, value_delimiter = ',', default_value = "set,get,incr,sadd")]
    pub commands: Vec<BenchCommand>,
    /// How many clients ask at the same time
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    pub clients: u16,
    /// How many commands each of them gives before it waits for the answers
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    pub pipeline: u16,
    /// How often each command is given
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub requests: u64,
    /// How long each command is given, instead of how often
    #[arg(long, conflicts_with = "requests", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub seconds: Option<u64>,
    /// How many keys, or elements of the set, are written and read
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub keys: u32,
    /// The length of a value in bytes
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=16 << 20))]
    pub size: u32,
    /// Leave what was written
    #[arg(long)]
    pub keep: bool,
    /// Which node
    #[command(flatten)]
    pub node: NodeArgs,
}

/// The options of `tidelock top`.
#[derive(Args, Clone, Debug)]
pub struct TopArgs {
    /// Print it once, as where there is no terminal
    #[arg(long)]
    pub once: bool,
    /// How often the node is asked, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=3_600))]
    pub every: u64,
    /// Which node
    #[command(flatten)]
    pub node: NodeArgs,
}

/// What can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum BenchCommand {
    /// Write registers.
    Set,
    /// Read registers, which are written before.
    Get,
    /// Count up.
    Incr,
    /// Add elements to one set.
    Sadd,
}

/// The commands that act on a running node. Keys, elements and values are bytes: whatever the shell hands over.
#[derive(Clone, Debug, Subcommand)]
pub enum ClientCommand {
    /// Read a value
    Get {
        /// The key
        key: OsString,
        /// Which node
        #[command(flatten)]
        node: NodeArgs,
    },
    /// Write a value
    Set {
        /// The key
        key: OsString,
        /// Its value from now on
        #[arg(allow_negative_numbers = true)]
        value: OsString,
        /// Which node
        #[command(flatten)]
        node: NodeArgs,
    },
    /// Remove keys, whatever they hold
    Del {
        /// The keys
        #[arg(required = true)]
        keys: Vec<OsString>,
        /// Which node
        #[command(flatten)]
        node: NodeArgs,
    },
    /// Count up
    Incr {
        /// The key
        key: OsString,
        /// How far
        #[arg(default_value_t = 1, allow_negative_numbers = true)]
        by: i64,
        /// Which node
        #[command(flatten)]
        node: NodeArgs,
    },
    /// Count down
    Decr {
        /// The key
        key: OsString,
        /// How far
        #[arg(default_value_t = 1, allow_negative_numbers = true)]
        by: i64,
        /// Which node
        #[command(flatten)]
        node: NodeArgs,
    },
    /// Add elements to a set
    Add {
        /// The key
        key: OsString,
        /// The elements
        #[arg(required = true, allow_negative_numbers = true)]
        elements: Vec<OsString>,
        /// Which node
        #[command(flatten)]
        node: NodeArgs,
    },
    /// Remove elements from a set
    Rem {
        /// The key
        key: OsString,
        /// The elements
        #[arg(required = true, allow_negative_numbers = true)]
        elements: Vec<OsString>,
        /// Which node
        #[command(flatten)]
        node: NodeArgs,
    },
    /// List the elements of a set
    Members {
        /// The key
        key: OsString,
        /// Which node
        #[command(flatten)]
        node: NodeArgs,
    },
    /// Write fields of a map
    Hset {
        /// The key
        key: OsString,
        /// Fields and values in turn
        #[arg(required = true, num_args = 2.., value_names = ["FIELD", "VALUE"], allow_negative_numbers = true)]
        pairs: Vec<OsString>,
        /// Which node
        #[command(flatten)]
        node: NodeArgs,
    },
    /// Read a field of a map
    Hget {
        /// The key
        key: OsString,
        /// The field
        field: OsString,
        /// Which node
        #[command(flatten)]
        node: NodeArgs,
    },
    /// List the fields of a map and their values
    Hgetall {
        /// The key
        key: OsString,
        /// Which node
        #[command(flatten)]
        node: NodeArgs,
    },
    /// List keys
    Keys {
        /// A pattern with *, ? and [a-z]
        #[arg(default_value = "*")]
        pattern: OsString,
        /// Which node
        #[command(flatten)]
        node: NodeArgs,
    },
    /// Give any command of the Redis port, such as ZADD, EXPIRE or TIDE.DOC
    Call {
        /// The command and its arguments; behind `--`, they may begin with dashes
        #[arg(required = true, allow_negative_numbers = true)]
        words: Vec<OsString>,
        /// Which node
        #[command(flatten)]
        node: NodeArgs,
    },
    /// Print changes as they happen, until interrupted
    Watch {
        /// The key
        #[arg(required_unless_present = "prefix")]
        key: Option<OsString>,
        /// Watch all keys that begin with this instead; '' is for all
        #[arg(long, conflicts_with = "key")]
        prefix: Option<OsString>,
        /// Go on behind this cursor of an earlier watch
        #[arg(long, value_name = "CURSOR")]
        from: Option<u64>,
        /// Go on behind this revision of a strong keyspace, whichever node told it; 0 is for all that is held
        #[arg(long, value_name = "REVISION", conflicts_with = "from")]
        after_revision: Option<u64>,
        /// Which node
        #[command(flatten)]
        node: NodeArgs,
    },
    /// Tell a message to who listens to a channel, here and on the peers; prints how many listen here
    Publish {
        /// The channel
        channel: OsString,
        /// The message
        message: OsString,
        /// Which node
        #[command(flatten)]
        node: NodeArgs,
    },
    /// Print the messages on channels as they come, until interrupted
    Subscribe {
        /// The channels
        #[arg(required = true)]
        channels: Vec<OsString>,
        /// They are patterns with *, ? and [a-z]
        #[arg(long)]
        pattern: bool,
        /// Which node
        #[command(flatten)]
        node: NodeArgs,
    },
    /// Describe the node
    Status(NodeArgs),
    /// Tell whether the node takes reads and writes of all keyspaces, by status 0 or 1 and why not
    Ready(NodeArgs),
    /// List its peers
    Peers(NodeArgs),
    /// List its keyspaces
    Keyspaces(NodeArgs),
    /// Print a text that is equal on two nodes exactly when their data is
    Fingerprint(NodeArgs),
    /// List the anchors, which agree on strong keyspaces, or change who they are
    #[command(subcommand)]
    Anchor(AnchorCommand),
    /// List what was written before a keyspace became strong and is not in it
    Outbox {
        /// The keyspace
        #[arg(value_name = "KEYSPACE")]
        name: KeyspaceName,
        /// How many operations to list at most
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u16).range(..=10_000))]
        count: u16,
        /// Which node
        #[command(flatten)]
        node: NodeArgs,
    },
    /// Tell what became of an operation on a strong keyspace, of which a node said that it did not know
    Outcome {
        /// The keyspace
        #[arg(value_name = "KEYSPACE")]
        name: KeyspaceName,
        /// The operation, as the error named it
        id: String,
        /// Where it was not executed, make certain that it never is
        #[arg(long = "final")]
        is_final: bool,
        /// Which node
        #[command(flatten)]
        node: NodeArgs,
    },
    /// List what lost to concurrent writes under a key
    Conflicts {
        /// The key
        key: OsString,
        /// Which node
        #[command(flatten)]
        node: NodeArgs,
    },
    /// List everything that is stored under a key
    Entry {
        /// The key
        key: OsString,
        /// Which node
        #[command(flatten)]
        node: NodeArgs,
    },
    /// Hang up on all peers and refuse them
    Offline(NodeArgs),
    /// Go back to the peers
    Online(NodeArgs),
    /// Connect to a peer, now and after every loss, and tell what becomes of it
    Connect {
        /// The peer's multiaddress
        address: String,
        /// How many seconds to wait for it; 0 tells nothing
        #[arg(long, value_name = "SECONDS", default_value_t = 15, value_parser = clap::value_parser!(u8).range(..=50))]
        wait: u8,
        /// Which node
        #[command(flatten)]
        node: NodeArgs,
    },
    /// Write a backup of the node to a new file, while it goes on
    Backup {
        /// The file; in a directory, a file that is named by replica and date
        dest: PathBuf,
        /// Which node
        #[command(flatten)]
        node: NodeArgs,
    },
    /// Print what a keyspace shows, as JSON lines
    Export {
        /// The keyspace
        #[arg(value_name = "KEYSPACE")]
        name: KeyspaceName,
        /// Which node
        #[command(flatten)]
        node: NodeArgs,
    },
    /// Write what an export holds to a keyspace; doing it again changes nothing
    Import {
        /// The keyspace
        #[arg(value_name = "KEYSPACE")]
        name: KeyspaceName,
        /// The export; stdin if it is not given
        file: Option<PathBuf>,
        /// Which node
        #[command(flatten)]
        node: NodeArgs,
    },
    /// Show the node as it changes: peers, keyspaces, rates, warnings
    Top(TopArgs),
    /// Measure a running node: rates, and percentiles of the time to an answer
    Bench(BenchArgs),
    /// Join or leave a keyspace
    #[command(subcommand)]
    Keyspace(KeyspaceCommand),
    /// Go on as a new replica, after the status said that this one has two histories or was retired
    Rejoin(NodeArgs),
    /// List every replica that ever wrote
    Replicas(NodeArgs),
    /// Say that a replica will never write again: a lost phone, a wiped disk
    Retire {
        /// The replica, as `replicas` lists it
        replica: ReplicaId,
        /// Also if it is connected now, or the node's own; it must rejoin then
        #[arg(long)]
        force: bool,
        /// Which node; with --keyspace in that keyspace only, else wherever it has written
        #[command(flatten)]
        node: NodeArgs,
    },
}
