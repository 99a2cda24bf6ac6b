//! What real nodes tell Prometheus after real work.

use std::io::Write;

use crate::processes::http::{connect, get, send};
use crate::processes::{Node, Options, PROGRAM, eventually};

/// The metrics of a node: the value of the one series whose name and labels begin so.
struct Metrics(String);

impl Metrics {
    fn of(node: &Node) -> Self {
        let response = get(node.http(), "/metrics");
        assert_eq!(response.status, 200);
        assert!(response.head.contains("content-type: text/plain; version=0.0.4"), "{}", response.head);
        Self(response.text())
    }

    fn get(&self, series: &str) -> f64 {
        let mut lines = self.0.lines().filter_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        let value = lines.next().unwrap_or("0").parse().expect("a number");
        assert!(lines.next().is_none(), "{series} is there twice");
        value
    }

    /// All series of a metric together.
    fn sum(&self, name: &str) -> f64 {
        let lines = self.0.lines().filter(|line| line.starts_with(&format!("{name}{{")));
        lines.map(|line| line.rsplit(' ').next().expect("a value").parse::<f64>().expect("a number")).sum()
    }

    /// The names of all metrics.
    fn names(&self) -> Vec<String> {
        let names = self.0.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next());
        names.map(str::to_owned).collect()
    }
}

#[test]
fn work_shows_in_the_metrics() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut one = Node::start(PROGRAM, &folder.path().join("one"), Options::default());
    let peers = one.listen().to_vec();
    let two = Node::start(PROGRAM, &folder.path().join("two"), Options { peers, ..Options::default() });
    for element in ["a", "b", "c"] {
        assert_eq!(one.command(&["SADD", "set", element]), "1");
    }
    assert_eq!(one.command(&["INCR", "n"]), "1");
    assert_eq!(one.command(&["WAIT", "1", "30000"]), "1");
    let mut garbage = connect(one.redis()).expect("it accepts");
    garbage.write_all(b"*1\r\n$x\r\n").expect("it reads");
    let refused = send(one.http(), "GET", "/metrics", &[("host", "evil.example.org")], b"");
    assert_eq!(refused.expect("it answers").status, 421);
    eventually("the refused client is counted", || {
        Metrics::of(&one).get(r#"tidelock_refused_total{door="redis",reason="malformed"}"#) > 0.0
    });
    // What the engine counts is known a moment later.
    eventually("its operations are counted", || {
        Metrics::of(&one).get(r#"tidelock_events_total{event="operations_made"}"#) >= 4.0
    });
    let metrics = Metrics::of(&one);
    for (series, expected) in [
        (r#"tidelock_writes_total{kind="add"}"#, 3.0),
        (r#"tidelock_writes_total{kind="increment"}"#, 1.0),
        (r#"tidelock_redis_command_seconds_count{command="sadd"}"#, 3.0),
        (r#"tidelock_keyspace_keys{keyspace="default"}"#, 2.0),
        (r#"tidelock_refused_total{door="http",reason="host_not_allowed"}"#, 1.0),
        ("tidelock_ready", 1.0),
        ("tidelock_keys", 2.0),
        ("tidelock_peers_connected", 1.0),
    ] {
        assert!((metrics.get(series) - expected).abs() < f64::EPSILON, "{series} is {}", metrics.get(series));
    }
    for series in [
        "tidelock_turn_seconds_count",
        "tidelock_turn_inputs_count",
        "tidelock_commit_seconds_count",
        r#"tidelock_sync_seconds_count{file="log"}"#,
        r#"tidelock_file_bytes{file="log"}"#,
        "tidelock_log_position",
        "tidelock_disk_left_bytes",
        "tidelock_http_connections",
        "tidelock_redis_commands_total",
        "process_resident_memory_bytes",
    ] {
        assert!(metrics.get(series) > 0.0, "{series}\n{}", metrics.0);
    }
    assert!(metrics.sum("tidelock_peer_bytes_total") > 0.0);
    eventually("a round trip is known", || Metrics::of(&one).sum("tidelock_peer_round_trip_seconds") > 0.0);
    eventually("the other has them", || {
        Metrics::of(&two).get(r#"tidelock_events_total{event="operations_applied"}"#) >= 4.0
    });
    eventually("the rows were compared", || {
        Metrics::of(&two).get(r#"tidelock_events_total{event="checks"}"#) > 0.0
    });
}

/// A proposal is committed before it is applied, and what a guest is asked for is forwarded.
#[test]
fn work_of_anchors_shows_in_the_metrics() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let arguments = vec!["--found".to_owned()];
    let options = Options { arguments, ..Options::default() };
    let mut anchor = Node::start(PROGRAM, &folder.path().join("anchor"), options);
    let arguments = vec!["--anchors".to_owned(), "0".to_owned()];
    let options = Options { peers: anchor.listen().to_vec(), arguments, ..Options::default() };
    let mut guest = Node::start(PROGRAM, &folder.path().join("guest"), options);
    eventually("it is strong", || anchor.command(&["TIDE.MODE", "default", "STRONG"]) == "OK");
    eventually("the guest knows", || guest.command(&["TIDE.MODE", "default"]).contains("strong"));
    for number in 1..=5 {
        eventually("it is counted", || {
            guest.command(&["TIDE.AS", "c", &number.to_string(), "INCR", "n"]) == number.to_string()
        });
    }
    assert_eq!(anchor.command(&["GET", "n"]), "5");
    eventually("what the engine counts is known", || {
        Metrics::of(&anchor).get(r#"tidelock_forwarded_total{direction="in"}"#) >= 5.0
    });
    let metrics = Metrics::of(&anchor);
    for series in [
        "tidelock_anchor_elections_total",
        "tidelock_anchor_leaders_total",
        "tidelock_anchor_log_entries",
        "tidelock_group_commit_seconds_count",
        "tidelock_group_apply_seconds_count",
        "tidelock_group_barrier_seconds_count",
    ] {
        assert!(metrics.get(series) > 0.0, "{series}\n{}", metrics.0);
    }
    let (commit, done) = ("tidelock_group_commit_seconds", "tidelock_group_propose_seconds");
    let of = |name: &str, what: &str| metrics.get(&format!("{name}_{what}"));
    assert!(of(commit, "count") >= 5.0 && of(commit, "count") <= of(done, "count"), "{}", metrics.0);
    assert!(of(commit, "sum") <= of(done, "sum"), "{}", metrics.0);
    eventually("what the guest's counts is known", || {
        Metrics::of(&guest).get(r#"tidelock_forwarded_total{direction="out"}"#) >= 5.0
    });
}

/// A metric that is not in the list could change its name without anybody noticing.
#[test]
fn no_metric_is_told_that_is_not_documented() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut node = Node::start(PROGRAM, &folder.path().join("node"), Options::default());
    assert_eq!(node.command(&["SET", "k", "v"]), "OK");
    let names = Metrics::of(&node).names();
    let readme = include_str!("../../src/http/README.md");
    for name in &names {
        assert!(readme.contains(&format!("| `{name}` |")), "{name} is not in src/http/README.md");
    }
    assert!(names.len() > 35, "only {} metrics are told", names.len());
}
