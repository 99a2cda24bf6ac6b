//! The same input to redis-server and to us, where one is installed: the same bytes come back.
//!
//! Only what is meant to be the same is here; deliberate differences are in the tests of the commands.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use super::{Double, Link, Port, encode};

/// A redis-server that keeps nothing, and ends with this.
struct Reference {
    process: Child,
    link: Link,
}

impl Drop for Reference {
    fn drop(&mut self) {
        // One that has ended by itself is no more to be ended.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Reference {
    /// Starts one, if it is installed.
    async fn start() -> Option<Self> {
        let free = TcpListener::bind("127.0.0.1:0").await.expect("loopback has a free port");
        let port = free.local_addr().expect("it is bound").port();
        drop(free);
        let arguments = ["--save", "", "--appendonly", "no", "--bind", "127.0.0.1", "--port"];
        let mut command = Command::new("redis-server");
        command.args(arguments).arg(port.to_string());
        let process = match command.stdout(Stdio::null()).stderr(Stdio::null()).spawn() {
            Ok(process) => process,
            Err(error) => {
                eprintln!("skipped: redis-server is not there: {error}");
                return None;
            }
        };
        let connect = async {
            loop {
                match TcpStream::connect(("127.0.0.1", port)).await {
                    Ok(stream) => return stream,
                    Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
                }
            }
        };
        let stream = timeout(super::PATIENCE, connect).await.expect("redis-server listens");
        Some(Self { process, link: Link { stream } })
    }
}

/// What comes back for a line.
async fn reply(link: &mut Link, command: &str) -> String {
    const END: &[u8] = b"$12\r\nend-of-reply\r\n";
    link.send([encode(command), encode("ECHO end-of-reply")].concat()).await;
    let mut found = Vec::new();
    while !found.ends_with(END) {
        let mut byte = [0];
        let read = timeout(super::PATIENCE, tokio::io::AsyncReadExt::read_exact(&mut link.stream, &mut byte));
        read.await.expect("a reply comes").expect("the connection is open");
        found.extend(byte);
    }
    found.truncate(found.len() - END.len());
    found.escape_ascii().to_string()
}

/// A protocol, and how the keyspaces are.
type Case = (&'static str, fn(&Double));

/// Both protocols, with an eventual keyspace in which this node decides, and with a strong one.
const KINDS: [Case; 4] = [
    ("HELLO 2", Double::decide),
    ("HELLO 3", Double::decide),
    ("HELLO 2", Double::make_strong),
    ("HELLO 3", Double::make_strong),
];

/// Sends the commands, which ` | ` stands between, to both, in both protocols, each time from nothing.
async fn check(commands: &str) {
    for (hello, prepare) in KINDS {
        let Some(mut theirs) = Reference::start().await else { return };
        let port = Port::open().await;
        prepare(&port.double);
        let mut ours = port.link().await;
        // What it says of the server is not the same.
        reply(&mut theirs.link, hello).await;
        reply(&mut ours, hello).await;
        for line in commands.split(" | ") {
            let (ours, theirs) = (reply(&mut ours, line).await, reply(&mut theirs.link, line).await);
            assert_eq!(ours, theirs, "{line} ({hello}), ours is on the left");
        }
        port.server.shutdown().await;
    }
}

/// The same for commands that stand in transactions, all of which are sent at once: there no reply by itself has an
/// end that can be asked for.
async fn check_at_once(commands: &str) {
    let lines: Vec<&str> = commands.split(" | ").chain(["QUIT"]).collect();
    for (hello, prepare) in KINDS {
        let Some(mut theirs) = Reference::start().await else { return };
        let port = Port::open().await;
        prepare(&port.double);
        let mut ours = port.link().await;
        let mut found = Vec::new();
        for link in [&mut ours, &mut theirs.link] {
            reply(link, hello).await;
            let bytes: Vec<u8> = lines.iter().flat_map(|line| encode(line)).collect();
            link.send(bytes).await;
            found.push(link.rest().await.replace("\\r\\n", "\n"));
        }
        assert!(found[0].lines().count() >= lines.len());
        assert_eq!(found[0], found[1], "({hello}), ours is on the left");
        port.server.shutdown().await;
    }
}

#[tokio::test]
async fn conditional_strings_are_as_in_redis() {
    check(
        "SET k v NX | SET k w NX | GET k | SET k w XX | SET m w XX | SET k x NX GET | SET n x NX GET | \
         SET k y GET | SET fresh y GET | SET k z XX GET | SET k z NX XX | SET k z XX NX | SET k z what | \
         SET k z get get | set k z nx Nx | GET k | SADD s a | SET s v GET | SET s v NX | SET s v NX GET | \
         TYPE s | SET s v XX | TYPE s | SETNX k 1 | SETNX new 1 | GET new | SETNX k | SETNX k 1 2 | \
         MSETNX a 1 b 2 | MSETNX b 3 c 4 | EXISTS a b c | MSETNX a | MSETNX a 1 b | MSETNX d 1 d 2 | \
         GET d | GETSET k 7 | GETSET nothing 8 | GET nothing | SADD s2 a | GETSET s2 v | GETSET k | \
         GETDEL k | GETDEL k | GETDEL s2 | GETDEL | INCR n2 | GETDEL n2 | EXISTS n2",
    )
    .await;
}

/// Moments are named, because the clock of the double stands elsewhere than that of redis-server.
#[tokio::test]
async fn conditions_and_deadlines_of_one_set_are_as_in_redis() {
    check(
        "SET k v NX EXAT 9000000000 GET | EXPIRETIME k | SET k w EXAT 9000000200 NX | EXPIRETIME k | \
         SET k w GET PXAT 9000000300000 | EXPIRETIME k | SET k x KEEPTTL XX | EXPIRETIME k | \
         SET k y XX GET KEEPTTL | EXPIRETIME k | SET k z GET | EXPIRETIME k | SET m v XX EX 10 | \
         EXISTS m | SET k v EX 10 PX 10 NX | SET k v NX EX | SET k v XX EX 0 | SET k v XX EX x | \
         GETSET k v | SET k v EXAT 9000000000 | GETSET k w | EXPIRETIME k | SET k v EXAT 9000000000 | \
         APPEND k w | EXPIRETIME k | SETRANGE k 0 x | EXPIRETIME k | SETBIT k 0 1 | EXPIRETIME k | \
         SET f 1 EXAT 9000000000 | INCRBYFLOAT f 0.5 | EXPIRETIME f | RENAME f g | EXPIRETIME g | \
         COPY g h | EXPIRETIME h | SET h v | EXPIRETIME h | COPY g h REPLACE | EXPIRETIME h | SADD s a b | \
         EXPIREAT s 9000000000 | SMOVE s t a | EXPIRETIME s | EXPIRETIME t | SUNIONSTORE s s t | \
         EXPIRETIME s | HSET m2 f 1 | EXPIREAT m2 9000000000 | HINCRBY m2 f 1 | EXPIRETIME m2 | \
         SETNX g v | EXPIRETIME g | GETDEL g | EXPIRETIME g | WATCH h | EXPIREAT h 9000000000 | \
         EXPIRETIME h | UNWATCH",
    )
    .await;
}

#[tokio::test]
async fn edits_are_as_in_redis() {
    check(
        "APPEND k Hello | APPEND k ' World' | GET k | APPEND e '' | EXISTS e | APPEND k | SADD s a | \
         APPEND s x | INCR n | APPEND n 2 | GET n | INCR n | SETRANGE k 6 Redis | GET k | \
         SETRANGE k 20 far | GET k | SETRANGE nothing 0 '' | EXISTS nothing | SETRANGE nothing 2 x | \
         GET nothing | SETRANGE k 0 '' | SETRANGE k -1 x | SETRANGE k x y | SETRANGE s 0 y | \
         SETRANGE s 0 '' | SETBIT b 7 1 | SETBIT b 7 0 | GET b | SETBIT b 100 1 | GET b | SETBIT b 100 1 | \
         SETBIT b -1 1 | SETBIT b 4294967296 1 | SETBIT b 1 2 | SETBIT b x 1 | SETBIT b 1 x | \
         SETBIT s 1 1 | SETBIT zero 3 0 | EXISTS zero | GET zero | SETBIT b 1",
    )
    .await;
}

#[tokio::test]
async fn numbers_with_a_fraction_are_as_in_redis() {
    check(
        "SET f 10.50 | INCRBYFLOAT f 0.1 | INCRBYFLOAT f -5 | SET f 5.0e3 | INCRBYFLOAT f 2.0e2 | \
         INCRBYFLOAT new 3.14 | GET new | INCRBYFLOAT new -3.14 | INCRBYFLOAT third 0.3333333333333333 | \
         INCRBYFLOAT third 1e-17 | INCRBYFLOAT third 1e-20 | INCRBYFLOAT big 1e15 | INCRBYFLOAT big 0.5 | \
         INCRBYFLOAT f abc | INCRBYFLOAT f '' | INCRBYFLOAT f ' 1' | INCRBYFLOAT f '1 ' | \
         INCRBYFLOAT f nan | INCRBYFLOAT f inf | INCRBYFLOAT f -inf | SET t text | INCRBYFLOAT t 1 | \
         SADD s a | INCRBYFLOAT s 1 | INCRBYFLOAT f | INCR n | INCRBYFLOAT n 1.5 | INCR n | \
         INCRBYFLOAT n 0.5 | INCR n | INCRBYFLOAT e 1e18 | INCRBYFLOAT e 1 | INCRBYFLOAT p +1.5 | \
         INCRBYFLOAT p .5 | INCRBYFLOAT p 5. | INCRBYFLOAT m -0 | INCRBYFLOAT m -0.1 | INCRBYFLOAT m 0.1",
    )
    .await;
}

#[tokio::test]
async fn numbers_in_fields_are_as_in_redis() {
    check(
        "HINCRBY h n 5 | HINCRBY h n -7 | HGET h n | HSET h t text | HINCRBY h t 1 | HINCRBY h n x | \
         HINCRBY h n 1.5 | HSET h max 9223372036854775807 | HINCRBY h max 1 | HINCRBY h n | SET k v | \
         HINCRBY k f 1 | HINCRBYFLOAT h f 10.5 | HINCRBYFLOAT h f 0.1 | HINCRBYFLOAT h f -5 | \
         HINCRBYFLOAT h t 1 | HINCRBYFLOAT h f abc | HINCRBYFLOAT h f inf | HINCRBYFLOAT h f nan | \
         HINCRBYFLOAT k f 1 | HINCRBYFLOAT h n 0.5 | HINCRBY h n 1 | HLEN h | HSETNX h new 1 | \
         HSETNX h new 2 | HGET h new | HSETNX k f 1 | HSETNX h new | HSETNX h2 f v | HGETALL h2",
    )
    .await;
}

#[tokio::test]
async fn sets_are_moved_popped_and_stored_as_in_redis() {
    check(
        "SADD a 1 2 3 | SADD b 3 4 | SMOVE a b 1 | SMOVE a b 9 | SMOVE a a 2 | SMOVE a a 9 | \
         SMOVE nothing b 1 | SISMEMBER b 1 | SCARD a | SET k v | SMOVE a k 2 | SMOVE a k 9 | SMOVE k a 2 | \
         SMOVE nothing k 2 | SMOVE a fresh 2 | SMOVE a fresh 3 | EXISTS a | SCARD fresh | SMOVE a b | \
         SPOP nothing | SPOP nothing 2 | SPOP k | SPOP k 1 | SPOP b 0 | SPOP b -1 | SPOP b x | \
         SPOP b 1 2 | SADD one x | SPOP one | EXISTS one | SADD one x | SPOP one 5 | EXISTS one | \
         SADD p 1 2 3 | SINTERSTORE i p fresh | SMEMBERS i | SUNIONSTORE u p fresh nothing | SCARD u | \
         SDIFFSTORE d p fresh | SCARD d | SISMEMBER d 1 | SINTERSTORE i p nothing | EXISTS i | \
         SUNIONSTORE p p fresh | SCARD p | SINTERSTORE i k p | SINTERSTORE i nothing k | SUNIONSTORE i k | \
         SDIFFSTORE i p k | SINTERSTORE k p p | TYPE k | SDIFFSTORE k p p | EXISTS k | SINTERSTORE i | \
         SDIFFSTORE d nothing p | EXISTS d",
    )
    .await;
}

#[tokio::test]
async fn members_are_scored_by_rules_and_popped_as_in_redis() {
    check(
        "ZADD z NX 1 a | ZADD z NX 2 a | ZADD z NX CH 2 a 3 b | ZSCORE z a | ZADD z XX 5 a | ZADD z XX CH \
         5 a 6 b | ZADD z XX 1 new | ZCARD z | ZADD z GT 4 a | ZADD z GT CH 4 a 7 b 1 c | ZADD z LT CH 4 \
         a 9 b 0 d | ZADD z XX GT 9 a | ZADD z XX LT CH 1 a | ZADD z NX INCR 1 a | ZADD z NX INCR 1 e | \
         ZADD z XX INCR 1 f | ZADD z XX INCR 1 e | ZADD z GT INCR -1 e | ZADD z GT INCR 1 e | ZADD z LT \
         INCR 1 e | ZADD z LT INCR -1 e | ZRANGE z 0 -1 WITHSCORES | ZADD z CH 1 x 2 x 3 x | ZADD z CH 1 \
         x 2 x | ZADD z NX CH 1 y 2 y | ZADD z GT CH 1 w 2 w 1 w | ZRANGE z 0 -1 WITHSCORES | ZPOPMIN z | \
         ZPOPMAX z | ZPOPMIN z 2 | ZPOPMAX z 2 | ZPOPMIN z 0 | ZPOPMIN z -1 | ZPOPMIN z x | ZPOPMIN z 1 2 \
         | ZPOPMIN z 100 | EXISTS z | ZPOPMIN z | ZPOPMAX z 3 | SET k v | ZPOPMIN k | ZPOPMIN k 0 | \
         ZPOPMAX k 2 | ZADD k NX 1 a | ZADD k XX 1 a | ZADD k GT INCR 1 a | ZADD fresh XX 1 a | ZADD \
         fresh XX INCR 1 a | EXISTS fresh | ZADD inf inf a | ZADD inf GT INCR -inf a",
    )
    .await;
}

#[tokio::test]
async fn transactions_of_sorted_sets_are_as_in_redis() {
    check_at_once(
        "MULTI | ZADD z 1 a 2 b 3 c | ZINCRBY z 5 a | ZRANGE z 0 -1 WITHSCORES | ZRANK z a | ZADD z NX 1 d | \
         ZPOPMIN z | ZPOPMAX z 1 | ZSCORE z missing | ZCARD z | EXEC | MULTI | ZADD z 1 a 2 b 3 c | \
         ZREMRANGEBYRANK z 0 0 | ZRANGE z - + BYLEX | ZCOUNT z 2 (3 | SET z v | ZADD z 1 a | TYPE z | EXEC | \
         GET z | DEL z | ZADD z 1 a 2 b 3 c | ZRANGE z 0 0 | ZREM z a | ZRANGE z 0 0 | ZPOPMIN z | \
         ZINCRBY z -9 c | ZRANGE z 0 -1 WITHSCORES | WATCH z | ZADD z 5 c | MULTI | ZCARD z | EXEC | WATCH z | \
         MULTI | ZADD z CH 6 c | ZMSCORE z c x | EXEC",
    )
    .await;
}

#[tokio::test]
async fn keys_are_renamed_and_copied_as_in_redis() {
    check(
        "RENAME nothing x | SET a 1 | RENAME a b | GET b | EXISTS a | RENAME b b | \
         RENAME nothing nothing | SADD s x | RENAME b s | TYPE s | RENAMENX s s | \
         RENAMENX nothing nothing | SET t 2 | RENAMENX s t | RENAMENX s free | RENAMENX nothing t | \
         GET free | RENAME a | HSET h f v | COPY h h2 | HGET h2 f | COPY h h2 | COPY h free REPLACE | \
         TYPE free | COPY nothing x | COPY nothing free REPLACE | COPY h h | COPY h h REPLACE | \
         COPY h x what | COPY h x DB | COPY h | INCR n | COPY n n2 | INCR n2 | GET n | GET n2 | \
         RENAME n n3 | INCR n3 | SADD s2 a b | COPY s2 s3 | SREM s3 a | SCARD s2 | SCARD s3 | DBSIZE",
    )
    .await;
}

#[tokio::test]
async fn watched_transactions_are_as_in_redis() {
    check_at_once(
        "WATCH k | MULTI | SET k 1 | EXEC | GET k | WATCH k | SET k 2 | MULTI | SET k 3 | EXEC | GET k | \
         MULTI | SET k 4 | EXEC | WATCH k other | SET other x | UNWATCH | MULTI | GET k | EXEC | WATCH k | \
         SET k 5 | MULTI | DISCARD | MULTI | GET k | EXEC | WATCH k | SET k 6 | MULTI | UNWATCH | EXEC | \
         UNWATCH | WATCH | UNWATCH k | WATCH k | DEL k | MULTI | PING | EXEC | WATCH k | DEL k | MULTI | \
         PING | EXEC | WATCH n | INCR n | MULTI | EXEC | WATCH s | SADD s a | MULTI | EXEC | WATCH s | \
         SADD other2 a | MULTI | SCARD s | SETNX s 1 | EXEC | WATCH k | MULTI | SET k | EXEC | MULTI | \
         GET k | EXEC | RESET | PING | MULTI | RESET | EXEC | WATCH k | SET k 1 | RESET | MULTI | PING | \
         EXEC",
    )
    .await;
}
