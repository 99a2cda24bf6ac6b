//! Real processes whose data is backed up, restored, copied, put back from an older copy, exported and imported.

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crate::processes::http::get;
use crate::processes::{Client, Node, Options, PROGRAM, eventually, refused, run, succeeded};

fn start(data: &Path, peers: &[String]) -> Node {
    Node::start(PROGRAM, data, Options { peers: peers.to_vec(), ..Options::default() })
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a plain name")
}

fn replica(node: &mut Node) -> String {
    let status = node.command(&["TIDE.STATUS"]);
    let mut words = status.split_whitespace().skip_while(|word| *word != "replica");
    words.nth(1).expect("the status names the replica").to_owned()
}

fn backup(node: &Node, path: &Path) -> Output {
    run(PROGRAM, &["backup", text(path), "--node", node.redis()])
}

/// Writes until told to stop; answers how much.
fn write_all_the_time<'scope>(
    scope: &'scope thread::Scope<'scope, '_>,
    address: &str,
    stop: &'scope AtomicBool,
) -> thread::ScopedJoinHandle<'scope, u64> {
    let mut client = Client::connect(address);
    scope.spawn(move || {
        let mut count = 0;
        while !stop.load(Ordering::Relaxed) {
            let reply = client.command(&["SADD", &format!("set-{}", count % 7), &count.to_string()]);
            assert_eq!(reply.expect("the node answers"), "1");
            client.command(&["INCR", "count"]).expect("the node answers");
            count += 1;
        }
        count
    })
}

#[test]
fn backup_under_writes_is_restored_and_joins_as_another_replica() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("backup");
    let mut node = start(&folder.path().join("a"), &[]);
    assert_eq!(node.command(&["SET", "before", "1"]), "OK");
    let stop = AtomicBool::new(false);
    let address = node.redis().to_owned();
    let written = thread::scope(|scope| {
        let writer = write_all_the_time(scope, &address, &stop);
        eventually("the writer is at work", || {
            node.command(&["GET", "count"]).parse::<u64>().is_ok_and(|count| count > 50)
        });
        let said = succeeded(&backup(&node, &path));
        assert!(said.contains(" frames, "), "{said}");
        stop.store(true, Ordering::Relaxed);
        writer.join().expect("it ends")
    });
    assert!(refused(&backup(&node, &path)).contains("exists"), "a backup replaces nothing");
    let listed = succeeded(&run(PROGRAM, &["snapshot", "ls", text(folder.path())]));
    assert!(listed.starts_with("backup  sound  20") && listed.lines().count() == 1, "{listed}");
    let data = folder.path().join("restored");
    let said = succeeded(&run(PROGRAM, &["restore", text(&path), "--data", text(&data)]));
    assert!(said.contains("as a new replica"), "{said}");
    assert!(succeeded(&run(PROGRAM, &["check", text(&data)])).contains("agree"));
    let again = run(PROGRAM, &["restore", text(&path), "--data", text(&data)]);
    assert!(refused(&again).contains("is not empty"), "{again:?}");
    let mut restored = start(&data, &[]);
    let had: u64 = restored.command(&["GET", "count"]).parse().expect("a number");
    assert!((50..=written).contains(&had), "{had} of {written}");
    assert_eq!(restored.command(&["GET", "before"]), "1");
    assert_ne!(replica(&mut restored), replica(&mut node));
    restored.command(&["INCRBY", "count", "1000000"]);
    restored.command(&["TIDE.CONNECT", &node.listen()[0]]);
    eventually("both have everything", || node.fingerprint("default") == restored.fingerprint("default"));
    assert_eq!(restored.command(&["GET", "count"]), (written + 1_000_000).to_string());
    assert!(!node.command(&["TIDE.STATUS"]).contains("two histories"));
}

#[test]
fn damaged_backup_is_refused_and_nothing_is_made_of_it() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let backups = folder.path().join("backups");
    fs::create_dir(&backups).expect("it is ours");
    let mut node = start(&folder.path().join("a"), &[]);
    for n in 0..50 {
        node.command(&["SET", &format!("k{n}"), "v"]);
    }
    succeeded(&backup(&node, &backups.join("sound")));
    let bytes = fs::read(backups.join("sound")).expect("it is there");
    let mut turned = bytes.clone();
    turned[bytes.len() / 2] ^= 1;
    let mut newer = bytes.clone();
    newer[19] = 9;
    let cases: [(&str, &[u8], &str); 4] = [
        ("turned", &turned, "damaged"),
        ("cut", &bytes[..bytes.len() - 10], "cut off"),
        ("newer", &newer, "has format 9"),
        ("other", b"a note of mine", "no backup"),
    ];
    for (name, bytes, reason) in cases {
        let (path, data) = (backups.join(name), folder.path().join("restored"));
        fs::write(&path, bytes).expect("it is ours");
        let before = fs::read_dir(folder.path()).expect("it is ours").count();
        let error = refused(&run(PROGRAM, &["restore", text(&path), "--data", text(&data)]));
        assert!(error.contains(reason), "{name}: {error}");
        assert!(!data.exists());
        assert_eq!(fs::read_dir(folder.path()).expect("it is ours").count(), before, "{name}");
    }
    let listed = run(PROGRAM, &["snapshot", "ls", text(&backups)]);
    let said = String::from_utf8_lossy(&listed.stdout).into_owned();
    assert!(refused(&listed).contains("3 of these backups"));
    let states: Vec<&str> = said.lines().filter_map(|line| line.split("  ").nth(1)).collect();
    assert_eq!(states, ["damaged", "damaged", "sound", "damaged"], "{said}");
}

#[test]
fn copied_folder_takes_a_new_replica_and_a_renamed_one_keeps_its_own() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (data, moved, copy) =
        (folder.path().join("a"), folder.path().join("moved"), folder.path().join("copy"));
    let mut node = start(&data, &[]);
    node.command(&["SET", "k", "v"]);
    let before = replica(&mut node);
    assert_eq!(node.terminate(), Some(0));
    fs::rename(&data, &moved).expect("it is ours");
    let mut node = start(&moved, &[]);
    assert_eq!(replica(&mut node), before);
    assert_eq!(node.terminate(), Some(0));
    let copied = Command::new("cp").arg("-a").arg(&moved).arg(&copy).status().expect("cp is there");
    assert!(copied.success());
    let mut node = start(&copy, &[]);
    let after = replica(&mut node);
    assert_ne!(after, before);
    assert_eq!(node.command(&["GET", "k"]), "v");
    assert_eq!(node.command(&["SET", "k", "w"]), "OK");
    assert_eq!(node.terminate(), Some(0));
    assert!(succeeded(&run(PROGRAM, &["check", text(&copy)])).contains("agree"));
    let mut node = start(&copy, &[]);
    assert_eq!((replica(&mut node), node.command(&["GET", "k"])), (after, "w".to_owned()));
}

/// The bytes are written over the files that are there, so that nothing on this machine tells.
#[test]
fn older_copy_put_back_is_found_out_by_peers_and_rejoins() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (data, older) = (folder.path().join("a"), folder.path().join("older"));
    let mut node = start(&data, &[]);
    let mut peer = start(&folder.path().join("b"), node.listen());
    node.command(&["SADD", "s", "old"]);
    assert_eq!(node.command(&["WAIT", "1", "30000"]), "1");
    assert_eq!(node.terminate(), Some(0));
    fs::create_dir(&older).expect("it is ours");
    let files = ["log.redb", "log.mark", "rows.redb"];
    for name in files {
        fs::copy(data.join(name), older.join(name)).expect("it is ours");
    }
    node.restart();
    for n in 0..30 {
        assert_eq!(node.command(&["SADD", "s", &n.to_string()]), "1");
    }
    eventually("the peer has it", || peer.command(&["SCARD", "s"]) == "31");
    let before = replica(&mut node);
    assert_eq!(node.terminate(), Some(0));
    for name in files {
        fs::copy(older.join(name), data.join(name)).expect("it is ours");
    }
    node.restart();
    assert_eq!(replica(&mut node), before, "nothing tells");
    eventually("a peer tells", || node.command(&["TIDE.STATUS"]).contains("tidelock rejoin"));
    let reply = node.command(&["SADD", "s", "new"]);
    assert!(reply.starts_with("error: READONLY"), "{reply}");
    assert_eq!(node.command(&["SMEMBERS", "s"]), "[old]");
    let status = node.command(&["TIDE.STATUS"]);
    assert!(status.contains("elsewhere SADD s 0"), "{status}");
    eventually("probes are told", || get(node.http(), "/readyz").text().contains(r#"["forked"]"#));
    // It is not forgotten by restarting, with or without the peer.
    peer.signal("STOP");
    assert_eq!(node.terminate(), Some(0));
    node.restart();
    let reply = node.command(&["SADD", "s", "new"]);
    assert!(reply.starts_with("error: READONLY"), "{reply}");
    peer.signal("CONT");
    let said = succeeded(&run(PROGRAM, &["rejoin", "--node", node.redis()]));
    assert_eq!(said.trim(), replica(&mut node));
    assert_ne!(said.trim(), before);
    assert_eq!(node.command(&["SADD", "s", "new"]), "1");
    eventually("both have everything", || {
        node.fingerprint("default") == peer.fingerprint("default") && peer.command(&["SCARD", "s"]) == "32"
    });
    assert!(refused(&run(PROGRAM, &["rejoin", "--node", node.redis()])).contains("one history"));
}

#[test]
fn export_and_import_show_the_same_values() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (mut from, mut to) = (start(&folder.path().join("a"), &[]), start(&folder.path().join("b"), &[]));
    let large: Vec<String> = (0..2_500).map(|n| format!("element {n}")).collect();
    let mut add = vec!["SADD", "large"];
    add.extend(large.iter().map(String::as_str));
    from.command(&add);
    for command in [
        &["SET", "text", "grün \n \"quoted\""][..],
        &["SET", "empty", ""],
        &["INCRBY", "count", "42"],
        &["INCRBY", "negative", "-7"],
        &["INCRBY", "zero", "0"],
        &["HSET", "map", "f", "1", "", "empty field", "g", ""],
        &[
            "ZADD", "board", "inf", "top", "-inf", "bottom", "0.1", "fraction", "5e-324", "least", "-0",
            "zero",
        ],
    ] {
        assert!(!from.command(command).starts_with("error"), "{command:?}");
    }
    // Bytes that are no text come through the shell, as users give them.
    let raw = Command::new("sh")
        .args(["-c", "exec \"$0\" set \"$(printf 'k\\377')\" \"$(printf '\\200v')\" --node \"$1\""])
        .args([PROGRAM, from.redis()])
        .stdout(Stdio::null())
        .status();
    assert!(raw.expect("a shell is there").success());
    let exported = succeeded(&run(PROGRAM, &["export", "default", "--node", from.redis()]));
    assert!(exported.contains(r#"{"hex":"6bff"}"#), "{exported}");
    let path = folder.path().join("export");
    fs::write(&path, &exported).expect("it is ours");
    for _ in 0..2 {
        let said = succeeded(&run(PROGRAM, &["import", "default", text(&path), "--node", to.redis()]));
        assert!(said.ends_with("lines imported into default\n"), "{said}");
        let again = succeeded(&run(PROGRAM, &["export", "default", "--node", to.redis()]));
        assert_eq!(again, exported);
    }
    assert_eq!(to.command(&["GET", "count"]), "42");
    let board = ["ZRANGE", "board", "0", "-1", "WITHSCORES"];
    let shown = to.command(&board);
    assert_eq!(shown, from.command(&board));
    assert!(
        ["bottom", "zero", "least", "fraction", "top"].iter().all(|member| shown.contains(member)),
        "{shown}"
    );
    assert!(exported.contains(r#"["fraction","0.1"]"#), "{exported}");
    // A counter that others counted meanwhile goes to the number of the export.
    to.command(&["INCRBY", "count", "8"]);
    succeeded(&run(PROGRAM, &["import", "default", text(&path), "--node", to.redis()]));
    assert_eq!(to.command(&["GET", "count"]), "42");
    let cut: String = exported.lines().take(4).map(|line| line.to_owned() + "\n").collect();
    fs::write(&path, cut).expect("it is ours");
    let error = refused(&run(PROGRAM, &["import", "other", text(&path), "--node", to.redis()]));
    assert!(error.contains("cut off") && error.contains("3 lines were imported"), "{error}");
    to.command(&["SELECT", "third"]);
    to.command(&["SADD", "text", "a set"]);
    fs::write(
        &path,
        exported.replace(
            "\"text\",\"kind\":\"register\",\"value\":\"",
            "\"text\",\"kind\":\"map\",\"fields\":\"",
        ),
    )
    .expect("it is ours");
    let error = refused(&run(PROGRAM, &["import", "third", text(&path), "--node", to.redis()]));
    assert!(error.contains("line ") && error.contains("fields"), "{error}");
    assert_eq!(from.command(&["DBSIZE"]), "9");
}

/// A document is one line of its changes in automerge's own format, and merges where it is imported.
#[test]
fn documents_are_exported_and_merge_where_they_are_imported() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (mut from, mut to) = (start(&folder.path().join("a"), &[]), start(&folder.path().join("b"), &[]));
    from.command(&["TIDE.DOC", "SET", "page", "", r#"{"title":"list","items":["apples"]}"#]);
    from.command(&["TIDE.DOC", "SET", "page", "/title", "\"shopping\""]);
    let exported = succeeded(&run(PROGRAM, &["export", "default", "--node", from.redis()]));
    assert!(exported.contains(r#"{"key":"page","kind":"document","saved":{"hex":"856f4a83"#), "{exported}");
    let path = folder.path().join("export");
    fs::write(&path, &exported).expect("it is ours");
    let import = |to: &str| succeeded(&run(PROGRAM, &["import", "default", text(&path), "--node", to]));
    for _ in 0..2 {
        import(to.redis());
        let heads = ["TIDE.DOC", "HEADS", "page"];
        assert_eq!(to.command(&heads), from.command(&heads), "again changes nothing");
    }
    to.command(&["TIDE.DOC", "SET", "page", "/done", "true"]);
    import(to.redis());
    let shown = to.command(&["TIDE.DOC", "GET", "page"]);
    let shown: serde_json::Value = serde_json::from_str(&shown).expect("it is JSON");
    assert_eq!(shown, serde_json::json!({"title": "shopping", "items": ["apples"], "done": true}));
}
