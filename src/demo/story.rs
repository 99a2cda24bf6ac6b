//! What the demo writes, and what must come of it.

use super::{Demo, DemoError};
use crate::keyspace::Keyspace;

/// What the demo shows of each peer.
pub(super) const SUBJECTS: [&str; 4] = [VISITS, CART, TITLE, PROFILE];

const VISITS: &str = "visits (counter)";
const CART: &str = "cart (set)";
const TITLE: &str = "title (register)";
const PROFILE: &str = "profile (map)";

/// What a subject must show, by the number of peers.
type Expected = fn(usize) -> String;

/// What each peer must hold at the end, by the number of peers. The title is whichever of the two concurrent
/// writes has the later stamp, so only its equality is checked, by the fingerprint.
pub(super) const EXPECTED_AFTER: [(&str, Expected); 3] = [
    // Each peer counted one, then one side ten and the other five.
    (VISITS, |peers| (peers + 10 + 5).to_string()),
    // The add of apples on one side wins over the remove on the other; pears were removed unseen by nobody.
    (CART, |_| "apples figs plums".to_owned()),
    (PROFILE, |_| "city=Oslo mail=a@example.org".to_owned()),
];

pub(super) async fn write_on_all(demo: &Demo) -> Result<(), DemoError> {
    for peer in &demo.peers {
        peer.keyspace.counter("visits").add(1).await?;
    }
    let first = &demo.peers[0].keyspace;
    first.set("cart").add("apples").await?;
    first.set("cart").add("pears").await?;
    first.register("title").set("groceries").await?;
    first.map("profile").put("city", "Bergen").await?;
    Ok(())
}

pub(super) async fn write_on_both_sides(demo: &Demo) -> Result<(), DemoError> {
    let (first, cut_off) = (&demo.peers[0].keyspace, &demo.peers[demo.peers.len() - 1].keyspace);
    first.counter("visits").add(10).await?;
    cut_off.counter("visits").add(5).await?;

    first.set("cart").remove("apples").await?;
    cut_off.set("cart").add("apples").await?;
    first.set("cart").remove("pears").await?;
    first.set("cart").add("figs").await?;
    cut_off.set("cart").add("plums").await?;

    first.register("title").set("weekly shopping").await?;
    cut_off.register("title").set("for the party").await?;

    first.map("profile").put("mail", "a@example.org").await?;
    cut_off.map("profile").put("city", "Oslo").await?;
    Ok(())
}

/// What a peer holds of a subject, in words.
pub(super) fn value(keyspace: &Keyspace, subject: &str) -> Result<String, DemoError> {
    let text = |bytes: &Vec<u8>| String::from_utf8_lossy(bytes).into_owned();
    Ok(match subject {
        VISITS => keyspace.counter("visits").get()?.to_string(),
        CART => keyspace.set("cart").members()?.iter().map(text).collect::<Vec<_>>().join(" "),
        TITLE => keyspace.register("title").get()?.as_ref().map(text).unwrap_or_default(),
        _ => {
            let fields = keyspace.map("profile").entries()?;
            let field = |(name, value): &(Vec<u8>, Vec<u8>)| format!("{}={}", text(name), text(value));
            fields.iter().map(field).collect::<Vec<_>>().join(" ")
        }
    })
}

/// The write that lost a tie, which is kept until the next write.
pub(super) fn conflicts(demo: &Demo) -> Result<String, DemoError> {
    let keyspace = &demo.peers[0].keyspace;
    let lost = keyspace.conflicts("title")?;
    let lost: Vec<String> = lost
        .iter()
        .filter_map(|row| row.value.as_deref())
        .map(|value| String::from_utf8_lossy(value).into_owned())
        .collect();
    if lost.len() != 1 {
        let (expected, found) = ("one other value".to_owned(), format!("{lost:?}"));
        return Err(DemoError::Claim { what: "the conflicts of title".to_owned(), expected, found });
    }
    let read = value(keyspace, TITLE)?;
    Ok(format!("The title was written on both sides: {read:?} is read, {:?} is kept as a conflict.", lost[0]))
}
