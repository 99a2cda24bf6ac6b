//! The commands about the connection and the server, by example.

use super::conformance::{Case, check_all, greet};
use super::{Port, array};

const fn same(line: &'static str, reply: &'static str) -> Case {
    (line, reply, None)
}

const fn both(line: &'static str, resp2: &'static str, resp3: &'static str) -> Case {
    (line, resp2, Some(resp3))
}

#[tokio::test]
async fn connection_commands_answer_as_redis_does() {
    check_all(&[
        same("PING", "+PONG"),
        same("PING hello", "$5\nhello"),
        same("PING a b", "-ERR wrong number of arguments for 'ping' command"),
        same("ECHO hi", "$2\nhi"),
        same("ECHO", "-ERR wrong number of arguments for 'echo' command"),
        same("CLIENT ID", ":1"),
        both("CLIENT GETNAME", "$-1", "_"),
        same("CLIENT SETNAME me", "+OK"),
        same("CLIENT GETNAME", "$2\nme"),
        same(
            "CLIENT SETNAME 'a b'",
            "-ERR Client names cannot contain spaces, newlines or special characters.",
        ),
        same("CLIENT SETNAME ''", "+OK"),
        both("CLIENT GETNAME", "$-1", "_"),
        same("CLIENT SETINFO LIB-NAME redis-py", "+OK"),
        same("CLIENT SETINFO lib-ver 5.0", "+OK"),
        same("CLIENT SETINFO lib-what 5.0", "-ERR Unrecognized option 'lib-what'"),
        same("CLIENT SETINFO lib-ver", "-ERR wrong number of arguments for 'client|setinfo' command"),
        same("CLIENT ID now", "-ERR wrong number of arguments for 'client|id' command"),
        same("CLIENT KILL me", "-ERR No such client"),
        same("CLIENT TRACKING on", "-ERR the Redis command 'CLIENT TRACKING' is not supported yet"),
        same("CLIENT frob", "-ERR unknown subcommand 'frob'. Try CLIENT HELP."),
        same("CLIENT KILL MAXAGE 0", "-ERR maxage should be greater than 0"),
        same("CLIENT KILL MAXAGE 100000", ":0"),
        same("CLIENT NO-TOUCH on", "+OK"),
        same("CLIENT", "-ERR wrong number of arguments for 'client' command"),
        both("TIDE.DURABILITY", "$7\ndurable", "$7\ndurable"),
        same("TIDE.DURABILITY Buffered", "+OK"),
        same("TIDE.DURABILITY", "$8\nbuffered"),
        same("TIDE.DURABILITY maybe", "-ERR the durability is durable or buffered"),
    ])
    .await;
}

#[tokio::test]
async fn select_names_keyspaces_by_number_or_name() {
    check_all(&[
        same("SET k zero", "+OK"),
        same("SELECT 1", "+OK"),
        both("GET k", "$-1", "_"),
        same("SET k one", "+OK"),
        same("SELECT db1", "+OK"),
        same("GET k", "$3\none"),
        same("SELECT notes", "+OK"),
        same("DBSIZE", ":0"),
        same("SELECT default", "+OK"),
        same("GET k", "$4\nzero"),
        same("SELECT 0", "+OK"),
        same("GET k", "$4\nzero"),
        same("SELECT -1", "-ERR DB index is out of range"),
        same("SELECT 99999999999", "-ERR DB index is out of range"),
        same("SELECT elsewhere", "-ERR keyspace elsewhere is not replicated on this node"),
        same(
            "SELECT 'two words'",
            "-ERR a keyspace name is 1 to 128 bytes of printable text without white space",
        ),
        same(r#"SELECT "\xff""#, "-ERR a keyspace name is UTF-8 text"),
        same("GET k", "$4\nzero"),
    ])
    .await;
}

#[tokio::test]
async fn unknown_and_missing_commands_say_what_they_are() {
    check_all(&[
        same("frobnicate", "-ERR unknown command 'frobnicate', with args beginning with: "),
        same("frobnicate a 'b c'", "-ERR unknown command 'frobnicate', with args beginning with: 'a' 'b c' "),
        same("ZADD z 1 m", "-ERR the Redis command 'ZADD' is not supported yet"),
    ])
    .await;
    let port = Port::open().await;
    let mut link = port.link().await;
    link.send(array(&["x".repeat(200), "y".repeat(200), "z".to_owned()])).await;
    let (name, shown) = ("x".repeat(128), "y".repeat(128));
    link.expect(format!("-ERR unknown command '{name}', with args beginning with: '{shown}' \r\n")).await;
}

#[tokio::test]
async fn hello_changes_the_protocol_only_when_all_of_it_is_right() {
    let port = Port::open().await;
    let mut link = port.link().await;
    link.check("HELLO 4", "-NOPROTO unsupported protocol version").await;
    link.check("HELLO x", "-ERR Protocol version is not an integer or out of range").await;
    link.check("HELLO 3 SETNAME", "-ERR Syntax error in HELLO option 'SETNAME'").await;
    link.check("HELLO 3 AUTH me secret", "-WRONGPASS invalid username-password pair or user is disabled.")
        .await;
    link.check(
        "HELLO 3 SETNAME 'a b'",
        "-ERR Client names cannot contain spaces, newlines or special characters.",
    )
    .await;
    link.check("GET missing", "$-1").await;
    greet(&mut link).await;
    link.check("GET missing", "_").await;
    link.send("GET missing\r\nHELLO 2 SETNAME me\r\nGET missing\r\nCLIENT GETNAME\r\n").await;
    link.expect("_\r\n*14\r\n$6\r\nserver\r\n").await;
    let rest = format!(
        "$8\r\ntidelock\r\n$7\r\nversion\r\n${}\r\n{}\r\n$5\r\nproto\r\n:2\r\n$2\r\nid\r\n:1\r\n$4\r\nmode\r\n\
         $10\r\nstandalone\r\n$4\r\nrole\r\n$6\r\nmaster\r\n$7\r\nmodules\r\n*0\r\n$-1\r\n$2\r\nme\r\n",
        env!("CARGO_PKG_VERSION").len(),
        env!("CARGO_PKG_VERSION"),
    );
    link.expect(rest).await;
}

#[tokio::test]
async fn command_describes_the_table() {
    let info = "*10\n$3\nget\n:2\n*2\n+readonly\n+fast\n:1\n:1\n:1\n*0\n*0\n*0\n*0";
    check_all(&[
        same("COMMAND COUNT", ":122"),
        both(
            "COMMAND INFO get nothing",
            "*2\n*10\n$3\nget\n:2\n*2\n+readonly\n+fast\n:1\n:1\n:1\n*0\n*0\n*0\n*0\n*-1",
            "*2\n*10\n$3\nget\n:2\n~2\n+readonly\n+fast\n:1\n:1\n:1\n~0\n*0\n*0\n*0\n_",
        ),
        both(
            "COMMAND DOCS echo nothing",
            "*2\n$4\necho\n*4\n$7\nsummary\n$20\nAnswers its argument\n$5\ngroup\n$7\ngeneric",
            "%1\n$4\necho\n%2\n$7\nsummary\n$20\nAnswers its argument\n$5\ngroup\n$7\ngeneric",
        ),
        same("COMMAND GETKEYS get k", "-ERR unknown subcommand 'GETKEYS'. Try COMMAND HELP."),
        same("COMMAND COUNT all", "-ERR wrong number of arguments for 'command|count' command"),
    ])
    .await;
    let port = Port::open().await;
    let mut link = port.link().await;
    link.send("COMMAND\r\nQUIT\r\n").await;
    let all = link.rest().await;
    assert!(all.starts_with("*122\\r\\n*10\\r\\n$6\\r\\nappend"), "{all}");
    assert!(all.contains(&super::lines(info).escape_default().to_string()), "{all}");
}

#[tokio::test]
async fn info_has_the_fields_that_tools_read() {
    let port = Port::open().await;
    let mut link = port.link().await;
    link.check("SET k v", "+OK").await;
    link.check("SELECT notes", "+OK").await;
    link.check("SET k v", "+OK").await;
    let keyspaces =
        "# Keyspace\r\ndb0:keys=1,expires=0,avg_ttl=0\r\nkeyspace_notes:keys=1,expires=0,avg_ttl=0\r\n";
    link.check("INFO keyspace", &format!("${}\n{}", keyspaces.len(), keyspaces.replace("\r\n", "\n"))).await;
    link.send("INFO\r\nQUIT\r\n").await;
    let info = link.rest().await;
    for field in [
        "redis_version:7.2.0",
        "connected_clients:1",
        "total_commands_processed:",
        "uptime_in_days:1",
        // The port and this session.
        "tasks:2",
    ] {
        assert!(info.contains(field), "{field} is missing in {info}");
    }
}
