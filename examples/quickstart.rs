//! Two nodes in one process: each is written while they cannot talk, then they meet and agree.

use std::time::{Duration, Instant};

use tidelock::{Node, NodeConfig};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let alice = Node::open(local(folder.path().join("alice"))).await?;
    let bob = Node::open(local(folder.path().join("bob"))).await?;
    let (of_alice, of_bob) = (alice.keyspace("shop")?, bob.keyspace("shop")?);

    of_alice.counter("visits").add(2).await?;
    of_bob.counter("visits").add(3).await?;
    of_alice.set("cart").add("apples").await?;
    of_bob.set("cart").add("pears").await?;

    alice.connect(&bob.listen_addresses()[0]);
    let started = Instant::now();
    while of_alice.fingerprint() != of_bob.fingerprint() {
        if started.elapsed() > Duration::from_secs(30) {
            return Err("the nodes did not meet".into());
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }

    for (name, keyspace) in [("alice", &of_alice), ("bob", &of_bob)] {
        let visits = keyspace.counter("visits").get()?;
        let cart = keyspace.set("cart").members()?;
        let cart: Vec<_> = cart.iter().map(|item| String::from_utf8_lossy(item)).collect();
        println!("{name}: {visits} visits, cart {cart:?}");
        assert_eq!((visits, cart.len()), (5, 2));
    }
    alice.shutdown().await;
    bob.shutdown().await;
    Ok(())
}

/// A node that listens on a free port of this machine.
fn local(data: std::path::PathBuf) -> NodeConfig {
    NodeConfig { listen: vec!["/ip4/127.0.0.1/tcp/0".to_owned()], ..NodeConfig::at(data) }
}
