//! Documents as the engine knows them: rows of chunks that are added, replaced and removed.
//!
//! What the chunks say is the business of the package at the root, and tested there.

use sim::World;
use sim::words::{change, delete, set};
use sim::world::NOTES;
use tidelock_engine::causality::Dot;
use tidelock_engine::crdt::VisibleKind;
use tidelock_engine::read::{Answer, Query};
use tidelock_engine::request::{Action, ActionError, Atomicity};
use tidelock_engine::write::WriteError;

/// The chunks of a document, and the dots of their rows.
fn document(world: &mut World, name: &str) -> (Vec<String>, Vec<Dot>) {
    match world.query(name, Query::Chunks(b"page".to_vec())) {
        Answer::Chunks(chunks) => {
            chunks.into_iter().map(|(dot, chunk)| (String::from_utf8_lossy(&chunk).into_owned(), dot)).unzip()
        }
        other => panic!("{other:?}"),
    }
}

fn chunks(world: &mut World, name: &str) -> Vec<String> {
    let mut chunks = document(world, name).0;
    chunks.sort();
    chunks
}

/// Two change a document apart, both replace what they saw, and one of them loses power: nothing is lost, and
/// what was replaced on one side only stays as long as the other has not seen the replacement.
#[test]
fn replacements_beside_each_other_keep_what_neither_saw() {
    let mut world = World::connected(120, &["a", "b"]);
    world.write("a", change("page", "1", Vec::new()));
    world.write("a", change("page", "2", Vec::new()));
    world.settle();
    world.partition("a", "b");
    let (_, seen) = document(&mut world, "a");
    world.write("a", change("page", "12a", seen.clone()));
    world.write("b", change("page", "3", Vec::new()));
    world.write("b", change("page", "12b", seen));
    world.lose_power("b");
    world.start("b");
    world.heal();
    world.settle();
    for name in ["a", "b"] {
        assert_eq!(chunks(&mut world, name), ["12a", "12b", "3"]);
    }
    let (_, all) = document(&mut world, "b");
    world.write("b", change("page", "whole", all));
    world.settle();
    assert_eq!(chunks(&mut world, "a"), ["whole"]);
}

/// A delete removes what it saw; a change beside it stays, alone: what it builds on is its author's to restore.
#[test]
fn change_beside_a_delete_stays_without_what_it_builds_on() {
    let mut world = World::connected(121, &["a", "b"]);
    world.write("a", change("page", "1", Vec::new()));
    world.settle();
    world.partition("a", "b");
    world.write("a", delete("page"));
    world.write("b", change("page", "2", Vec::new()));
    world.heal();
    world.settle();
    assert_eq!(chunks(&mut world, "a"), ["2"]);
    let (_, own) = document(&mut world, "b");
    world.write("b", change("page", "12", own));
    world.settle();
    assert_eq!(chunks(&mut world, "a"), ["12"]);
    world.write("a", delete("page"));
    world.settle();
    assert_eq!(world.query("b", Query::Kind(b"page".to_vec())), Answer::Kind(None));
}

/// A document of many rows is removed by version vector, and one that others add to survives that.
#[test]
fn document_of_many_rows_is_deleted_whole() {
    let mut world = World::connected(122, &["a", "b"]);
    for number in 0..100 {
        world.write("a", change("page", &number.to_string(), Vec::new()));
    }
    world.settle();
    world.partition("a", "b");
    world.write("a", delete("page"));
    world.write("b", change("page", "more", Vec::new()));
    world.heal();
    world.settle();
    assert_eq!(chunks(&mut world, "a"), ["more"]);
}

/// What a document was made beside is a conflict until it is deleted.
#[test]
fn document_is_shown_before_other_kinds() {
    let mut world = World::connected(123, &["a", "b"]);
    world.partition("a", "b");
    world.write("a", set("page", "text"));
    world.write("b", change("page", "1", Vec::new()));
    world.heal();
    world.settle();
    let shown = world.query("a", Query::Kind(b"page".to_vec()));
    assert_eq!(shown, Answer::Kind(Some(VisibleKind::Document)));
    world.write("a", set("page", "text again"));
    world.settle();
    assert_eq!(world.get("b", "page").as_deref(), Some("text again"));
    let actions = vec![Action::Write(change("page", "2", Vec::new()))];
    let replies = world.request("a", NOTES, Atomicity::Each, actions).expect("it is executed");
    let found = VisibleKind::Register;
    assert!(
        matches!(&replies[..], [Err(ActionError::Write(WriteError::WrongKind { found: is }))] if *is == found)
    );
    assert_eq!(world.rows_of("a", NOTES).len(), 1);
}
