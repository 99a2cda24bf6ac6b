//! TIDE.DOC, by example, and how the other commands take a key that holds a document.

use tidelock_engine::write::Write;

use super::Port;

#[tokio::test]
async fn subcommands_reach_the_node_and_answer_in_their_form() {
    let port = Port::open().await;
    let mut link = port.link().await;
    for (command, answer) in [
        ("TIDE.DOC GET k", "$7\nGet(\"\")"),
        ("tide.doc get k /a/0", "$11\nGet(\"/a/0\")"),
        ("TIDE.DOC GET nothing", "$-1"),
        ("TIDE.DOC SET k /a [1]", "+OK"),
        ("TIDE.DOC PATCH k {}", "+OK"),
        ("TIDE.DOC HEADS k", "*1\n$1\nk"),
        ("TIDE.DOC SAVE k", "$4\nSave"),
        ("TIDE.DOC LOAD k ab", "$14\nLoad([97, 98])"),
    ] {
        link.check(command, answer).await;
    }
}

#[tokio::test]
async fn what_is_wrong_with_a_command_is_said_on_one_line() {
    let port = Port::open().await;
    let mut link = port.link().await;
    for (command, answer) in [
        ("TIDE.DOC", "-ERR wrong number of arguments for 'tide.doc' command"),
        ("TIDE.DOC GET", "-ERR wrong number of arguments for 'tide.doc' command"),
        ("TIDE.DOC GET a b c", "-ERR wrong number of arguments for 'tide.doc|get' command"),
        ("TIDE.DOC SET a b", "-ERR wrong number of arguments for 'tide.doc|set' command"),
        ("TIDE.DOC heads a b", "-ERR wrong number of arguments for 'tide.doc|heads' command"),
        ("TIDE.DOC FROB a", "-ERR unknown subcommand 'FROB'. Try TIDE.DOC HELP."),
        ("TIDE.DOC SET k /a {", "-ERR not JSON: EOF while parsing an object at line 1 column 1"),
        ("TIDE.DOC GET refused", "-ERR the edit was refused: two  lines"),
        ("TIDE.DOC GET outdated", "-TRYAGAIN the document kept changing meanwhile; try again"),
    ] {
        link.check(command, answer).await;
    }
    link.send("MULTI\r\nTIDE.DOC GET k\r\nDISCARD\r\nQUIT\r\n").await;
    let refused = "+OK\\r\\n-ERR Command not allowed inside a transaction\\r\\n+OK\\r\\n+OK\\r\\n";
    assert_eq!(link.rest().await, refused);
}

#[tokio::test]
async fn other_commands_see_a_document_as_a_type_of_its_own() {
    let port = Port::open().await;
    let mut link = port.link().await;
    let (key, chunk) = (b"doc".to_vec(), b"chunk".to_vec());
    port.double.write(Write::Change { key, chunk, base: Vec::new(), replaced: Vec::new() });
    let wrong = "-WRONGTYPE Operation against a key holding the wrong kind of value";
    for (command, answer) in [
        ("TYPE doc", "+document"),
        ("EXISTS doc", ":1"),
        ("DBSIZE", ":1"),
        ("GET doc", wrong),
        ("INCR doc", wrong),
        ("SADD doc e", wrong),
        ("SMEMBERS doc", wrong),
        ("HSET doc f v", wrong),
        ("HGET doc f", wrong),
        ("MGET doc", "*1\n$-1"),
        ("SET doc text", "+OK"),
        ("TYPE doc", "+string"),
    ] {
        link.check(command, answer).await;
    }
    let (key, chunk) = (b"gone".to_vec(), b"chunk".to_vec());
    port.double.write(Write::Change { key, chunk, base: Vec::new(), replaced: Vec::new() });
    link.check("DEL gone", ":1").await;
    link.check("EXISTS gone", ":0").await;
}
