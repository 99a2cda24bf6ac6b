//! The program `tidelock`: what its command line asks for is done here, and ends with the right status.
//!
//! Status 0 is success, 1 an error that was printed on stderr, 2 wrong usage.

use std::ffi::OsString;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use clap::Parser;
use tracing_subscriber::EnvFilter;

use crate::cli::{Cli, Command, DemoArgs, KeyspacesArg, PortArg, RunArgs, SnapshotCommand};
use crate::config::NodeConfig;
use crate::daemon::Ports;
use crate::{cli, daemon, demo};

mod folders;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Runs the program with the arguments of the process.
pub fn main() -> ExitCode {
    run_with(std::env::args_os())
}

fn run_with(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let command = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli.command,
        Err(error) => {
            // Help and version are no errors, and clap knows the difference.
            let status = u8::try_from(error.exit_code()).unwrap_or(2);
            let _ = error.print();
            return ExitCode::from(status);
        }
    };
    silence_guarded_panics();
    match execute(command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tidelock: {error}");
            ExitCode::FAILURE
        }
    }
}

fn execute(command: Command) -> Result<()> {
    match command {
        Command::Run(args) => run(args),
        Command::Id(args) => folders::id(&args),
        Command::Demo(DemoArgs { peers }) => run_demo(usize::from(peers)),
        Command::Check(args) => folders::check(&args),
        Command::Compact(args) => Ok(cli::compact(&args)?),
        Command::Restore(args) => folders::restore(&args),
        Command::Snapshot(SnapshotCommand::Ls { dir, json }) => folders::list_backups(&dir, json),
        Command::Snapshot(command) => Ok(cli::snapshot(&command)?),
        Command::Completions { shell } => Ok(cli::completions(shell, &mut io::stdout().lock())?),
        Command::Client(command) => Ok(cli::execute(&command)?),
    }
}

fn run(args: RunArgs) -> Result<()> {
    // gossipsub logs whole messages when a peer is slow; what it drops is counted. openraft logs every heartbeat that an
    // anchor did not answer; the status says which anchors do not.
    log_to_stderr("info,libp2p_swarm=warn,libp2p_gossipsub=off");
    let (config, ports) = merge(args)?;
    runtime()?.block_on(daemon::run(config, ports)).map_err(Into::into)
}

/// What the command line says goes before what the file says, and that before the defaults.
fn merge(args: RunArgs) -> Result<(NodeConfig, Ports)> {
    let mut config = match &args.config {
        Some(path) => {
            let text =
                std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
            NodeConfig::from_toml(&text).map_err(|error| format!("{}: {error}", path.display()))?
        }
        None => NodeConfig::default(),
    };
    if let Some(data) = args.data {
        config.data = data;
    }
    config.name = args.name.or(config.name);
    if let Some(cluster) = args.cluster {
        config.cluster = cluster;
    }
    match &args.listen[..] {
        [] => {}
        [off] if off == "off" => config.listen.clear(),
        listen => config.listen = listen.to_vec(),
    }
    config.peers.extend(args.peer);
    config.allow.extend(args.allow.iter().map(ToString::to_string));
    config.found |= args.found;
    config.anchors_target = args.anchors.unwrap_or(config.anchors_target);
    match args.keyspaces {
        Some(KeyspacesArg::All) => config.keyspaces.clear(),
        Some(KeyspacesArg::Named(names)) => config.keyspaces = names,
        None => {}
    }
    let ports =
        Ports { is_redis: args.redis != Some(PortArg::Off), is_http: args.http != Some(PortArg::Off) };
    if let Some(PortArg::At(address)) = args.redis {
        config.redis.address = address;
    }
    if let Some(PortArg::At(address)) = args.http {
        config.http.address = address;
    }
    Ok((config, ports))
}

fn run_demo(peers: usize) -> Result<()> {
    log_to_stderr("off");
    let mut stdout = io::stdout();
    let mut print = |text: &str| {
        // Whoever closed the pipe does not want to see the rest.
        let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
    };
    let is_coloured = io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    runtime()?.block_on(demo::run(peers, is_coloured, &mut print)).map_err(Into::into)
}

/// Half of the cores serve clients and peers; the others are for the turns and for writing rows. More workers
/// than that make each request wake a thread on another core, which costs more than it brings.
fn runtime() -> io::Result<tokio::runtime::Runtime> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let workers = (cores / 2).max(1);
    tokio::runtime::Builder::new_multi_thread().worker_threads(workers).enable_all().build()
}

/// A damaged file can make redb panic; the store makes an error of it that says more than a backtrace.
fn silence_guarded_panics() {
    let default = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if !tidelock_store::is_guarded() {
            default(panic);
        }
    }));
}

/// What openraft logs by itself is for those who look into it: that a group has stopped, on a full disk say, and why, the
/// engine tells in one line, where openraft has one for each of its tasks.
const QUIET: &str = "openraft=off";

/// Logs go to stderr; what of them, `TIDELOCK_LOG` says, and `default` if it does not.
fn log_to_stderr(default: &str) {
    let default = || EnvFilter::new(format!("{default},{QUIET}"));
    let filter = EnvFilter::try_from_env("TIDELOCK_LOG").unwrap_or_else(|_| default());
    let is_coloured = io::stderr().is_terminal();
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).with_ansi(is_coloured).init();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run_args(arguments: &[&str]) -> RunArgs {
        let arguments = ["tidelock", "run"].iter().chain(arguments);
        match Cli::try_parse_from(arguments).expect("valid arguments").command {
            Command::Run(args) => args,
            other => unreachable!("{other:?}"),
        }
    }

    #[test]
    fn command_line_goes_before_file_and_file_before_default() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("tidelock.toml");
        std::fs::write(
            &path,
            "cluster = \"of the file\"\nname = \"file\"\npeers = [\"/ip4/127.0.0.1/tcp/1\"]",
        )
        .expect("it is ours");
        let path = path.to_str().expect("a plain name");
        let arguments =
            ["--config", path, "--cluster", "here", "--peer", "/ip4/127.0.0.1/tcp/2", "--listen", "off"];
        let (config, ports) = merge(run_args(&arguments)).expect("a valid file");
        assert_eq!((config.cluster.as_str(), config.name.as_deref()), ("here", Some("file")));
        assert_eq!(config.peers, ["/ip4/127.0.0.1/tcp/1", "/ip4/127.0.0.1/tcp/2"]);
        assert!(config.listen.is_empty() && ports.is_redis && ports.is_http);
        assert_eq!(config.data, NodeConfig::default().data);
    }

    #[test]
    fn ports_can_be_off() {
        let (_, ports) = merge(run_args(&["--redis", "off"])).expect("valid");
        assert!(!ports.is_redis && ports.is_http);
        let (_, ports) = merge(run_args(&["--http", "off"])).expect("valid");
        assert!(ports.is_redis && !ports.is_http);
    }

    #[test]
    fn config_that_is_not_there_is_named() {
        let error = merge(run_args(&["--config", "/nowhere/tidelock.toml"])).expect_err("no such file");
        assert!(error.to_string().contains("/nowhere/tidelock.toml"), "{error}");
    }
}
