//! The measuring, of a server over a node's double.

use clap::Parser;
use serde_json::Value as Json;
use tidelock_engine::request::RequestError;

use super::*;
use crate::cli::tests::World;
use crate::cli::{Cli, ClientCommand, Command};

fn args(world: &World, line: &str) -> BenchArgs {
    let words = ["tidelock", "bench", "--node", &world.address].into_iter().chain(line.split_whitespace());
    match Cli::try_parse_from(words).expect("right usage").command {
        Command::Client(ClientCommand::Bench(args)) => args,
        other => unreachable!("{other:?}"),
    }
}

fn run(world: &World, line: &str, stop: bool) -> (String, Result<(), ClientError>) {
    let mut out = Vec::new();
    let prefix = Prefix::new().expect("there are random numbers");
    let result = measure(&args(world, line), &prefix, &AtomicBool::new(stop), Style::default(), &mut out);
    (String::from_utf8(out).expect("output is text"), result)
}

#[test]
fn as_much_as_was_asked_for_is_measured_and_removed() {
    let world = World::new();
    world.check("set mine v", "OK\n");
    let (text, result) = run(&world, "--clients 3 --pipeline 4 --requests 101 --keys 1201 --json", false);
    result.expect("the node answers");
    let report: Json = serde_json::from_str(&text).expect("it is JSON");
    assert_eq!(
        (&report["clients"], &report["pipeline"], &report["removed"]),
        (&3.into(), &4.into(), &true.into())
    );
    let results = report["results"].as_array().expect("a list");
    let names: Vec<&Json> = results.iter().map(|result| &result["command"]).collect();
    assert_eq!(names, ["set", "get", "incr", "sadd"]);
    for result in results {
        assert_eq!((&result["requests"], &result["refused"]), (&101.into(), &0.into()), "{result}");
        let latency = |field: &str| result["latency_us"][field].as_u64().expect("a number");
        let fields = ["p50", "p90", "p99", "p99_9", "max"];
        assert!(fields.is_sorted_by_key(|field| latency(field)) && latency("max") > 0, "{result}");
        assert!(result["per_second"].as_f64() > Some(0.0), "{result}");
    }
    world.check("keys", "mine\n");
}

#[test]
fn what_is_kept_is_named() {
    let world = World::new();
    let (text, result) = run(&world, "--commands sadd,get --clients 2 --requests 50 --keys 7 --keep", false);
    result.expect("the node answers");
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[0].ends_with(": 2 clients, pipeline 1, 7 keys, values of 16 bytes"), "{text}");
    assert!(lines[1].starts_with("COMMAND") && lines[1].ends_with("MAX ms"), "{text}");
    assert!(lines[2].starts_with("sadd") && lines[3].starts_with("get"), "{text}");
    let prefix = lines[4].strip_prefix("what was written is left under ").expect("it is named");
    let mut keys: Vec<String> = (0..7).map(|number| format!("{prefix}register:{number:08}\n")).collect();
    keys.push(format!("{prefix}set\n"));
    world.check("keys", &keys.concat());
}

#[test]
fn refusals_are_no_figures() {
    let world = World::new();
    world.double.fail_with(|| RequestError::ReadOnly("the disk is full".to_owned()));
    let (text, result) = run(&world, "--commands set --clients 2 --requests 9 --keys 5 --json", false);
    let error = result.expect_err("all was refused").to_string();
    assert!(error.contains("are left"), "{error}");
    let report: Json = serde_json::from_str(&text).expect("it is JSON");
    assert_eq!((&report["results"][0]["refused"], &report["removed"]), (&9.into(), &false.into()));
}

#[test]
fn interrupt_ends_it_and_removes_what_was_written() {
    let world = World::new();
    let (text, result) = run(&world, "--requests 1000000000 --json", true);
    result.expect("it was ended, and did not fail");
    let report: Json = serde_json::from_str(&text).expect("it is JSON");
    assert_eq!((&report["results"], &report["removed"]), (&Json::Array(Vec::new()), &true.into()));
    world.check("keys", "");
}
