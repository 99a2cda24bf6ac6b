//! What an operation costs on the wire in steady gossip, against the user's own bytes.
//!
//! Two connected nodes; one writes batches of 100 SETs (a key of 16 bytes, a value of 64), each a turn. All
//! messages of both are counted, those that time brings (heads, summaries) as well, at ten batches a second.
//! The encryption and the framing of the transport are not: they are 3 to 40 bytes a message.

mod measure;

use measure::figures::{Figure, Target, print};
use measure::number;
use measure::pair::{Pair, mem_store};
use measure::work::{BATCH, CONTENT_BYTES, sets};
use tidelock_engine::mem_store::MemStore;

const BATCHES: usize = 100;

/// The virtual time between two batches, in milliseconds.
const PAUSE_MS: u64 = 100;

fn main() {
    let mut pair = Pair::new([mem_store(1), mem_store(2)]);
    pair.connect();
    pair.write(0, sets(0..1, 0));
    pair.exchange();
    pair.take_traffic();
    let fresh = ratio(&mut pair, "fresh keys", 0, 1);
    let own = ratio(&mut pair, "over values of its own", 0, 2);
    let foreign = ratio(&mut pair, "over values of the other", 1, 3);
    pair.assert_equal();
    let (gate, goal) = (Target::AtMost(1.15), Target::AtMost(1.1));
    let figure = |what, value| Figure { what, value, unit: "x the bytes of key and value", gate, goal };
    print(&[
        figure("gossip of SETs of fresh keys, batches of 100", fresh),
        figure("gossip of SETs over the author's values", own),
        figure("gossip of SETs over another's values", foreign),
    ]);
}

/// The node writes every key once.
fn ratio(pair: &mut Pair<MemStore>, what: &str, node: usize, salt: usize) -> f64 {
    for batch in 0..BATCHES {
        pair.write(node, sets(batch * BATCH..(batch + 1) * BATCH, salt));
        pair.exchange();
        pair.pass(PAUSE_MS);
    }
    let traffic = pair.take_traffic();
    let each = number(traffic.bytes()) / number(BATCHES * BATCH);
    println!("{what}: {each:.1} B per operation of {CONTENT_BYTES} B; {}", traffic.summary());
    each / number(CONTENT_BYTES)
}
