//! A shop with two tills that often have no network: stock is a counter, so no sale is ever lost.
//!
//! Each till sells on its own; a delivery is booked as one batch, so nobody sees half of it. When the tills meet
//! again, the stock is what was delivered less all that was sold, and every till knows which items are on offer.

use std::time::{Duration, Instant};

use tidelock::{Batch, Keyspace, Node, NodeConfig};

/// An item and how many of it are in a delivery.
const DELIVERY: [(&str, i64); 3] = [("apples", 40), ("bread", 12), ("cheese", 7)];

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let office = open("office", folder.path(), Vec::new()).await?;
    let door = office.listen_addresses();
    let tills =
        [open("till-1", folder.path(), door.clone()).await?, open("till-2", folder.path(), door).await?];
    let nodes = [&office, &tills[0], &tills[1]];
    let stock: Vec<Keyspace> = nodes.iter().map(|node| node.keyspace("stock")).collect::<Result<_, _>>()?;

    // The office books a delivery. Every till sees all of it or nothing.
    let delivery = DELIVERY
        .iter()
        .fold(Batch::new(), |batch, (item, count)| batch.increment(item, *count).add("on-offer", item));
    stock[0].batch(delivery).await?;
    meet(&stock).await?;

    // The network fails. Both tills go on selling, the second one even ends an offer.
    tills.iter().for_each(|till| till.set_online(false));
    for _ in 0..5 {
        stock[1].counter("apples").add(-3).await?;
        stock[2].counter("apples").add(-2).await?;
    }
    stock[2].counter("cheese").add(-7).await?;
    stock[2].set("on-offer").remove("cheese").await?;
    println!("without a network: till-1 counts {} apples", stock[1].counter("apples").get()?);
    println!("                   till-2 counts {} apples", stock[2].counter("apples").get()?);

    tills.iter().for_each(|till| till.set_online(true));
    meet(&stock).await?;
    for (node, stock) in nodes.iter().zip(&stock) {
        let offer = stock.set("on-offer").members()?;
        let offer: Vec<_> = offer.iter().map(|item| String::from_utf8_lossy(item)).collect();
        let apples = stock.counter("apples").get()?;
        let name = node.config().name.as_deref().unwrap_or_default();
        println!("together again:    {name} counts {apples} apples, on offer: {}", offer.join(", "));
        assert_eq!((apples, offer.len()), (40 - 15 - 10, 2));
    }
    for node in nodes {
        node.shutdown().await;
    }
    Ok(())
}

async fn open(
    name: &str,
    folder: &std::path::Path,
    peers: Vec<String>,
) -> Result<Node, Box<dyn std::error::Error>> {
    let listen = vec!["/ip4/127.0.0.1/tcp/0".to_owned()];
    let config =
        NodeConfig { name: Some(name.to_owned()), listen, peers, ..NodeConfig::at(folder.join(name)) };
    Ok(Node::open(config).await?)
}

/// Waits until all hold the same.
async fn meet(keyspaces: &[Keyspace]) -> Result<(), Box<dyn std::error::Error>> {
    let started = Instant::now();
    while keyspaces.iter().any(|keyspace| keyspace.fingerprint() != keyspaces[0].fingerprint()) {
        if started.elapsed() > Duration::from_secs(30) {
            return Err("the nodes did not meet".into());
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(())
}
