//! A ticket shop that sells each seat once: the seats are a strong keyspace, so who is told that a seat is theirs is the
//! only one who is.
//!
//! Everybody asks for the same seats at the same time. A seat is taken by writing a name where nothing was; the money is
//! booked in the same step, or not at all. The one node here is the only anchor; with three of them the same program
//! goes on when one is lost.

use tidelock::keyspace::{Expected, StrongError};
use tidelock::{Batch, Node, NodeConfig, Strong};

/// Who wants seats.
const CUSTOMERS: [&str; 3] = ["anna", "ben", "clara"];

/// The seats that there are.
const SEATS: u32 = 5;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let config = NodeConfig { listen: Vec::new(), found: true, ..NodeConfig::at(folder.path()) };
    let node = Node::open(config).await?;
    node.make_strong("seats").await?;
    let seats = node.keyspace("seats")?.strong();

    let buying = CUSTOMERS.map(|customer| tokio::spawn(buy(seats.clone(), customer)));
    let mut sold = 0;
    for (customer, buying) in CUSTOMERS.iter().zip(buying) {
        let bought = buying.await??;
        println!("{customer} has {bought:?}");
        sold += bought.len();
    }
    let booked = seats.get("sold").await?.unwrap_or_default();
    println!("{sold} seats sold, {} booked", String::from_utf8_lossy(&booked));
    assert_eq!((sold.to_string(), booked), (SEATS.to_string(), SEATS.to_string().into_bytes()));
    node.shutdown().await;
    Ok(())
}

/// Takes every seat that nobody else has; answers which.
async fn buy(seats: Strong, customer: &str) -> Result<Vec<u32>, StrongError> {
    let mut bought = Vec::new();
    for seat in 1..=SEATS {
        let key = format!("seat-{seat}");
        let batch = Batch::new().set(&key, customer).increment("sold", 1);
        if seats.batch_if([(key, Expected::Missing)], batch).await?.is_some() {
            bought.push(seat);
        }
    }
    Ok(bought)
}
