//! A closed loop of clients against three nodes of etcd or of tidelock: puts or linearizable gets of 64 bytes under
//! keys of 16, each client with one request open.
//!
//! Prints `rate p50_ms p99_ms operations failed`. `benches/etcd.sh` runs it against both in turn and counts CPU and
//! bytes on disk of the nodes.

use std::time::{Duration, Instant};

use clap::{Parser, ValueEnum};
use etcd_client::Client;
use hdrhistogram::Histogram;
use redis::{Cmd, Value};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// The connections to etcd, spread over its nodes: gRPC carries many requests in each. Redis clients have one each.
const ETCD_CONNECTIONS: usize = 8;

/// The bytes of a value.
const VALUE_BYTES: usize = 64;

/// No reply is longer.
const REPLY_BYTES_MAX: usize = 4_096;

/// How long a client waits after a refusal: while a leader is elected there are many.
const AFTER_REFUSAL: Duration = Duration::from_millis(5);

type Failure = Box<dyn std::error::Error + Send + Sync>;

#[derive(Clone, Copy, Debug, ValueEnum)]
enum System {
    Etcd,
    Tidelock,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Work {
    Put,
    Get,
}

#[derive(Debug, Parser)]
struct Options {
    system: System,
    work: Work,
    /// HOST:PORT of the nodes.
    #[arg(long, value_delimiter = ',', required = true)]
    nodes: Vec<String>,
    #[arg(long, default_value_t = 64)]
    clients: usize,
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// The keys that are written and read.
    #[arg(long, default_value_t = 10_000)]
    keys: u64,
    /// The database of tidelock's port in which the strong keyspace is.
    #[arg(long, default_value_t = 0)]
    database: i64,
}

/// One client.
enum Connection {
    Etcd(Box<Client>),
    Tidelock(RedisClient),
}

/// A Redis client with one request open at a time. The load shares the cores with what it measures, so there is no task
/// between it and its socket.
struct RedisClient {
    stream: TcpStream,
    received: Vec<u8>,
}

impl RedisClient {
    async fn connect(node: &str, database: i64) -> Result<Self, Failure> {
        let stream = TcpStream::connect(node).await?;
        stream.set_nodelay(true)?;
        let mut client = Self { stream, received: Vec::with_capacity(4_096) };
        client.ask(redis::cmd("SELECT").arg(database)).await?;
        Ok(client)
    }

    async fn ask(&mut self, command: &Cmd) -> Result<Value, Failure> {
        self.stream.write_all(&command.get_packed_command()).await?;
        self.received.clear();
        loop {
            if self.stream.read_buf(&mut self.received).await? == 0 {
                return Err("the node closed the connection".into());
            }
            match redis::parse_redis_value(&self.received) {
                Ok(reply) => return Ok(reply.extract_error()?),
                Err(error) if self.received.len() > REPLY_BYTES_MAX => return Err(error.into()),
                Err(_) => {} // The rest comes.
            }
        }
    }
}

impl Connection {
    async fn ask(&mut self, work: Work, key: &str, value: &[u8]) -> Result<(), Failure> {
        match (self, work) {
            (Self::Etcd(client), Work::Put) => drop(client.put(key, value, None).await?),
            (Self::Etcd(client), Work::Get) => drop(client.get(key, None).await?),
            (Self::Tidelock(connection), Work::Put) => {
                connection.ask(redis::cmd("SET").arg(key).arg(value)).await?;
            }
            (Self::Tidelock(connection), Work::Get) => {
                connection.ask(redis::cmd("GET").arg(key)).await?;
            }
        }
        Ok(())
    }
}

async fn connect(options: &Options) -> Result<Vec<Connection>, Failure> {
    let nodes = options.nodes.iter().cycle();
    let mut connections = Vec::new();
    match options.system {
        System::Etcd => {
            let mut clients = Vec::new();
            for node in nodes.take(ETCD_CONNECTIONS.min(options.clients)) {
                clients.push(Client::connect([format!("http://{node}")], None).await?);
            }
            connections.extend(
                clients.iter().cycle().take(options.clients).cloned().map(Box::new).map(Connection::Etcd),
            );
        }
        System::Tidelock => {
            for node in nodes.take(options.clients) {
                connections.push(Connection::Tidelock(RedisClient::connect(node, options.database).await?));
            }
        }
    }
    Ok(connections)
}

/// What one client saw: latencies in microseconds, and how many requests failed.
struct Seen {
    latencies: Histogram<u64>,
    failed: u64,
}

async fn run(
    mut connection: Connection,
    work: Work,
    keys: u64,
    client: u64,
    until: Instant,
) -> Result<Seen, Failure> {
    let mut seen = Seen { latencies: Histogram::new(3)?, failed: 0 };
    let value = [b'v'; VALUE_BYTES];
    // Each client goes through the keys in an order of its own.
    let mut next = client.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    while Instant::now() < until {
        next = next.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let key = format!("key{:013}", (next >> 33) % keys);
        let began = Instant::now();
        match connection.ask(work, &key, &value).await {
            Ok(()) => seen.latencies.record(u64::try_from(began.elapsed().as_micros())?)?,
            Err(error) => {
                if seen.failed == 0 {
                    eprintln!("client {client}: {error}");
                }
                seen.failed += 1;
                tokio::time::sleep(AFTER_REFUSAL).await;
            }
        }
    }
    Ok(seen)
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let options = Options::parse();
    let connections = connect(&options).await?;
    let began = Instant::now();
    let until = began + Duration::from_secs(options.seconds);
    let clients = (0..)
        .zip(connections)
        .map(|(client, connection)| tokio::spawn(run(connection, options.work, options.keys, client, until)));
    let clients: Vec<_> = clients.collect();
    let mut all = Seen { latencies: Histogram::new(3)?, failed: 0 };
    for client in clients {
        let seen = client.await??;
        all.latencies.add(seen.latencies)?;
        all.failed += seen.failed;
    }
    let ms = |quantile| all.latencies.value_at_quantile(quantile) as f64 / 1e3;
    let rate = all.latencies.len() as f64 / began.elapsed().as_secs_f64();
    println!("{rate:.0} {:.2} {:.2} {} {}", ms(0.5), ms(0.99), all.latencies.len(), all.failed);
    Ok(())
}
