//! A shopping list that two people edit at once, on two devices that often have no network.
//!
//! It is one document: a title that both may type in, and items with a count each. Whatever they do apart, both
//! see the same list when the devices meet, with all that either of them wrote. At the end the list is saved as
//! a file that automerge reads in JavaScript, Python and Swift too.

use std::path::Path;
use std::time::{Duration, Instant};

use tidelock::automerge::transaction::Transactable;
use tidelock::automerge::{Automerge, ObjType, ROOT, ReadDoc};
use tidelock::{Document, Node, NodeConfig};

type Failure = Box<dyn std::error::Error>;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let folder = tempfile::tempdir()?;
    let phone = open(folder.path(), "phone", Vec::new()).await?;
    let laptop = open(folder.path(), "laptop", phone.listen_addresses()).await?;
    let homes = [phone.keyspace("home")?, laptop.keyspace("home")?];
    let [on_phone, on_laptop] = [homes[0].document("list"), homes[1].document("list")];

    // The list is made on the phone. The names of its parts are what both edit.
    let (title, items) = on_phone
        .transact(|edit| {
            let title = edit.put_object(ROOT, "title", ObjType::Text)?;
            edit.splice_text(&title, 0, 0, "For Sunday")?;
            let items = edit.put_object(ROOT, "items", ObjType::Map)?;
            edit.put(&items, "bread", 1)?;
            Ok((title, items))
        })
        .await?;
    meet(&on_phone, &on_laptop).await?;

    // The network fails, and both go on: one types at the front of the title, the other at its end.
    laptop.set_online(false);
    let (title_there, items_there) = (title.clone(), items.clone());
    on_phone
        .transact(move |edit| {
            edit.splice_text(&title, 0, 0, "Shopping ")?;
            edit.put(&items, "apples", 6)
        })
        .await?;
    on_laptop
        .transact(move |edit| {
            let end = edit.length(&title_there);
            edit.splice_text(&title_there, end, 0, " lunch")?;
            edit.put(&items_there, "bread", 2)
        })
        .await?;
    println!("on the phone:  {}", shown(&on_phone).await?);
    println!("on the laptop: {}", shown(&on_laptop).await?);

    laptop.set_online(true);
    meet(&on_phone, &on_laptop).await?;
    let together = shown(&on_phone).await?;
    println!("together:      {together}");
    assert_eq!(together, shown(&on_laptop).await?);
    assert_eq!(together, r#"{"items":{"apples":6,"bread":2},"title":"Shopping For Sunday lunch"}"#);

    // What automerge in another language changes is merged like everything else.
    let mut elsewhere = Automerge::load(&on_phone.save().await?.ok_or("the list is there")?)?;
    let mut edit = elsewhere.transaction();
    edit.put(ROOT, "done", true)?;
    edit.commit();
    on_laptop.merged(elsewhere.save()).await?;
    meet(&on_phone, &on_laptop).await?;
    println!("with a file:   {} after {} changes", shown(&on_phone).await?, on_phone.history().await?.len());

    phone.shutdown().await;
    laptop.shutdown().await;
    Ok(())
}

async fn open(folder: &Path, name: &str, peers: Vec<String>) -> Result<Node, Failure> {
    let listen = vec!["/ip4/127.0.0.1/tcp/0".to_owned()];
    Ok(Node::open(NodeConfig { listen, peers, ..NodeConfig::at(folder.join(name)) }).await?)
}

async fn shown(document: &Document<'_>) -> Result<String, Failure> {
    Ok(document.json("").await?.map_or_else(String::new, |json| json.to_string()))
}

/// Waits until both are the same document.
async fn meet(one: &Document<'_>, other: &Document<'_>) -> Result<(), Failure> {
    let started = Instant::now();
    while one.heads().await? != other.heads().await? {
        if started.elapsed() > Duration::from_secs(30) {
            return Err("the devices did not meet".into());
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(())
}
