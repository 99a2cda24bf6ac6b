//! What may be said on the command line. Wrong usage is explained and ends with status 2.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;
use tidelock_engine::id::{KeyspaceName, KeyspaceNameError, PeerId};

use super::client_args::{ClientCommand, NodeArgs};

/// Replicated data that keeps working when the network does not.
#[derive(Clone, Debug, Parser)]
#[command(name = "tidelock", version, propagate_version = true, arg_required_else_help = true)]
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
    /// Save strong keyspaces to a file, and restore them into a new cluster; or list backups
    #[command(subcommand)]
    Snapshot(SnapshotCommand),
    /// Print the script that makes a shell complete commands and options
    Completions {
        /// The shell
        shell: Shell,
    },
    /// A command that acts on a running node
    #[command(flatten)]
    Client(ClientCommand),
}

/// The options of `tidelock run`. Each goes before what the config file says.
#[derive(Args, Clone, Debug, Default)]
pub struct RunArgs {
    /// The directory of the node's key and data [default: ./tidelock-data]
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// A name for the node, shown in its status
    #[arg(long)]
    pub name: Option<String>,
    /// The cluster: nodes sync with nodes of the same cluster only [default: local]
    #[arg(long, value_name = "NAME")]
    pub cluster: Option<String>,
    /// Where peers can connect; may be repeated [default: /ip4/127.0.0.1/tcp/7400 and /ip4/127.0.0.1/udp/7400/quic-v1]
    #[arg(long, value_name = "MULTIADDR")]
    pub listen: Vec<String>,
    /// A peer to stay connected with; may be repeated
    #[arg(long, value_name = "MULTIADDR")]
    pub peer: Vec<String>,
    /// Admit this peer and no other that is not allowed too; may be repeated
    #[arg(long, value_name = "PEERID")]
    pub allow: Vec<PeerId>,
    /// Make the group of anchors that agree on strong keyspaces, with this node as the first; one node of a cluster, once
    #[arg(long)]
    pub found: bool,
    /// How many anchors there are to be, an odd number; 0 if this node never wants to be one [default: 3]
    #[arg(long, value_name = "NUMBER")]
    pub anchors: Option<usize>,
    /// Where Redis clients can connect, or `off` [default: 127.0.0.1:6380]
    #[arg(long, value_name = "ADDR")]
    pub redis: Option<PortArg>,
    /// Where HTTP clients can connect, or `off` [default: 127.0.0.1:8380]
    #[arg(long, value_name = "ADDR")]
    pub http: Option<PortArg>,
    /// The keyspaces to replicate [default: all]
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
    /// Answer in JSON
    #[arg(long)]
    pub json: bool,
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
    /// Answer in JSON
    #[arg(long)]
    pub json: bool,
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
    /// Answer in JSON
    #[arg(long)]
    pub json: bool,
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

/// What can be done with snapshots of strong keyspaces, and with backups.
#[derive(Clone, Debug, Subcommand)]
pub enum SnapshotCommand {
    /// Write what strong keyspaces hold at one moment to a new file; an anchor does
    Save {
        /// The file
        file: PathBuf,
        /// The keyspaces; all strong ones if none is given
        #[arg(value_name = "KEYSPACE")]
        keyspaces: Vec<KeyspaceName>,
        /// Which node
        #[command(flatten)]
        node: NodeArgs,
    },
    /// Make keyspaces of a new cluster what those of a snapshot were
    Restore {
        /// The snapshot
        file: PathBuf,
        /// Which node: one of another cluster than the one that the snapshot is of
        #[command(flatten)]
        node: NodeArgs,
    },
    /// List the backups of a directory: replica, position, date, size, and whether they are sound
    Ls {
        /// The directory
        dir: PathBuf,
        /// Answer in JSON
        #[arg(long)]
        json: bool,
    },
}
