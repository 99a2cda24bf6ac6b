//! A real `tidelock run`, driven through its Redis port, which always ends with its test.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use super::client::Client;
use super::guard;

/// How long anything may take before a test fails.
pub(crate) const DEADLINE: Duration = Duration::from_mins(1);

/// How a node is started.
#[derive(Clone, Debug, Default)]
pub(crate) struct Options {
    /// Addresses to listen on; a free loopback port when there are none.
    pub(crate) listen: Vec<String>,
    /// Peers to dial.
    pub(crate) peers: Vec<String>,
    /// Where Redis clients can connect; at a free loopback port if it is not said.
    pub(crate) redis: Option<String>,
    /// Further arguments.
    pub(crate) arguments: Vec<String>,
    /// The file that what it logs is appended to, from warnings up; the test's own stderr if there is none.
    pub(crate) log: Option<PathBuf>,
}

/// A node in a process of its own.
#[derive(Debug)]
pub(crate) struct Node {
    program: PathBuf,
    data: PathBuf,
    options: Options,
    child: Child,
    redis: String,
    http: String,
    listen: Vec<String>,
    peer: String,
    client: Option<Client>,
}

impl Node {
    /// Starts `program` on a data directory and waits for its ready line.
    pub(crate) fn start(program: &str, data: &Path, options: Options) -> Self {
        let Started { child, listen, redis, http, peer } = spawn(Path::new(program), data, &options);
        let (program, data) = (PathBuf::from(program), data.to_owned());
        Self { program, data, options, child, redis, http, listen, peer, client: None }
    }

    /// Where peers can connect.
    pub(crate) fn listen(&self) -> &[String] {
        &self.listen
    }

    /// Who it is to its peers.
    pub(crate) fn peer(&self) -> &str {
        &self.peer
    }

    /// Where Redis clients can connect.
    pub(crate) fn redis(&self) -> &str {
        &self.redis
    }

    /// Where HTTP clients can connect.
    pub(crate) fn http(&self) -> &str {
        &self.http
    }

    /// The process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal by its name, such as `STOP`.
    pub(crate) fn signal(&self, name: &str) {
        let pid = self.pid().to_string();
        Command::new("kill").args(["-s", name, &pid]).status().expect("kill is there");
    }

    /// Ends the process as a power cut would, in mid-write or not, and starts it again on what is on disk.
    pub(crate) fn kill_and_restart(&mut self) {
        self.kill();
        self.restart();
    }

    /// The same, on the port that its Redis clients know.
    pub(crate) fn kill_and_restart_for_clients(&mut self) {
        self.options.redis = Some(self.redis.clone());
        self.kill_and_restart();
    }

    /// Ends the process with SIGKILL.
    pub(crate) fn kill(&mut self) {
        self.client = None;
        self.child.kill().expect("the process runs");
        self.child.wait().expect("the process ends");
        guard::release(self.pid());
    }

    /// Starts the process again after it ended; on the same peer port, so that others find it.
    pub(crate) fn restart(&mut self) {
        if self.options.listen.is_empty() {
            self.options.listen.clone_from(&self.listen);
        }
        let started = spawn(&self.program, &self.data, &self.options);
        (self.child, self.listen) = (started.child, started.listen);
        (self.redis, self.http) = (started.redis, started.http);
    }

    /// Ends the process with SIGTERM; answers its status.
    pub(crate) fn terminate(&mut self) -> Option<i32> {
        self.client = None;
        self.signal("TERM");
        let status = wait(&mut self.child);
        guard::release(self.pid());
        status.code()
    }

    /// Sends one command and answers the reply, as text.
    pub(crate) fn command(&mut self, arguments: &[&str]) -> String {
        let redis = &self.redis;
        let client = self.client.get_or_insert_with(|| Client::connect(redis));
        client.command(arguments).expect("the node answers")
    }

    /// The fingerprint of a keyspace.
    pub(crate) fn fingerprint(&mut self, keyspace: &str) -> String {
        self.command(&["TIDE.FINGERPRINT", keyspace])
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // It may have ended before.
        let _ = self.child.kill();
        let _ = self.child.wait();
        guard::release(self.pid());
    }
}

/// Runs a program to its end, which must come in time.
pub(crate) fn run(program: &str, arguments: &[&str]) -> Output {
    output(Command::new(program).args(arguments).stdin(Stdio::null()))
}

/// The same, of a program with what it reads and what its environment says.
pub(crate) fn output(command: &mut Command) -> Output {
    let mut child =
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program starts");
    // Both pipes are read while the program runs: a full one would stop it.
    let stdout = read_all(child.stdout.take().expect("it is piped"));
    let stderr = read_all(child.stderr.take().expect("it is piped"));
    let status = wait(&mut child);
    let stdout = stdout.join().expect("it can be read");
    let stderr = stderr.join().expect("it can be read");
    Output { status, stdout, stderr }
}

fn read_all(mut pipe: impl Read + Send + 'static) -> std::thread::JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        pipe.read_to_end(&mut bytes).expect("a pipe can be read");
        bytes
    })
}

/// Waits until something holds; panics with `what` if it does not in time.
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(started.elapsed() < DEADLINE, "not within {DEADLINE:?}: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A process that is ready, and where it can be reached.
struct Started {
    child: Child,
    listen: Vec<String>,
    redis: String,
    http: String,
    peer: String,
}

fn spawn(program: &Path, data: &Path, options: &Options) -> Started {
    let mut command = Command::new(program);
    let redis = options.redis.as_deref().unwrap_or("127.0.0.1:0");
    command.arg("run").arg("--data").arg(data).args(["--redis", redis, "--http", "127.0.0.1:0"]);
    let free = ["/ip4/127.0.0.1/tcp/0".to_owned()];
    let listen = if options.listen.is_empty() { &free[..] } else { &options.listen };
    for address in listen {
        command.args(["--listen", address]);
    }
    for address in &options.peers {
        command.args(["--peer", address]);
    }
    if let Some(path) = &options.log {
        let log = File::options().create(true).append(true).open(path).expect("a folder that can be written");
        command.env("TIDELOCK_LOG", "warn").stderr(log);
    }
    let mut child = command
        .args(&options.arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the program starts");
    guard::watch(child.id());
    let mut line = String::new();
    let stdout = child.stdout.take().expect("it is piped");
    BufReader::new(stdout).read_line(&mut line).expect("a ready line");
    let field = |name: &str| {
        let fields = line.split_whitespace();
        let mut values = fields.filter_map(|field| field.strip_prefix(name)?.strip_prefix('='));
        values.next().unwrap_or_else(|| panic!("no {name} in {line:?}")).to_owned()
    };
    assert!(line.starts_with("ready peer="), "{line:?}");
    let listen = field("listen").split(',').map(str::to_owned).collect();
    Started { child, listen, redis: field("redis"), http: field("http"), peer: field("peer") }
}

fn wait(child: &mut Child) -> std::process::ExitStatus {
    let started = Instant::now();
    loop {
        if let Some(status) = child.try_wait().expect("it is our child") {
            return status;
        }
        if started.elapsed() > DEADLINE {
            let _ = child.kill();
            panic!("the process did not end within {DEADLINE:?}");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}
