//! Gossip between real nodes on loopback: who hears what, how often, in which order; and after every kind of end of a
//! connection again.

use std::time::Duration;

use tidelock_engine::ports::{Target, Transport};
use tidelock_transport::{Config, GOSSIP_BYTES_MAX, GossipError};

use crate::world;
use crate::world::gossiping::{RudeMember, TOPIC, dropped, gossip, gossiping, hear, introduce, sealed};
use crate::world::{BOTH, Node, Via, config, until};

fn numbered(count: u32) -> impl Iterator<Item = Vec<u8>> {
    (0..count).map(|n| n.to_be_bytes().to_vec())
}

async fn connected(configs: Vec<Config>, links: &[(usize, usize)]) -> Vec<Node> {
    let mut nodes = Vec::new();
    for config in configs {
        nodes.push(Node::start(config).await);
    }
    for (from, to) in links {
        let target = nodes[*to].target();
        nodes[*from].transport.connect(target);
    }
    nodes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_message_is_heard_once_and_in_order_by_all() {
    for via in BOTH {
        let configs = (1..=3).map(|n| gossiping(n, via)).collect();
        let nodes = connected(configs, &[(0, 1), (0, 2), (1, 2)]).await;
        introduce(&nodes[0], &[&nodes[1], &nodes[2]]).await;
        for message in numbered(3_000) {
            gossip(&nodes[0]).publish(message).expect("there is room");
            tokio::task::yield_now().await;
        }
        for node in &nodes[1..] {
            assert!(hear(node, 3_000).await.into_iter().eq(numbered(3_000)));
        }
        assert!(gossip(&nodes[0]).figures().envelopes_sent < 3_000, "messages share envelopes");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn equal_messages_all_arrive_and_know_their_author() {
    let nodes = connected(vec![gossiping(1, Via::Tcp), gossiping(2, Via::Tcp)], &[(0, 1)]).await;
    introduce(&nodes[0], &[&nodes[1]]).await;
    for _ in 0..5 {
        gossip(&nodes[0]).publish(b"same".to_vec()).expect("there is room");
        tokio::time::sleep(Duration::from_millis(8)).await; // envelopes of their own
    }
    let mut heard = Vec::new();
    while heard.len() < 5 {
        heard.extend(gossip(&nodes[1]).heard().await.expect("it runs"));
    }
    assert!(heard.iter().all(|heard| heard.author == nodes[0].peer && heard.message == b"same"), "{heard:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_are_passed_on_along_a_line() {
    let configs = (1..=4).map(|n| gossiping(n, Via::Tcp)).collect();
    let nodes = connected(configs, &[(0, 1), (1, 2), (2, 3)]).await;
    introduce(&nodes[0], &[&nodes[1], &nodes[2], &nodes[3]]).await;
    numbered(500).for_each(|message| gossip(&nodes[0]).publish(message).expect("there is room"));
    for node in &nodes[1..] {
        assert!(hear(node, 500).await.into_iter().eq(numbered(500)));
    }
}

/// gossipsub gives up on a connection after five streams, and answers a peer once; here are twelve starts.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_flow_again_after_every_restart_both_ways() {
    let mut first = Node::start(gossiping(1, Via::Tcp)).await;
    let mut config = gossiping(2, Via::Tcp);
    let mut second = Node::start(config.clone()).await;
    config.listen = vec![second.address()];
    first.transport.connect(second.target());
    for _ in 0..12 {
        introduce(&first, &[&second]).await;
        introduce(&second, &[&first]).await;
        // It goes without a goodbye, as a process that is killed.
        drop(second);
        second = Node::start_again(config.clone()).await;
    }
    introduce(&first, &[&second]).await;
    while first.try_event().is_some() {}
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_flow_after_every_airplane_mode_and_crossing_dials() {
    let nodes = connected(vec![gossiping(1, Via::Tcp), gossiping(2, Via::Tcp)], &[(0, 1), (1, 0)]).await;
    for round in 0..12 {
        introduce(&nodes[0], &[&nodes[1]]).await;
        introduce(&nodes[1], &[&nodes[0]]).await;
        let quits = &nodes[round % 2].transport;
        quits.set_online(false);
        until("the peers are apart", || nodes.iter().all(|node| node.transport.peers().is_empty())).await;
        quits.set_online(true);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn topics_and_nodes_without_gossip_do_not_hear_each_other() {
    let other = Config { gossip: Some("other".to_owned()), ..config(3, Via::Tcp) };
    let nodes = connected(
        vec![gossiping(1, Via::Tcp), gossiping(2, Via::Tcp), other, config(4, Via::Tcp)],
        &[(0, 1), (0, 2), (0, 3)],
    )
    .await;
    until("all are connected", || nodes[0].transport.peers().len() == 3).await;
    introduce(&nodes[0], &[&nodes[1]]).await;
    assert_eq!(gossip(&nodes[2]).figures().envelopes_heard, 0);
    assert!(nodes[3].transport.gossip().is_none());
}

#[tokio::test]
async fn message_without_a_peer_or_beyond_the_bound_is_counted_or_refused() {
    let node = Node::start(gossiping(1, Via::Tcp)).await;
    gossip(&node).publish(b"nobody".to_vec()).expect("there is room");
    until("it is dropped", || dropped(&node, "alone") == 1).await;
    let bytes = GOSSIP_BYTES_MAX + 1;
    assert_eq!(gossip(&node).publish(vec![0; bytes]), Err(GossipError::TooLarge { bytes }));
    node.transport.shutdown().await;
    assert_eq!(gossip(&node).heard().await, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_longest_message_passes() {
    let nodes = connected(vec![gossiping(1, Via::Tcp), gossiping(2, Via::Tcp)], &[(0, 1)]).await;
    introduce(&nodes[0], &[&nodes[1]]).await;
    gossip(&nodes[0]).publish(vec![7; GOSSIP_BYTES_MAX]).expect("it is within the bound");
    assert_eq!(hear(&nodes[1], 1).await, [vec![7; GOSSIP_BYTES_MAX]]);
}

/// A member that sends garbage is no longer listened to; its connection stays, and others are heard.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn member_that_sends_garbage_is_shut_out_and_drowns_nobody() {
    let nodes = connected(vec![gossiping(1, Via::Tcp), gossiping(2, Via::Tcp)], &[(0, 1)]).await;
    introduce(&nodes[0], &[&nodes[1]]).await;
    let mut rude = RudeMember::dial(9, &nodes[1].address(), TOPIC).await;
    for n in 0..5_000_u32 {
        let mut bytes = n.to_be_bytes().to_vec();
        bytes.resize(500, 7);
        rude.publish(bytes);
    }
    rude.until("it is shut out", || dropped(&nodes[1], "malformed") >= 16).await;
    numbered(100).for_each(|message| gossip(&nodes[0]).publish(message).expect("there is room"));
    assert!(hear(&nodes[1], 100).await.into_iter().eq(numbered(100)));
    assert!(dropped(&nodes[1], "malformed") < 200, "no more of it was looked at");
    until("its connection stays", || nodes[1].transport.peers().len() == 2).await;
}

/// A member that is not on the list of a node is not heard by it, whoever passes its messages on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn author_that_would_not_be_let_in_is_not_heard() {
    let peer = |n| world::key(n).peer();
    let mut strict = gossiping(1, Via::Tcp);
    strict.allow = Some([peer(2)].into());
    let nodes =
        connected(vec![strict, gossiping(2, Via::Tcp), gossiping(3, Via::Tcp)], &[(1, 0), (1, 2)]).await;
    introduce(&nodes[1], &[&nodes[0], &nodes[2]]).await;
    until("a stranger's message was dropped", || {
        gossip(&nodes[2]).publish(b"strange".to_vec()).expect("there is room");
        dropped(&nodes[0], "stranger") > 0
    })
    .await;
    gossip(&nodes[1]).publish(b"known".to_vec()).expect("there is room");
    assert_eq!(hear(&nodes[0], 1).await, [b"known".to_vec()]);
}

/// While one member publishes all it can, every frame of the lanes arrives in order and another member is heard.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn flood_holds_up_neither_lanes_nor_other_members() {
    const FRAMES: u32 = 5_000;
    let (mut a, session, mut b, of_b) = world::pair(gossiping(1, Via::Tcp), gossiping(2, Via::Tcp)).await;
    let mut flooder = Node::start(gossiping(3, Via::Tcp)).await;
    flooder.transport.connect(Target { peer: Some(b.peer), addresses: vec![b.address()] });
    introduce(&flooder, &[&b]).await;
    let flood = gossip(&flooder);
    let flooding = tokio::spawn(async move {
        loop {
            // What does not fit is refused, and tried again at once.
            let _ = flood.publish(vec![7; 16 << 10]);
            tokio::task::yield_now().await;
        }
    });
    until("the flood is more than can be sent", || dropped(&flooder, "outbox_full") > 1_000).await;
    let sending = tokio::spawn(async move {
        for n in 0..FRAMES {
            a.send_patiently(session, n.to_be_bytes().to_vec()).await;
        }
        a
    });
    for n in 0..FRAMES {
        loop {
            match b.event().await {
                tidelock_engine::ports::TransportEvent::Message { session, bytes } if session == of_b => {
                    assert_eq!(bytes, n.to_be_bytes());
                    break;
                }
                tidelock_engine::ports::TransportEvent::Down { reason, .. } => {
                    panic!("a session ended: {reason}")
                }
                _ => {}
            }
        }
    }
    let a = sending.await.expect("it sends");
    let mut told = false;
    while !told {
        gossip(&a).publish(b"between".to_vec()).expect("there is room");
        told = hear(&b, 1).await.contains(&b"between".to_vec());
    }
    assert!(dropped(&flooder, "outbox_full") > 1_000);
    flooding.abort();
    while flooder.try_event().is_some() {}
}

/// What a member signs itself is bounded for it alone, and what it signs for others is believed by nobody.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn member_that_signs_more_than_it_may_drowns_nobody() {
    let nodes = connected(vec![gossiping(1, Via::Tcp), gossiping(2, Via::Tcp)], &[(0, 1)]).await;
    introduce(&nodes[0], &[&nodes[1]]).await;
    let mut rude = RudeMember::dial(9, &nodes[1].address(), TOPIC).await;
    for number in 0..6_000 {
        rude.publish(sealed(9, number, b"flood"));
    }
    rude.until("it goes beyond its pace", || dropped(&nodes[1], "author_pace") > 100).await;
    numbered(100).for_each(|message| gossip(&nodes[0]).publish(message).expect("there is room"));
    let told = |messages: &[Vec<u8>]| messages.iter().filter(|message| message.len() == 4).count();
    let mut heard = Vec::new();
    while told(&heard) < 100 {
        heard.extend(hear(&nodes[1], 1).await);
    }
    heard.retain(|message| message.len() == 4);
    assert!(heard.into_iter().eq(numbered(100)), "all of the other's, in order");
    // Its own seed is 9: what it signs in the name of the first node is forged.
    for number in 0..100 {
        let mut forged = sealed(9, number, b"forged");
        forged[1..33].copy_from_slice(nodes[0].peer.public_key());
        rude.publish(forged);
    }
    rude.until("it is shut out", || dropped(&nodes[1], "forged") >= 16).await;
}

/// gossipsub takes all that it has read for one message when it looks how long that is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn full_envelopes_behind_each_other_all_arrive() {
    let nodes = connected(
        (1..=4).map(|n| gossiping(n, Via::Tcp)).collect(),
        &[(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)],
    )
    .await;
    introduce(&nodes[0], &[&nodes[1], &nodes[2], &nodes[3]]).await;
    let full = |n: u8| vec![n; GOSSIP_BYTES_MAX];
    (0..60).for_each(|n| gossip(&nodes[0]).publish(full(n)).expect("there is room"));
    for node in &nodes[1..] {
        assert!(hear(node, 60).await.into_iter().eq((0..60).map(full)));
    }
}
