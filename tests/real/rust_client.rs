//! What an application does with the Rust crate `redis`, on a real node.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::time::{Duration, Instant};

use crate::processes::{DEADLINE, Node, Options, PROGRAM};
use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::{
    AsyncCommands, Client, Commands, Connection, ErrorKind, RedisError, RedisResult, ServerErrorKind, Value,
};

fn start(folder: &tempfile::TempDir) -> Node {
    Node::start(PROGRAM, folder.path(), Options::default())
}

/// A client of a keyspace, in a version of the protocol.
fn client(node: &Node, keyspace: u8, protocol: u8) -> Client {
    let url = format!("redis://{}/{keyspace}?protocol={protocol}", node.redis());
    Client::open(url).expect("a right address")
}

fn connect(node: &Node, keyspace: u8, protocol: u8) -> Connection {
    let connection = client(node, keyspace, protocol).get_connection().expect("the node listens");
    connection.set_read_timeout(Some(DEADLINE)).expect("a socket");
    connection
}

/// The kind and the code of what the node refused.
fn refused<T: std::fmt::Debug>(result: RedisResult<T>) -> (ErrorKind, String, String) {
    let error = result.expect_err("it is refused");
    let code = error.code().unwrap_or_default().to_owned();
    (error.kind(), code, error.detail().unwrap_or_default().to_owned())
}

#[test]
fn values_come_back_as_the_types_that_are_asked_for() -> Result<(), RedisError> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let node = start(&folder);
    for protocol in [2, 3] {
        let mut node = connect(&node, 0, protocol);
        node.flushall::<()>()?;
        node.set::<_, _, ()>("bytes", &b"\x00\xff\r\n"[..])?;
        assert_eq!(node.get::<_, Vec<u8>>("bytes")?, b"\x00\xff\r\n");
        assert_eq!(node.get::<_, Option<String>>("missing")?, None);
        assert_eq!(node.incr::<_, _, i64>("visits", 3)?, 3);
        node.mset::<_, _, ()>(&[("a", 1), ("b", 2)])?;
        assert_eq!(node.mget::<_, (i64, i64, Option<i64>)>(&["a", "b", "missing"])?, (1, 2, None));
        assert_eq!(
            node.hset_multiple::<_, _, _, String>("profile", &[("city", "Bergen"), ("born", "1990")])?,
            "OK"
        );
        let profile: HashMap<String, String> = node.hgetall("profile")?;
        assert_eq!((profile.len(), profile["city"].as_str()), (2, "Bergen"));
        assert_eq!(node.sadd::<_, _, usize>("fruit", &["apples", "pears"])?, 2);
        assert_eq!(node.smembers::<_, HashSet<String>>("fruit")?.len(), 2);
        assert!(node.sismember::<_, _, bool>("fruit", "pears")?);
        assert_eq!(node.zadd_multiple::<_, _, _, usize>("scores", &[(2.5, "bob"), (1.0, "ann")])?, 2);
        let scores: Vec<(String, f64)> = node.zrange_withscores("scores", 0, -1)?;
        assert_eq!(scores, [("ann".to_owned(), 1.0), ("bob".to_owned(), 2.5)]);
        assert_eq!(node.zrank::<_, _, Option<usize>>("scores", "bob")?, Some(1));
        assert!(node.expire::<_, bool>("fruit", 100)?);
        assert!((1..=100).contains(&node.ttl::<_, i64>("fruit")?));
        assert_eq!(node.key_type::<_, redis::ValueType>("fruit")?, redis::ValueType::Set);
        node.pexpire::<_, ()>("fruit", 1)?;
        let started = Instant::now();
        while node.exists::<_, bool>("fruit")? {
            assert!(started.elapsed() < DEADLINE, "it does not expire");
        }
        assert!(
            redis::cmd("INFO").query::<redis::InfoDict>(&mut node)?.get::<String>("redis_mode").is_some()
        );
    }
    Ok(())
}

#[test]
fn scans_yield_everything_once() -> Result<(), RedisError> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let node = start(&folder);
    let mut node = connect(&node, 0, 3);
    let names: BTreeSet<String> = (0..1_500).map(|number| format!("page:{number}")).collect();
    let mut pipeline = redis::pipe();
    for name in &names {
        pipeline.set(name, name).ignore().sadd("set", name).ignore().hset("map", name, 1).ignore();
    }
    pipeline.query::<()>(&mut node)?;
    let found: Vec<String> = node.scan_match("page:*")?.collect::<RedisResult<_>>()?;
    assert_eq!((found.len(), found.into_iter().collect::<BTreeSet<_>>()), (names.len(), names.clone()));
    let found: BTreeSet<String> = node.sscan("set")?.collect::<RedisResult<_>>()?;
    assert_eq!(found, names);
    let found: Vec<(String, i64)> = node.hscan("map")?.collect::<RedisResult<_>>()?;
    assert_eq!(found.into_iter().map(|(name, _)| name).collect::<BTreeSet<_>>(), names);
    Ok(())
}

#[test]
fn transactions_are_whole_and_those_that_watch_need_a_node_that_decides() -> Result<(), RedisError> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let server = start(&folder);
    let mut node = connect(&server, 3, 3);
    let answers: (i64, i64) =
        redis::pipe().atomic().set("x", 1).ignore().incr("x", 1).incr("x", 1).query(&mut node)?;
    assert_eq!(answers, (2, 3));
    let take = |node: &mut Connection| {
        redis::transaction(node, &["stock"], |node, pipeline| {
            let stock: i64 = node.get("stock")?;
            pipeline.set("stock", stock - 1).query::<Option<(String,)>>(node)
        })
    };
    node.set::<_, _, ()>("stock", 400)?;
    let (kind, code, _) = refused(take(&mut node));
    assert_eq!((kind, code.as_str()), (ErrorKind::Extension, "CONSISTENCY"));

    redis::cmd("TIDE.KEYSPACE").arg(&["CONDITIONAL", "3", "LOCAL"]).query::<()>(&mut node)?;
    // Four that take from one stock, each again until nobody was in between.
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut node = connect(&server, 3, 2);
                for _ in 0..50 {
                    take(&mut node).expect("it is done in the end");
                }
            });
        }
    });
    assert_eq!(node.get::<_, i64>("stock")?, 200);
    assert!(node.set_nx::<_, _, bool>("lock", "me")?);
    assert!(!node.set_nx::<_, _, bool>("lock", "you")?);
    Ok(())
}

#[test]
fn subscribers_are_told_what_is_published() -> Result<(), RedisError> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let server = start(&folder);
    let mut publisher = connect(&server, 0, 3);
    let mut connection = connect(&server, 0, 2);
    let mut listener = connection.as_pubsub();
    listener.set_read_timeout(Some(DEADLINE))?;
    listener.subscribe("news")?;
    listener.psubscribe("new*")?;
    assert_eq!(publisher.publish::<_, _, usize>("news", "hello")?, 2);
    let told = [listener.get_message()?, listener.get_message()?];
    for message in &told {
        assert_eq!(
            (message.get_channel_name(), message.get_payload::<String>()?),
            ("news", "hello".to_owned())
        );
    }
    assert_eq!(told.map(|message| message.from_pattern()), [false, true]);
    Ok(())
}

#[test]
fn errors_have_their_kinds() -> Result<(), RedisError> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let node = start(&folder);
    let mut node = connect(&node, 0, 3);
    let response = ErrorKind::Server(ServerErrorKind::ResponseError);
    node.set::<_, _, ()>("text", "words")?;
    let (kind, code, _) = refused(node.sadd::<_, _, usize>("text", "element"));
    assert_eq!((kind, code.as_str()), (ErrorKind::Extension, "WRONGTYPE"));
    let (kind, _, detail) = refused(node.incr::<_, _, i64>("text", 1));
    assert_eq!((kind, detail.as_str()), (response, "value is not an integer or out of range"));
    // Scripts, lists and clusters are none of ours, and the answer says so.
    let (kind, _, detail) = refused(redis::Script::new("return 1").invoke::<i64>(&mut node));
    assert_eq!(kind, response);
    assert!(detail.contains("not supported"), "{detail}");
    let (_, _, detail) = refused(node.lpush::<_, _, usize>("list", "element"));
    assert!(detail.contains("'LPUSH' is not supported"), "{detail}");
    let info: redis::InfoDict = redis::cmd("INFO").query(&mut node)?;
    assert_eq!(info.get::<bool>("cluster_enabled"), Some(false));
    let (kind, ..) = refused(redis::cmd("CLUSTER").arg("SLOTS").query::<Value>(&mut node));
    assert_eq!(kind, response);
    assert_eq!(node.get::<_, String>("text")?, "words");
    Ok(())
}

/// A hundred tasks share a connection that the manager makes again after the node was killed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connection_manager_goes_on_after_a_restart() -> Result<(), RedisError> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut node = start(&folder);
    let config = ConnectionManagerConfig::new()
        .set_response_timeout(Some(DEADLINE))
        .set_number_of_retries(100)
        .set_max_delay(Duration::from_millis(200));
    let client = client(&node, 0, 3);
    let mut manager = client.get_connection_manager_with_config(config).await?;
    let count = |mut manager: ConnectionManager| async move {
        for _ in 0..10 {
            manager.incr::<_, _, i64>("counted", 1).await?;
        }
        RedisResult::Ok(())
    };
    let tasks: Vec<_> = (0..100).map(|_| tokio::spawn(count(manager.clone()))).collect();
    for task in tasks {
        task.await.expect("it does not panic")?;
    }
    assert_eq!(manager.get::<_, i64>("counted").await?, 1_000);

    node.kill_and_restart_for_clients();
    // The command that finds the connection broken fails, and makes the manager connect again.
    let started = Instant::now();
    let counted = loop {
        match manager.get::<_, i64>("counted").await {
            Ok(counted) => break counted,
            Err(error) => assert!(error.is_io_error() && started.elapsed() < DEADLINE, "{error}"),
        }
    };
    assert_eq!(counted, 1_000);
    let (one, two): (i64, i64) =
        redis::pipe().incr("counted", 1).incr("counted", 1).query_async(&mut manager).await?;
    assert_eq!((one, two), (1_001, 1_002));
    Ok(())
}
