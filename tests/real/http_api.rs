//! `/v1` of a real node: what it does, and that it is what its document says.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};

use crate::processes;
use crate::processes::http::{Response, connect, get, read, send};
use crate::processes::{Node, Options, PROGRAM, schema};
use serde_json::{Value, json};

/// Where a set is that has no scores.
const SORTED: &str = "/v1/keyspaces/notes/sorted-sets/list";

/// A node, its document, and what of that was asked for.
struct Api {
    _folder: tempfile::TempDir,
    node: Node,
    document: Value,
    used: BTreeSet<String>,
}

impl Api {
    fn start(settings: &str) -> Self {
        Self::start_with(settings, &[])
    }

    fn start_with(settings: &str, more: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let config = folder.path().join("tidelock.toml");
        std::fs::write(&config, settings).expect("it is ours");
        let mut arguments = vec!["--config".to_owned(), config.to_str().expect("a plain name").to_owned()];
        arguments.extend(more.iter().map(ToString::to_string));
        let data = folder.path().join("node");
        let node = Node::start(PROGRAM, &data, Options { arguments, ..Options::default() });
        let document = get(node.http(), "/v1/openapi.json").json();
        Self { _folder: folder, node, document, used: BTreeSet::new() }
    }

    /// Asks, and holds what is sent and answered against the document.
    fn ask(&mut self, method: &str, path: &str, body: Option<&[u8]>) -> Response {
        let operation = self.operation(method, path);
        let content_type = operation["requestBody"]["content"].as_object();
        let content_type =
            content_type.and_then(|content| content.keys().next()).cloned().unwrap_or_default();
        let headers = [("content-type", content_type.as_str())];
        let headers = if body.is_some() { &headers[..] } else { &[] };
        let response = send(self.node.http(), method, path, headers, body.unwrap_or_default());
        let response = response.expect("the node answers");
        let documented = match &operation["responses"][response.status.to_string()] {
            Value::Null => &operation["responses"]["default"],
            documented => documented,
        };
        assert!(response.status >= 400 || *documented != operation["responses"]["default"], "{response:?}");
        match documented["content"].as_object().and_then(|content| content.iter().next()) {
            None => assert!(response.body.is_empty(), "{response:?}"),
            Some((content_type, content)) => {
                let line = format!("content-type: {content_type}");
                assert!(response.head.contains(&line), "not {line}: {}", response.head);
                if content_type.contains("json") {
                    let checked = schema::check(&self.document, &content["schema"], &response.json());
                    checked.unwrap_or_else(|error| panic!("{method} {path}: {error}"));
                }
            }
        }
        if response.status < 400 {
            self.used.insert(operation["operationId"].as_str().expect("it has one").to_owned());
        }
        response
    }

    fn operation(&self, method: &str, path: &str) -> Value {
        let plain = path.split('?').next().expect("a path");
        let mut paths = self.document["paths"].as_object().expect("paths").iter();
        let fits = |template: &str| {
            let (template, path) = (template.split('/'), plain.split('/'));
            template.clone().count() == path.clone().count()
                && template.zip(path).all(|(part, given)| part.starts_with('{') || part == given)
        };
        let (_, found) = paths.find(|(template, _)| fits(template)).expect("a documented path");
        let operation = &found[method.to_lowercase()];
        assert!(operation.is_object(), "{method} {path} is not documented");
        operation.clone()
    }

    fn get(&mut self, path: &str) -> Value {
        let response = self.ask("GET", path, None);
        assert_eq!(response.status, 200, "{path}: {}", response.text());
        response.json()
    }

    /// Sends JSON that is as documented.
    fn post(&mut self, path: &str, body: &Value) -> Response {
        let operation = self.operation("POST", path);
        let schema = &operation["requestBody"]["content"]["application/json"]["schema"];
        let checked = schema::check(&self.document, schema, body);
        checked.unwrap_or_else(|error| panic!("{path}: {error}"));
        self.ask("POST", path, Some(body.to_string().as_bytes()))
    }

    fn done(&mut self, path: &str, body: &Value) -> Value {
        let response = self.post(path, body);
        assert_eq!(response.status, 200, "{path}: {}", response.text());
        response.json()
    }

    fn refused(&mut self, method: &str, path: &str, body: Option<&[u8]>) -> (u16, String) {
        let response = self.ask(method, path, body);
        (response.status, response.code())
    }
}

#[test]
fn everything_that_is_documented_works_as_documented() {
    let mut api = Api::start("");
    api.get("/v1/openapi.json");
    let title = "/v1/keyspaces/notes/registers/title";
    assert_eq!(api.refused("GET", title, None), (404, "not_found".to_owned()));
    assert_eq!(api.ask("PUT", title, Some(b"\xff\x00groceries")).status, 204);
    assert_eq!(api.ask("GET", title, None).body, b"\xff\x00groceries");
    let edits = "/v1/keyspaces/notes/counters/edits?durability=buffered";
    assert_eq!(api.done(edits, &json!({ "add": 5 })), json!({ "value": 5 }));
    assert_eq!(api.done(edits, &json!({ "add": -7 })), json!({ "value": -2 }));
    assert_eq!(api.get("/v1/keyspaces/notes/counters/edits"), json!({ "value": -2 }));
    assert_eq!(api.get("/v1/keyspaces/notes/counters/none"), json!({ "value": 0 }));
    let list = "/v1/keyspaces/notes/sets/list";
    let change = json!({ "add": ["apples", "pears", { "hex": "ff00" }] });
    assert_eq!(api.done(list, &change), json!({ "removed": 0, "added": 3 }));
    let change = json!({ "remove": ["pears", "plums"], "add": ["apples"] });
    assert_eq!(api.done(list, &change), json!({ "removed": 1, "added": 0 }));
    assert_eq!(api.get(list), json!({ "elements": ["apples", { "hex": "ff00" }] }));
    assert_eq!(api.get(&format!("{list}?contains=%ff%00")), json!({ "contains": true }));
    assert_eq!(api.get(&format!("{list}?contains=pears")), json!({ "contains": false }));
    let profile = "/v1/keyspaces/notes/maps/profile";
    let change =
        json!({ "put": [{ "field": "city", "value": "Bergen" }, { "field": "mail", "value": "a@b" }] });
    assert_eq!(api.done(profile, &change), json!({ "removed": 0, "added": 2 }));
    assert_eq!(api.done(profile, &json!({ "remove": ["mail"] })), json!({ "removed": 1, "added": 0 }));
    assert_eq!(api.get(profile), json!({ "fields": [{ "field": "city", "value": "Bergen" }] }));
    assert_eq!(api.get(&format!("{profile}?field=city")), json!({ "value": "Bergen" }));
    let missing = api.refused("GET", &format!("{profile}?field=mail"), None);
    assert_eq!(missing, (404, "not_found".to_owned()));
    sorted_sets(&mut api);
    let batch = json!({ "writes": [
        { "op": "set", "key": "k", "value": { "hex": "fe" } },
        { "op": "increment", "key": "edits", "by": 3 },
        { "op": "add", "key": "list", "element": "figs" },
        { "op": "remove", "key": "list", "element": "apples" },
        { "op": "put", "key": "profile", "field": "name", "value": "n" },
        { "op": "unset", "key": "profile", "field": "city" },
        { "op": "score", "key": "board", "member": "dan", "score": "inf" },
        { "op": "unscore", "key": "board", "member": "cid" },
        { "op": "delete", "key": "title" },
    ] });
    let one = json!({ "changed": 1 });
    let outcomes = json!({ "outcomes": [{}, { "value": 1 }, one, one, one, one, one, one, one] });
    assert_eq!(api.done("/v1/keyspaces/notes/batch", &batch), outcomes);
    let key = api.get("/v1/keyspaces/notes/keys/k");
    assert_eq!(key, json!({ "key": "k", "kind": "register", "conflicts": 0 }));
    assert_eq!(api.refused("GET", "/v1/keyspaces/notes/keys/title", None), (404, "not_found".to_owned()));
    let key = api.get("/v1/keyspaces/notes/keys/board");
    assert_eq!(key, json!({ "key": "board", "kind": "sorted", "conflicts": 0 }));
    let keys = api.get("/v1/keyspaces/notes/keys?limit=4");
    assert_eq!(keys, json!({ "keys": ["board", "edits", "k", "list"], "next": "list" }));
    let keys = api.get("/v1/keyspaces/notes/keys?limit=3&after=list");
    assert_eq!(keys, json!({ "keys": ["profile"], "next": null }));
    assert_eq!(api.get("/v1/keyspaces/notes/keys?prefix=e")["keys"], json!(["edits"]));
    let removed = api.ask("DELETE", "/v1/keyspaces/notes/keys/k", None).json();
    assert_eq!(removed, json!({ "removed": true }));
    assert_eq!(api.get("/v1/keyspaces")["keyspaces"][0]["name"], "notes");
    // The Redis port sees the same.
    assert_eq!(api.node.command(&["SELECT", "notes"]), "OK");
    assert_eq!(api.node.command(&["GET", "edits"]), "1");
    assert_eq!(api.node.command(&["ZSCORE", "board", "dan"]), "inf");
    let documented = api.document["paths"].as_object().expect("paths").values();
    let operations = documented.flat_map(|path| path.as_object().expect("methods").values());
    let operations = operations.filter_map(|operation| operation["operationId"].as_str());
    let unused: Vec<&str> = operations.filter(|id| !api.used.contains(*id) && *id != "watch").collect();
    assert!(unused.is_empty(), "not asked for: {unused:?}");
}

/// Leaves a board of ann, bob and cid.
fn sorted_sets(api: &mut Api) {
    let board = "/v1/keyspaces/notes/sorted-sets/board";
    assert_eq!(api.get(board), json!({ "members": [], "next": null }));
    let scored = |member: &str, score: Value| json!({ "member": member, "score": score });
    let (ann, bob, eve) = (json!(-2.5), json!(0.1), json!("-inf"));
    let put = [scored("ann", ann), scored("bob", bob), scored("cid", json!(7)), scored("eve", eve)];
    assert_eq!(api.done(board, &json!({ "put": put })), json!({ "removed": 0, "added": 4 }));
    let change = json!({ "remove": ["eve", "nobody"], "put": [scored("cid", json!(7.5))] });
    assert_eq!(api.done(board, &change), json!({ "removed": 1, "added": 0 }));
    let [ann, bob, cid] = [("ann", -2.5), ("bob", 0.1), ("cid", 7.5)].map(|(m, s)| scored(m, json!(s)));
    for (query, members, next) in [
        ("", json!([ann, bob, cid]), json!(null)),
        ("?start=1&stop=1", json!([bob]), json!(null)),
        ("?start=-2", json!([bob, cid]), json!(null)),
        ("?reverse=true&limit=2", json!([cid, bob]), json!(2)),
        ("?reverse=true&limit=2&offset=2", json!([ann]), json!(null)),
        ("?min=-2.5&max=0.1", json!([ann, bob]), json!(null)),
        ("?min=(-2.5&max=inf&limit=1", json!([bob]), json!(1)),
        ("?min=(-2.5&max=inf&limit=1&offset=1", json!([cid]), json!(2)),
        ("?min=(-2.5&max=inf&reverse=true", json!([cid, bob]), json!(null)),
        ("?min=8", json!([]), json!(null)),
    ] {
        let page = api.get(&format!("{board}{query}"));
        assert_eq!(page, json!({ "members": members, "next": next }), "{query}");
    }
    assert_eq!(api.get(&format!("{board}?member=bob")), json!({ "score": 0.1, "rank": 1 }));
    let missing = api.refused("GET", &format!("{board}?member=eve"), None);
    assert_eq!(missing, (404, "not_found".to_owned()));
}

#[test]
fn mistakes_are_refused_with_their_code_and_change_nothing() {
    let mut api = Api::start("[quota]\nsmall = 100\n");
    api.done("/v1/keyspaces/notes/sets/list", &json!({ "add": ["apples"] }));
    api.ask("PUT", "/v1/keyspaces/notes/registers/text", Some(b"text"));
    let list = "/v1/keyspaces/notes/sets/list";
    let counter = "/v1/keyspaces/notes/counters/text";
    for (method, path, body, status, code) in [
        ("GET", "/v1/keyspaces/notes/registers/list", None, 409, "wrong_kind"),
        ("POST", "/v1/keyspaces/notes/counters/list", Some(r#"{"add":1}"#), 409, "wrong_kind"),
        ("POST", counter, Some(r#"{"add":1}"#), 409, "not_an_integer"),
        ("POST", counter, Some(r#"{"add":1.5}"#), 400, "bad_request"),
        ("POST", counter, Some(r#"{"add":9223372036854775808}"#), 400, "bad_request"),
        ("POST", counter, Some(r#"{"add":1,"more":1}"#), 400, "bad_request"),
        ("POST", counter, Some("{"), 400, "bad_request"),
        ("POST", list, Some(r#"{"add":[1]}"#), 400, "bad_request"),
        ("POST", list, Some(r#"{"add":[{"hex":"f"}]}"#), 400, "bad_request"),
        ("POST", "/v1/keyspaces/notes/batch", Some(r#"{"writes":[{"op":"x"}]}"#), 400, "bad_request"),
        ("GET", "/v1/keyspaces/notes/sorted-sets/list", None, 409, "wrong_kind"),
        ("POST", SORTED, Some(r#"{"put":[{"member":"m","score":1}]}"#), 409, "wrong_kind"),
        ("POST", SORTED, Some(r#"{"put":[{"member":"m","score":NaN}]}"#), 400, "bad_request"),
        ("POST", SORTED, Some(r#"{"put":[{"member":"m","score":"nan"}]}"#), 400, "bad_request"),
        ("POST", SORTED, Some(r#"{"put":[{"member":"m","score":1e999}]}"#), 400, "bad_request"),
        ("POST", SORTED, Some(r#"{"put":[{"member":"m"}]}"#), 400, "bad_request"),
        ("GET", "/v1/keyspaces/notes/sorted-sets/s?min=nan", None, 400, "bad_request"),
        ("GET", "/v1/keyspaces/notes/sorted-sets/s?start=0&max=1", None, 400, "bad_request"),
        ("GET", "/v1/keyspaces/notes/sorted-sets/s?start=0.5", None, 400, "bad_request"),
        ("GET", "/v1/keyspaces/notes/sorted-sets/s?member=m&limit=1", None, 400, "bad_request"),
        ("GET", "/v1/keyspaces/notes/sorted-sets/s?reverse=1", None, 400, "bad_request"),
        ("GET", "/v1/keyspaces/notes/sorted-sets/s?limit=10001", None, 400, "bad_request"),
        ("GET", "/v1/keyspaces/notes/sets/list?durability=durable", None, 400, "bad_request"),
        ("GET", "/v1/keyspaces/notes/keys?limit=0", None, 400, "bad_request"),
        ("GET", "/v1/keyspaces/notes/keys?limit=10001", None, 400, "bad_request"),
        ("GET", "/v1/keyspaces/%ff/keys", None, 400, "bad_request"),
        ("DELETE", "/v1/keyspaces/notes/keys/list?durability=fast", None, 400, "bad_request"),
        ("GET", "/v1/keyspaces/notes/watch?key=a&prefix=b", None, 400, "bad_request"),
        ("GET", "/v1/keyspaces/notes/watch?after=-1", None, 400, "bad_request"),
    ] {
        let refused = api.refused(method, path, body.map(str::as_bytes));
        assert_eq!(refused, (status, code.to_owned()), "{method} {path} {body:?}");
    }
    let writes = json!({ "writes": [
        { "op": "add", "key": "list", "element": "figs" },
        { "op": "add", "key": "text", "element": "figs" },
    ] });
    let response = api.post("/v1/keyspaces/notes/batch", &writes);
    assert_eq!((response.status, response.code().as_str()), (409, "wrong_kind"));
    let large = vec![b'x'; 200];
    let refused = api.refused("PUT", "/v1/keyspaces/small/registers/k", Some(&large));
    assert_eq!(refused, (507, "over_quota".to_owned()));
    let form = [("content-type", "text/plain")];
    let response = send(api.node.http(), "POST", list, &form, br#"{"add":["figs"]}"#).expect("it answers");
    assert_eq!((response.status, response.code().as_str()), (415, "unsupported_media_type"));
    assert_eq!(api.get(list), json!({ "elements": ["apples"] }), "nothing was done");
    assert_eq!(api.ask("GET", "/v1/keyspaces/notes/registers/text", None).body, b"text");
}

/// Bodies are bounded by what they say, by what comes, by time, and all together.
#[test]
fn giant_and_slow_bodies_are_bounded() {
    let mut api = Api::start("[http]\nbody_bytes_max = 4096\nbuffers_bytes_max = 8192\ntimeout_s = 1\n");
    let path = "/v1/keyspaces/notes/registers/k";
    assert_eq!(api.ask("PUT", path, Some(&[b'x'; 4096])).status, 204, "at the bound");
    assert_eq!(api.refused("PUT", path, Some(&[b'x'; 4097])), (413, "body_too_large".to_owned()));
    let begin = |length: &str, body: &[u8]| {
        let mut stream = connect(api.node.http()).expect("it accepts");
        write!(stream, "PUT {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n{length}\r\n\r\n")
            .expect("it reads");
        // It may hang up before it has read all.
        let _ = stream.write_all(body);
        stream
    };
    let code = |stream: &mut TcpStream| read(stream).map_or_else(|_| "closed".to_owned(), |it| it.code());
    assert_eq!(code(&mut begin("content-length: 1099511627776", b"")), "body_too_large");
    let chunk = format!("ffff\r\n{}", "y".repeat(0xffff));
    let given = code(&mut begin("transfer-encoding: chunked", chunk.as_bytes()));
    assert_eq!(given, "body_too_large", "whatever it says");
    // Two that never come to an end take all the room there is; when their time is over, others have it.
    let mut slow = ["content-length: 4096", "transfer-encoding: chunked"].map(|length| {
        let mut stream = begin(&format!("{length}\r\nexpect: 100-continue"), b"");
        let mut go_on = [0; 25];
        stream.read_exact(&mut go_on).expect("there is room");
        assert_eq!(&go_on, b"HTTP/1.1 100 Continue\r\n\r\n");
        stream
    });
    assert_eq!(code(&mut begin("content-length: 4096", b"")), "busy");
    for stream in &mut slow {
        assert_eq!(code(stream), "body_too_slow");
    }
    let mut cut = begin("content-length: 4096", b"half");
    cut.shutdown(Shutdown::Write).expect("it is open");
    let mut rest = Vec::new();
    let _ = cut.read_to_end(&mut rest);
    assert!(!rest.starts_with(b"HTTP/1.1 2"), "half a body is none");
    assert_eq!(api.ask("GET", path, None).body, [b'x'; 4096], "the first one stands");
}

/// An answer takes room until its client has it; a client that takes nothing is hung up on.
#[test]
fn client_that_does_not_read_gives_its_room_back() {
    let bytes = 16 << 20;
    let mut api = Api::start(&format!("[http]\nbuffers_bytes_max = {bytes}\ntimeout_s = 1\n"));
    let path = "/v1/keyspaces/notes/registers/k";
    assert_eq!(api.ask("PUT", path, Some(&vec![b'x'; bytes])).status, 204);
    let mut stream = connect(api.node.http()).expect("it accepts");
    write!(stream, "GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n").expect("it reads");
    let mut begin = [0; 12];
    stream.read_exact(&mut begin).expect("it answers");
    assert_eq!(&begin, b"HTTP/1.1 200");
    assert_eq!(api.refused("GET", path, None), (503, "busy".to_owned()));
    processes::eventually("there is room again", || get(api.node.http(), path).status == 200);
    let mut rest = Vec::new();
    // Some of it was on its way.
    let _ = stream.read_to_end(&mut rest);
    assert!(rest.len() < bytes, "it was hung up on");
}

/// Whoever does not know what became of a write asks for the same by the same key.
#[test]
fn write_with_an_idempotency_key_is_done_once() {
    let api = Api::start_with("", &["--found"]);
    let mut node = api.node;
    assert_eq!(node.command(&["TIDE.MODE", "ks", "STRONG"]), "OK");
    let send_as = |keyspace: &str, key: &str, body: &str| {
        let headers = [("content-type", "application/json"), ("idempotency-key", key)];
        let path = format!("/v1/keyspaces/{keyspace}/counters/n");
        send(node.http(), "POST", &path, &headers, body.as_bytes()).expect("the node answers")
    };
    let count = |key: &str| send_as("ks", key, r#"{"add":5}"#);
    let cases = [
        ("8e03-a57f", 5),
        ("\"8e03-a57f\"", 5),
        ("\"till-3\";number=1", 10),
        ("\"till-3\";number=2", 15),
        ("\"till-3\";number=1", 10),
        ("8e03-a57f", 5),
    ];
    for (key, value) in cases {
        let counted = count(key);
        assert_eq!((counted.status, counted.json()), (200, json!({ "value": value })), "{key}");
    }
    let refused = |response: Response| (response.status, response.code());
    let other = send_as("ks", "8e03-a57f", r#"{"add":6}"#);
    assert_eq!(refused(other), (422, "other_operation".to_owned()));
    assert_eq!(count("\"till-3\";number=9000").status, 200);
    assert_eq!(refused(count("\"till-3\";number=3")), (410, "forgotten".to_owned()));
    assert_eq!(refused(count("\"till-3\";number=x")), (400, "bad_request".to_owned()));
    assert_eq!(refused(send_as("notes", "8e03-a57f", r#"{"add":5}"#)), (409, "needs_strong".to_owned()));
    let value = get(node.http(), "/v1/keyspaces/ks/counters/n").json();
    assert_eq!(value, json!({ "value": 20 }));
    assert_eq!(node.terminate(), Some(0));
}

/// Reads server-sent events.
struct Events(BufReader<TcpStream>);

impl Events {
    fn of(node: &Node, path: &str, headers: &str) -> Self {
        let mut stream = connect(node.http()).expect("it accepts");
        write!(stream, "GET {path} HTTP/1.1\r\nhost: localhost\r\n{headers}\r\n").expect("it reads");
        let mut events = Self(BufReader::new(stream));
        assert_eq!(events.line(), "HTTP/1.1 200 OK");
        let head: Vec<String> =
            std::iter::from_fn(|| Some(events.line()).filter(|line| !line.is_empty())).collect();
        assert!(head.contains(&"content-type: text/event-stream".to_owned()), "{head:?}");
        events
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).expect("the node answers");
        line.trim_end().to_owned()
    }

    /// Name, id and data of the next event.
    fn next(&mut self) -> (String, String, Value) {
        let (mut name, mut id) = (String::new(), String::new());
        loop {
            let line = self.line();
            if let Some(text) = line.strip_prefix("event: ") {
                text.clone_into(&mut name);
            } else if let Some(text) = line.strip_prefix("id: ") {
                text.clone_into(&mut id);
            } else if let Some(text) = line.strip_prefix("data: ") {
                return (name, id, serde_json::from_str(text).expect("it is JSON"));
            }
        }
    }
}

/// A page that was closed for a while comes back with the id of its last event and has missed nothing.
#[test]
fn watch_tells_changes_and_goes_on_where_it_was() {
    let mut api = Api::start("");
    let list = "/v1/keyspaces/notes/sets/list";
    api.done(list, &json!({ "add": ["before"] }));
    let watch = "/v1/keyspaces/notes/watch?prefix=li";
    let mut events = Events::of(&api.node, watch, "");
    api.done("/v1/keyspaces/notes/sets/other", &json!({ "add": ["x"] }));
    api.done(list, &json!({ "add": [{ "hex": "ff" }] }));
    let (name, id, data) = events.next();
    assert_eq!((name.as_str(), &data["new"]), ("change", &json!({ "hex": "ff" })));
    assert_eq!(data["cursor"].to_string(), id);
    let change = &api.document["components"]["schemas"]["Change"];
    schema::check(&api.document, change, &data).expect("it is as documented");
    drop(events);
    api.done(list, &json!({ "remove": [{ "hex": "ff" }] }));
    api.done(list, &json!({ "add": ["missed"] }));
    let mut events = Events::of(&api.node, watch, &format!("last-event-id: {id}\r\n"));
    let mut told = Vec::new();
    while told.last() != Some(&json!("missed")) {
        told.push(events.next().2["new"].clone());
    }
    assert!(!told.contains(&json!("before")), "{told:?}");
    // A watch does not keep the node from ending.
    assert_eq!(api.node.terminate(), Some(0));
}

/// Of a strong keyspace whoever comes back with the last revision is told all behind it, once, with the values of then.
#[test]
fn strong_keyspace_is_watched_by_revision() {
    let mut api = Api::start_with("", &["--found"]);
    let watch = "/v1/keyspaces/ks/watch?prefix=k&after_revision=0";
    assert_eq!(api.refused("GET", watch, None), (400, "bad_request".to_owned()));
    api.node.command(&["TIDE.MODE", "ks", "STRONG"]);
    for value in ["1", "2"] {
        assert_eq!(api.ask("PUT", "/v1/keyspaces/ks/registers/k", Some(value.as_bytes())).status, 204);
    }
    api.done("/v1/keyspaces/ks/sets/other", &json!({ "add": ["x"] }));
    assert_eq!(api.ask("DELETE", "/v1/keyspaces/ks/keys/k", None).status, 200);
    let mut last = String::new();
    let mut next = |events: &mut Events| {
        let (name, id, data) = events.next();
        assert_eq!((name.as_str(), data["revision"].to_string()), ("operation", id.clone()));
        let operation = &api.document["components"]["schemas"]["Operation"];
        schema::check(&api.document, operation, &data).expect("it is as documented");
        last = id;
        data["changes"].clone()
    };
    let written = |value| json!([{ "change": "written", "key": "k", "kind": "register", "subkey": "", "value": value }]);
    let mut events = Events::of(&api.node, watch, "");
    assert_eq!(next(&mut events), written("1"));
    assert_eq!(next(&mut events), written("2"));
    let removed = json!([{ "change": "removed", "key": "k", "kind": "register", "subkey": "" }]);
    assert_eq!(next(&mut events), removed);
    drop(events);
    let header = format!("last-event-id: {last}\r\n");
    let put = send(api.node.http(), "PUT", "/v1/keyspaces/ks/registers/k", &[], b"3");
    assert_eq!(put.expect("the node answers").status, 204);
    let mut events = Events::of(&api.node, watch, &header);
    assert_eq!(events.next().2["changes"], written("3"));
    assert_eq!(api.node.terminate(), Some(0));
}

/// The same paths, of a keyspace whose anchors are asked.
#[test]
fn strong_keyspaces_are_served_as_documented() {
    let mut api = Api::start_with("", &["--found"]);
    api.node.command(&["TIDE.MODE", "ks", "STRONG"]);
    let put = api.ask("PUT", "/v1/keyspaces/ks/registers/k", Some(b"v"));
    assert_eq!(put.status, 204);
    let found = api.ask("GET", "/v1/keyspaces/ks/registers/k", None);
    assert_eq!((found.status, found.body.as_slice()), (200, &b"v"[..]));
    api.done("/v1/keyspaces/ks/counters/n", &json!({ "add": 5 }));
    assert_eq!(api.get("/v1/keyspaces/ks/counters/n")["value"], 5);
    api.done("/v1/keyspaces/ks/sets/s", &json!({ "add": ["a", "b"] }));
    assert_eq!(api.get("/v1/keyspaces/ks/sets/s")["elements"], json!(["a", "b"]));
    assert_eq!(api.get("/v1/keyspaces/ks/sets/s?contains=a")["contains"], true);
    api.done("/v1/keyspaces/ks/maps/m", &json!({ "put": [{ "field": "f", "value": "v" }] }));
    assert_eq!(api.get("/v1/keyspaces/ks/maps/m?field=f")["value"], "v");
    api.done("/v1/keyspaces/ks/sorted-sets/z", &json!({ "put": [{ "member": "a", "score": 1 }] }));
    assert_eq!(api.get("/v1/keyspaces/ks/sorted-sets/z?member=a")["rank"], 0);
    assert_eq!(api.get("/v1/keyspaces/ks/keys")["keys"], json!(["k", "m", "n", "s", "z"]));
    assert_eq!(api.get("/v1/keyspaces/ks/keys/k")["kind"], "register");
    let refused = api.refused("GET", "/v1/keyspaces/ks/registers/s", None);
    assert_eq!(refused, (409, "wrong_kind".to_owned()));
    let keyspaces = api.get("/v1/keyspaces");
    let keyspace = &keyspaces["keyspaces"][0];
    assert_eq!((&keyspace["mode"], &keyspace["standing"]), (&json!("strong"), &json!("exact")));
}
