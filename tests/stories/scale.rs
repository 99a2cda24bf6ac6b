//! Many peers at once: everything reaches everybody, at a price that stays within bounds.

use sim::scale::{self, Options, ScaleReport};

/// The options of a run that is over within seconds.
fn small() -> Options {
    Options { peers: vec![10, 60], operations: 80, writes_per_s: 20, ..Options::default() }
}

#[test]
fn gossip_reaches_everybody_at_a_bounded_price() {
    let report = scale::measure(&small());
    assert_eq!(report.runs.iter().map(|run| run.peers).collect::<Vec<_>>(), [10, 60]);
    for run in &report.runs {
        let names: Vec<&str> = run.phases.iter().map(|phase| phase.name.as_str()).collect();
        assert_eq!(names, ["first", "steady", "churn", "partition", "join"]);
        for (name, least) in [("steady", 40), ("churn", 20), ("partition", 20)] {
            let phase = run.phase(name).expect("it was run");
            assert_eq!(phase.operations, least, "{name}");
            assert!(phase.deliveries >= (least * (run.peers - 1)) as u64, "{name}: {phase:?}");
            assert!(phase.redundancy >= 1.0 && phase.redundancy < 3.0, "{name}: {phase:?}");
            assert!(phase.received.all() - phase.received.again() >= phase.deliveries, "{name}: {phase:?}");
        }
        let steady = run.phase("steady").expect("it was run");
        assert!(steady.hops.max >= 1 && f64::from(steady.hops.max) <= 2.0 * run.hops_aim(), "{steady:?}");
        assert!(steady.bytes_per_delivery > steady.frame_bytes, "{steady:?}");
        assert!(run.converged_ms > 0.0 && run.converged_ms < 60_000.0, "{run:?}");
        assert!(run.joined_ms > 0.0 && run.joined_ms < 60_000.0, "{run:?}");
    }
    let read: ScaleReport = serde_json::from_str(&report.to_json()).expect("it is JSON");
    assert_eq!(read.without_cpu(), report.without_cpu());
    is_well_formed(&scale::drawing(&report));
}

#[test]
fn same_seed_gives_the_same_figures() {
    let options = Options { peers: vec![12], operations: 40, writes_per_s: 40, ..Options::default() };
    let first = scale::measure(&options).without_cpu();
    assert_eq!(first, scale::measure(&options).without_cpu());
    let other = scale::measure(&Options { seed: 2, ..options }).without_cpu();
    assert!(other.runs[0].history != first.runs[0].history);
}

/// A thousand peers. It takes minutes, so it runs when it is asked for:
/// `cargo test --release -p tidelock-tests --test stories scale -- --ignored --nocapture`.
#[test]
#[ignore = "takes minutes"]
fn a_thousand_peers_stay_within_the_aims() {
    let report = scale::run(&Options::default()).expect("there are no files to miss");
    for run in &report.runs {
        let steady = run.phase("steady").expect("it was run");
        assert!(steady.redundancy < 1.5, "{} peers: {}", run.peers, steady.redundancy);
        assert!(f64::from(steady.hops.max) < run.hops_aim(), "{} peers: {:?}", run.peers, steady.hops);
    }
}

/// Every element is closed, in order, and nothing stands outside the one around all.
fn is_well_formed(drawing: &str) {
    let mut open: Vec<&str> = Vec::new();
    let mut elements = 0;
    for piece in drawing.split('<').skip(1) {
        let (tag, _) = piece.split_once('>').expect("every tag ends");
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop(), Some(name));
            continue;
        }
        elements += 1;
        assert!(elements == 1 || !open.is_empty(), "{tag} is outside");
        assert_eq!(tag.matches('"').count() % 2, 0, "{tag}");
        if !tag.ends_with('/') {
            open.push(tag.split(' ').next().expect("a tag has a name"));
        }
    }
    assert!(open.is_empty() && elements > 50, "{elements} elements, open {open:?}");
    assert!(!drawing.contains("NaN"), "a figure is missing");
}
