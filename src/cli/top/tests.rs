//! The picture of a node that is made up, at several sizes; and of a double, as it is printed.

use std::collections::BTreeMap;

use serde_json::Value as Json;

use super::*;
use crate::cli::tests::World;
use crate::cli::value::Value;

fn text(text: &str) -> Value {
    Value::Bytes(text.as_bytes().to_vec())
}

fn map(fields: &[(&str, Value)]) -> Value {
    Value::Map(fields.iter().map(|(name, value)| (text(name), value.clone())).collect())
}

/// A node that had counted so much, and had so many keys, after so many seconds.
pub(super) fn reading(second: u64, count: i64, keys: i64) -> Reading {
    let status = map(&[
        ("name", text("harbour")),
        ("version", text("0.1.0")),
        ("peer", text("12D3KooWPeBBDJ1zvK7yrL7WcTfeRwhsxe2Cy39L7JKjG4THx5FM")),
        ("cluster", text("local")),
        ("online", Value::Boolean(true)),
        ("uptime_ms", Value::Integer(90_000)),
        ("keys", Value::Integer(keys)),
        ("log_bytes", Value::Integer(2_048)),
        ("bytes_on_disk", Value::Integer(4_096)),
        ("counters", map(&[("frames_received", Value::Integer(count))])),
        ("warnings", Value::List(vec![text("the clock is wrong")])),
    ]);
    let peer = |state: &str, in_sync| {
        map(&[
            ("peer", text("12D3KooWQLf12pAQyBRuKZsUrUuDxTrhYsxhZqDo5rUhvv9Wmtui")),
            ("address", text("/ip4/127.0.0.1/tcp/7401")),
            ("state", text(state)),
            ("round_trip_us", Value::Integer(1_250)),
            ("connected_ms", Value::Integer(61_000)),
            ("queued_bytes", Value::Integer(0)),
            ("slow", Value::Boolean(false)),
            ("keyspaces", Value::Integer(2)),
            ("keyspaces_in_sync", Value::Integer(in_sync)),
        ])
    };
    let keyspace = |name: &str, alone| {
        map(&[
            ("name", text(name)),
            ("keys", Value::Integer(keys)),
            ("bytes", Value::Integer(1_024)),
            ("quota", Value::Null),
            ("authors", Value::Integer(3)),
            ("peers", Value::Integer(1)),
            ("alone_ms", alone),
            ("diverged", Value::Boolean(false)),
        ])
    };
    Reading {
        at: Duration::from_secs(second),
        status,
        peers: Value::List(vec![peer("connected", 2), peer("connecting", 1)]),
        keyspaces: Value::List(vec![keyspace("notes", Value::Null), keyspace("photos", Value::Integer(5))]),
        info: BTreeMap::from([
            ("total_commands_processed".to_owned(), count),
            ("connected_clients".to_owned(), 7),
        ]),
    }
}

fn model() -> Model {
    let mut model = Model::default();
    model.take(Ok(reading(1, 1_000, 50)));
    model.take(Ok(reading(2, 2_234, 55)));
    model
}

fn picture(model: &Model, width: u16, height: u16) -> Vec<String> {
    let area = Rect::new(0, 0, width, height);
    let mut buffer = Buffer::empty(area);
    model.render(area, &mut buffer);
    let rows = buffer.content.chunks(usize::from(width));
    rows.map(|cells| {
        cells.iter().map(ratatui::buffer::Cell::symbol).collect::<String>().trim_end().to_owned()
    })
    .collect()
}

#[test]
fn terminal_of_80_by_24_shows_everything() {
    let line = |title: &str| format!("{title}{}", "─".repeat(80 - title.chars().count()));
    let expected = [
        "harbour  0.1.0  ..G4THx5FM  cluster local  up 1m 30s".to_owned(),
        "7 clients  55 keys  log 2.0 KiB  on disk 4.0 KiB".to_owned(),
        "commands 1234/s  frames_received 1234/s".to_owned(),
        line("Peers (2)"),
        "PEER       STATE                         ROUND TRIP CONNECTED     QUEUED IN SYNC".to_owned(),
        "..vv9Wmtui connected                         1.2 ms     1m 1s        0 B     2/2".to_owned(),
        "..vv9Wmtui connecting                        1.2 ms     1m 1s        0 B     1/2".to_owned(),
        line("Keyspaces (2)"),
        "NAME                            KEYS    KEYS/S       SIZE AUTHORS PEERS NOTE".to_owned(),
        "notes                             55       5.0    1.0 KiB       3     1".to_owned(),
        "photos                            55       5.0    1.0 KiB       3     1 alone".to_owned(),
    ];
    let found = picture(&model(), 80, 24);
    assert_eq!(found[..expected.len()], expected);
    assert!(found[expected.len()..21].iter().all(String::is_empty));
    assert_eq!(
        found[21..],
        [
            line("Warnings"),
            "the clock is wrong".to_owned(),
            "q quit  space pause  tab list  up down scroll".to_owned()
        ]
    );
}

#[test]
fn narrow_terminal_leaves_out_columns_and_not_lines() {
    let found = picture(&model(), 40, 16);
    assert_eq!(found[4], "PEER       STATE                 IN SYNC");
    assert_eq!(found[6], "..vv9Wmtui connecting                1/2");
    assert_eq!(found[8], "NAME               KEYS       SIZE PEERS");
    assert_eq!(found[10], "photos               55    1.0 KiB     1");
    assert!(found.contains(&"the clock is wrong".to_owned()), "{found:#?}");
}

#[test]
fn no_size_is_too_small() {
    for width in [1, 2, 9, 31, 50] {
        for height in [1, 2, 4, 7, 11] {
            assert_eq!(picture(&model(), width, height).len(), usize::from(height));
            picture(&Model::default(), width, height);
        }
    }
}

#[test]
fn node_that_went_away_is_told_and_its_last_state_stays() {
    let mut model = model();
    model.take(Err("no node answers on here".to_owned()));
    let found = picture(&model, 80, 24);
    assert!(found.contains(&"no node answers on here".to_owned()), "{found:#?}");
    assert!(found[0].starts_with("harbour") && found[2].is_empty());
    model.press(Key::Pause);
    assert_eq!(picture(&model, 80, 24)[23], "paused  q quit  space go on");
}

#[test]
fn lists_scroll() {
    let mut model = model();
    model.press(Key::Switch);
    model.press(Key::Down);
    let found = picture(&model, 80, 24);
    assert!(!found.iter().any(|line| line.starts_with("notes")));
    assert!(found.iter().any(|line| line.starts_with("photos")));
}

#[test]
fn without_a_terminal_it_is_printed_once() {
    let world = World::new();
    world.check("set k v", "OK\n");
    let found = world.run("top --once").expect("the node answers");
    let lines: Vec<&str> = found.lines().collect();
    assert!(lines[0].starts_with("double  "), "{found}");
    assert!(lines[2].starts_with("commands "), "{found}");
    assert!(lines[5].starts_with("-          /ip4/127.0.0.1/tcp/2  "), "{found}");
    assert!(lines.iter().any(|line| line.starts_with("default ")), "{found}");
    assert_eq!(lines.last(), Some(&"the clock is wrong"), "{found}");
    let json = world.run("top --json").expect("the node answers");
    let json: Json = serde_json::from_str(&json).expect("it is JSON");
    assert!(json["per_second"]["commands"].as_f64() > Some(0.0), "{json}");
    assert_eq!((&json["status"]["online"], &json["keyspaces"][0]["name"]), (&true.into(), &"default".into()));
    assert_eq!(json["peers"][0]["address"], "/ip4/127.0.0.1/tcp/2");
}

#[test]
fn keys_mean_what_the_last_line_says() {
    let key = |code| KeyEvent::new(code, KeyModifiers::NONE);
    assert!(is_end(key(KeyCode::Char('q'))) && is_end(key(KeyCode::Esc)));
    assert!(
        is_end(KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL)) && !is_end(key(KeyCode::Char('c')))
    );
    let means = [KeyCode::Char(' '), KeyCode::Tab, KeyCode::Up, KeyCode::Down].map(|code| meaning(key(code)));
    assert_eq!(means, [Some(Key::Pause), Some(Key::Switch), Some(Key::Up), Some(Key::Down)]);
    assert_eq!(meaning(key(KeyCode::Char('x'))), None);
}
