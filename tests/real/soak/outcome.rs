//! What must hold in the end, however long and bad it was: all nodes are equal, and nothing acknowledged is
//! missing on any.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use crate::processes::{Client, Node, PROGRAM};

use super::account::Account;
use super::model::{Value, observe};
use super::operation::Key;
use super::workload::Workload;
use super::writer::{PATIENCE, Writer};

/// How long nodes may take to become equal once nothing is wrong with them any more.
const EQUAL_WITHIN: Duration = Duration::from_mins(3);

/// Waits until all nodes hold the same; answers how long that took.
///
/// # Errors
/// They do not, in time.
pub(crate) fn become_equal(nodes: &mut [Node]) -> Result<Duration, String> {
    let started = Instant::now();
    loop {
        let prints: Vec<String> = nodes.iter_mut().map(|node| node.fingerprint("default")).collect();
        if prints.iter().all(|print| *print == prints[0]) {
            return Ok(started.elapsed());
        }
        if started.elapsed() > EQUAL_WITHIN {
            let peers: Vec<String> = nodes.iter_mut().map(|node| node.command(&["TIDE.STATUS"])).collect();
            return Err(format!("unequal after {EQUAL_WITHIN:?}: {prints:#?}\n{peers:#?}"));
        }
        thread::sleep(Duration::from_millis(50));
    }
}

/// Checks every node against every writer; answers what was acknowledged on shared keys.
///
/// # Errors
/// The first thing that a node lacks, or has and should not have.
pub(crate) fn hold_what_was_acknowledged(nodes: &[Node], writers: &[Writer]) -> Result<Account, String> {
    let mut account = Account::default();
    writers.iter().for_each(|writer| account.join(writer.account()));
    for (index, node) in nodes.iter().enumerate() {
        for writer in writers {
            for (key, found) in read(node, &writer.keys())? {
                let expected = writer.model().value(key);
                if found.as_ref() != expected {
                    return Err(format!(
                        "node {index}: {key} holds {found:?}, acknowledged was {expected:?}"
                    ));
                }
            }
        }
        for (key, found) in read(node, &Workload::shared_counters().collect::<Vec<_>>())? {
            account.check_counter(key, found.as_ref()).map_err(|what| format!("node {index}: {what}"))?;
        }
        let ledger = read(node, &[Workload::ledger()])?.into_values().next().flatten();
        account.check_ledger(ledger.as_ref()).map_err(|what| format!("node {index}: {what}"))?;
    }
    Ok(account)
}

/// Ends all nodes by SIGTERM and checks their files.
///
/// # Errors
/// One did not end well, or its files are not as they should be.
pub(crate) fn have_sound_files(nodes: &mut [Node], data: &[PathBuf]) -> Result<(), String> {
    for (index, (node, data)) in nodes.iter_mut().zip(data).enumerate() {
        let status = node.terminate();
        if status != Some(0) {
            return Err(format!("node {index} ended with status {status:?} after SIGTERM"));
        }
        // It may take as long as the log is.
        let output = std::process::Command::new(PROGRAM).arg("check").arg(data).output();
        let output = output.map_err(|error| format!("tidelock check: {error}"))?;
        if !output.status.success() {
            let said = [output.stdout, output.stderr].concat();
            return Err(format!("node {index}: tidelock check: {}", String::from_utf8_lossy(&said)));
        }
    }
    Ok(())
}

fn read(node: &Node, keys: &[Key]) -> Result<BTreeMap<Key, Option<Value>>, String> {
    let mut client = Client::open(node.redis(), PATIENCE).map_err(|error| error.to_string())?;
    observe(&mut client, keys).map_err(|error| format!("a node went away while it was read: {error}"))
}
