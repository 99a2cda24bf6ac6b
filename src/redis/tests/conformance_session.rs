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
        same("CLIENT TRACKING", "-ERR wrong number of arguments for 'client|tracking' command"),
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
        same("XADD s * f v", "-ERR the Redis command 'XADD' is not supported yet"),
        same("CLUSTER INFO", "-ERR This instance has cluster support disabled"),
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
    link.expect(
        "$8\r\ntidelock\r\n$7\r\nversion\r\n$6\r\n7.0.15\r\n$5\r\nproto\r\n:2\r\n$2\r\nid\r\n:1\r\n$4\r\nmode\r\n\
         $10\r\nstandalone\r\n$4\r\nrole\r\n$6\r\nmaster\r\n$7\r\nmodules\r\n*0\r\n$-1\r\n$2\r\nme\r\n",
    )
    .await;
}

#[tokio::test]
async fn command_describes_the_table() {
    let info = "*10\n$3\nget\n:2\n*2\n+readonly\n+fast\n:1\n:1\n:1\n*3\n+@read\n+@string\n+@fast\n*0\n*0\n*0";
    check_all(&[
        same("COMMAND COUNT", ":171"),
        both(
            "COMMAND INFO get nothing",
            "*2\n*10\n$3\nget\n:2\n*2\n+readonly\n+fast\n:1\n:1\n:1\n*3\n+@read\n+@string\n+@fast\n*0\n*0\n*0\n$-1",
            "*2\n*10\n$3\nget\n:2\n~2\n+readonly\n+fast\n:1\n:1\n:1\n~3\n+@read\n+@string\n+@fast\n*0\n*0\n*0\n_",
        ),
        both(
            "COMMAND DOCS echo nothing",
            "*2\n$4\necho\n*4\n$7\nsummary\n$20\nAnswers its argument\n$5\ngroup\n$10\nconnection",
            "%1\n$4\necho\n%2\n$7\nsummary\n$20\nAnswers its argument\n$5\ngroup\n$10\nconnection",
        ),
        same("COMMAND GETKEYS lcs a b", "*2\n$1\na\n$1\nb"),
        same("COMMAND GETKEYS tide.entry k", "*1\n$1\nk"),
        same("COMMAND GETKEYS xadd s * f v", "-ERR Invalid command specified"),
        same("COMMAND LIST FILTERBY ACLCAT transaction", "*5\n$7\ndiscard\n$4\nexec\n$5\nmulti\n$7\nunwatch\n$5\nwatch"),
        same("COMMAND COUNT all", "-ERR wrong number of arguments for 'command|count' command"),
    ])
    .await;
    let port = Port::open().await;
    let mut link = port.link().await;
    link.send("COMMAND\r\nQUIT\r\n").await;
    let all = link.rest().await;
    assert!(all.starts_with("*171\\r\\n*10\\r\\n$6\\r\\nappend"), "{all}");
    assert!(all.contains(&super::lines(info).escape_default().to_string()), "{all}");
}

#[tokio::test]
async fn config_tells_what_is_and_sets_what_is_of_the_port_alone() {
    let immutable = "can't set immutable config";
    check_all(&[
        both("CONFIG GET maxmemory", "*2\n$9\nmaxmemory\n$1\n0", "%1\n$9\nmaxmemory\n$1\n0"),
        both(
            "CONFIG GET maxmem??? APPEND* nothing maxmemory",
            "*6\n$11\nappendfsync\n$6\nalways\n$10\nappendonly\n$3\nyes\n$9\nmaxmemory\n$1\n0",
            "%3\n$11\nappendfsync\n$6\nalways\n$10\nappendonly\n$3\nyes\n$9\nmaxmemory\n$1\n0",
        ),
        both(
            "CONFIG GET proto-max-bulk-len",
            "*2\n$18\nproto-max-bulk-len\n$8\n16777216",
            "%1\n$18\nproto-max-bulk-len\n$8\n16777216",
        ),
        same("CONFIG SET slowlog-max-len 5 SLOWLOG-log-slower-than -1", "+OK"),
        both(
            "CONFIG GET slowlog*",
            "*4\n$23\nslowlog-log-slower-than\n$2\n-1\n$15\nslowlog-max-len\n$1\n5",
            "%2\n$23\nslowlog-log-slower-than\n$2\n-1\n$15\nslowlog-max-len\n$1\n5",
        ),
        same(
            "CONFIG SET slowlog-max-len 6 slowlog-log-slower-than -2",
            "-ERR CONFIG SET failed (possibly related to argument 'slowlog-log-slower-than') - argument must be \
             between -1 and 9223372036854775807 inclusive",
        ),
        same(
            "CONFIG SET slowlog-max-len 100001",
            "-ERR CONFIG SET failed (possibly related to argument 'slowlog-max-len') - argument must be between 0 \
             and 100000 inclusive",
        ),
        both(
            "CONFIG GET slowlog-max-len",
            "*2\n$15\nslowlog-max-len\n$1\n5",
            "%1\n$15\nslowlog-max-len\n$1\n5",
        ),
        same("CONFIG REWRITE", "-ERR Rewriting config file: a node does not write its config file"),
    ])
    .await;
    let port = Port::open_with(|config| config.password = Some(super::super::Password::new(b"secret"))).await;
    let mut link = port.link().await;
    link.ask("AUTH secret").await;
    for (name, text) in [("maxmemory", "maxmemory"), ("Save", "Save")] {
        let refused = format!("-ERR CONFIG SET failed (possibly related to argument '{text}') - {immutable}");
        link.check(&format!("CONFIG SET {name} 1"), &refused).await;
    }
    link.send("CONFIG GET *\r\nQUIT\r\n").await;
    let all = link.rest().await;
    assert!(all.contains("requirepass\\r\\n$0\\r\\n") && !all.contains("secret"), "{all}");
}

#[tokio::test]
async fn figures_of_info_begin_again_when_they_are_reset() {
    let port = Port::open().await;
    let mut link = port.link().await;
    link.send("SET k v\r\n").await;
    link.expect("+OK\r\n").await;
    link.send("GET k\r\nGET k\r\n").await;
    link.expect("$1\r\nv\r\n$1\r\nv\r\n").await;
    let mut other = port.link().await;
    other.send("INFO commandstats stats\r\nQUIT\r\n").await;
    let told = other.rest().await;
    for field in
        ["# Stats\\r\\n", "total_connections_received:2", "cmdstat_get:calls=2,usec=", "cmdstat_set:calls=1,"]
    {
        assert!(told.contains(field), "{field} is missing in {told}");
    }
    assert!(!told.contains("cmdstat_mget"), "{told}");
    link.send("CONFIG RESETSTAT\r\n").await;
    link.expect("+OK\r\n").await;
    let mut other = port.link().await;
    other.send("INFO commandstats stats\r\nQUIT\r\n").await;
    let told = other.rest().await;
    assert!(told.contains("total_connections_received:1\\r") && !told.contains("cmdstat_get"), "{told}");
    other = port.link().await;
    other.check("CLIENT ID", ":4").await;
    assert_eq!(port.server.observer().figures().clients_accepted, 4, "and metrics only grow");
}

#[tokio::test]
async fn time_is_that_of_the_clock() {
    let port = Port::open().await;
    let mut link = port.link().await;
    link.send("TIME\r\nQUIT\r\n").await;
    let told = link.rest().await;
    let parts: Vec<&str> = told.split("\\r\\n").collect();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("it is later");
    let seconds: u64 = parts[2].parse().expect("seconds");
    assert!(now.as_secs().abs_diff(seconds) < 600, "{told}");
    assert!(parts[4].parse::<u32>().is_ok_and(|micros| micros < 1_000_000), "{told}");
}

#[tokio::test]
async fn info_has_the_fields_that_tools_read() {
    let port = Port::open().await;
    let mut link = port.link().await;
    link.check("SET k v", "+OK").await;
    link.check("SELECT notes", "+OK").await;
    link.check("SET k v", "+OK").await;
    let keyspaces = "# Keyspace\r\ndb0:keys=1,expires=0,avg_ttl=0,conditional=strong\r\n\
         keyspace_notes:keys=1,expires=0,avg_ttl=0,conditional=strong\r\n";
    link.check("INFO keyspace", &format!("${}\n{}", keyspaces.len(), keyspaces.replace("\r\n", "\n"))).await;
    link.send("INFO\r\nQUIT\r\n").await;
    let info = link.rest().await;
    for field in [
        "redis_version:7.0.15",
        "connected_clients:1",
        "total_commands_processed:",
        "uptime_in_days:1",
        "used_memory:",
        "maxmemory_policy:noeviction",
        "aof_enabled:1",
        "role:master",
        "used_cpu_user:",
        "cluster_enabled:0",
        "# Errorstats",
        "total_error_replies:0",
        "expired_keys:0",
        "evicted_keys:0",
        // The port and this session.
        "tasks:2",
    ] {
        assert!(info.contains(field), "{field} is missing in {info}");
    }
    assert!(!info.contains("cmdstat_"), "only who asks for all is told so much");
}
