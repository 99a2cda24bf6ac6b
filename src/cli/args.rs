//! What may be said on the command line. Wrong usage is explained and ends with status 2.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, Parser, Subcommand};
use tidelock_engine::id::{KeyspaceName, KeyspaceNameError, PeerId, ReplicaId};

/// Replicated data that keeps working when the network does not.
#[derive(Clone, Debug, Parser)]
#[command(name = "tidelock", version, about, propagate_version = true, arg_required_else_help = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What tidelock can do.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Run a node until it is interrupted
    Run(RunArgs),
    /// Print the peer id of a data directory, making its key if need be
    Id(IdArgs),
    /// Show peers that write offline and come to agree, all in this process
    Demo(DemoArgs),
    /// Check the files of a node that is not running
    Check(CheckArgs),
    /// Give back what the files of a node do not use, whether it runs or not
    Compact(CompactArgs),
    /// Make a data directory of a backup; the node in it writes as a new replica
    Restore(RestoreArgs),
    /// Look at backups
    #[command(subcommand)]
    Snapshot(SnapshotCommand),
    /// A command that acts on a running node
    #[command(flatten)]
    Client(ClientCommand),
}

/// The options of `tidelock run`. Each goes before what the config file says.
#[derive(Args, Clone, Debug, Default)]
pub struct RunArgs {
    /// The directory of the node's key and data
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// A name for the node, shown in its status
    #[arg(long)]
    pub name: Option<String>,
    /// The cluster: nodes sync with nodes of the same cluster only
    #[arg(long, value_name = "NAME")]
    pub cluster: Option<String>,
    /// Where peers can connect; may be repeated
    #[arg(long, value_name = "MULTIADDR")]
    pub listen: Vec<String>,
    /// A peer to stay connected with; may be repeated
    #[arg(long, value_name = "MULTIADDR")]
    pub peer: Vec<String>,
    /// Admit this peer and no other that is not allowed too; may be repeated
    #[arg(long, value_name = "PEERID")]
    pub allow: Vec<PeerId>,
    /// Where Redis clients can connect, or `off`
    #[arg(long, value_name = "ADDR")]
    pub redis: Option<PortArg>,
    /// Where HTTP clients can connect, or `off`
    #[arg(long, value_name = "ADDR")]
    pub http: Option<PortArg>,
    /// The keyspaces to replicate
    #[arg(long, value_name = "all|NAME,NAME")]
    pub keyspaces: Option<KeyspacesArg>,
    /// A TOML file with the same settings and more
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// Where clients can connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PortArg {
    /// Nowhere.
    Off,
    /// At this address.
    At(SocketAddr),
}

impl FromStr for PortArg {
    type Err = std::net::AddrParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "off" { Ok(Self::Off) } else { text.parse().map(Self::At) }
    }
}

/// Which keyspaces a node replicates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyspacesArg {
    /// All that it hears of.
    All,
    /// These, of which there is one at least.
    Named(Vec<KeyspaceName>),
}

impl FromStr for KeyspacesArg {
    type Err = KeyspaceNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "all" {
            return Ok(Self::All);
        }
        text.split(',').map(str::parse).collect::<Result<_, _>>().map(Self::Named)
    }
}

/// The options of `tidelock id`.
#[derive(Args, Clone, Debug)]
pub struct IdArgs {
    /// The directory of the node's key and data
    #[arg(long, value_name = "DIR")]
    pub data: PathBuf,
}

/// The options of `tidelock demo`.
#[derive(Args, Clone, Copy, Debug)]
pub struct DemoArgs {
    /// How many peers take part
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(2..=16))]
    pub peers: u8,
}

/// The arguments of `tidelock check`.
#[derive(Args, Clone, Debug)]
pub struct CheckArgs {
    /// The directory of the node's key and data
    pub dir: PathBuf,
}

/// The arguments of `tidelock restore`.
#[derive(Args, Clone, Debug)]
pub struct RestoreArgs {
    /// The backup
    pub from: PathBuf,
    /// The directory to make; it must not exist, or be empty
    #[arg(long, value_name = "DIR")]
    pub data: PathBuf,
    /// The key of the node that is replaced, to keep its peer id; without it a new key is made
    #[arg(long, value_name = "FILE")]
    pub key: Option<PathBuf>,
}

/// The options of `tidelock compact`.
#[derive(Args, Clone, Debug)]
pub struct CompactArgs {
    /// The directory of a node that is not running; without it, the node that runs is asked
    pub dir: Option<PathBuf>,
    /// Which node
    #[command(flatten)]
    pub node: NodeArgs,
}

/// What can be done with backups.
#[derive(Clone, Debug, Subcommand)]
pub enum SnapshotCommand {
    /// List the backups of a directory: replica, position, date, size, and whether they are sound
    Ls {
        /// The directory
        dir: PathBuf,
    },
}

/// What can be done with a keyspace of a running node. It outlasts restarts, and goes before --keyspaces.
#[derive(Clone, Debug, Subcommand)]
pub enum KeyspaceCommand {
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

/// Which node a command acts on, and how it answers.
#[derive(Args, Clone, Debug)]
pub struct NodeArgs {
    /// The Redis port of the node
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:6380")]
    pub node: String,
    /// The keyspace, by name or number; the default one if it is not given
    #[arg(long, value_name = "NAME")]
    pub keyspace: Option<String>,
    /// Answer in JSON
    #[arg(long)]
    pub json: bool,
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
        /// Which node
        #[command(flatten)]
        node: NodeArgs,
    },
    /// Describe the node
    Status(NodeArgs),
    /// List its peers
    Peers(NodeArgs),
    /// List its keyspaces
    Keyspaces(NodeArgs),
    /// Print a text that is equal on two nodes exactly when their data is
    Fingerprint(NodeArgs),
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
    /// Connect to a peer
    Connect {
        /// The peer's multiaddress
        address: String,
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
