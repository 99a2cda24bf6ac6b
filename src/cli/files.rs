//! `backup` and `export`: what the node sends piece by piece is written here, as whoever runs the command.

use std::io::Write;
use std::path::{Path, PathBuf};

use serde_json::{Value as Json, json};

use super::client::{Client, ClientError};
use super::client_args::NodeArgs;
use super::commands::print;
use super::progress::{ProgressLine, size};
use super::value::Value;
use crate::backup::{self, BackupSummary, NewFile};

/// Asks for everything that a command begins, and hands it over in order.
pub(super) fn pieces(
    client: &mut Client,
    command: &[&[u8]],
    mut take: impl FnMut(&[u8]) -> Result<(), ClientError>,
) -> Result<(), ClientError> {
    client.call(command)?;
    loop {
        match client.call(&[b"TIDE.NEXT"])? {
            Value::Bytes(piece) => take(&piece)?,
            Value::Null => return Ok(()),
            _ => return Err(ClientError::NotANode),
        }
    }
}

pub(super) fn backup(dest: &Path, node: &NodeArgs, out: &mut dyn Write) -> Result<(), ClientError> {
    let mut client = Client::connect(node)?;
    let path = if dest.is_dir() { dest.join(file_name(&mut client)?) } else { dest.to_owned() };
    let mut file = NewFile::begin(&path)?;
    let mut progress = ProgressLine::default();
    let mut bytes = 0;
    pieces(&mut client, &[b"TIDE.BACKUP"], |piece| {
        bytes += piece.len() as u64;
        progress.show(|| format!("{} written", size(bytes)));
        Ok(file.write(piece)?)
    })?;
    let summary =
        file.finish(&mut |done| progress.show(|| format!("{} of {} read back", size(done), size(bytes))))?;
    drop(progress);
    if node.json {
        let mut written = as_json(&summary);
        written["path"] = json!(path.display().to_string());
        return print(out, &format!("{written}\n"));
    }
    print(out, &format!("{}: {}\n", path.display(), describe(&summary)))
}

/// The first digits of the replica, and the time.
fn file_name(client: &mut Client) -> Result<PathBuf, ClientError> {
    let status = client.call(&[b"TIDE.STATUS"])?;
    let Value::Bytes(replica) = status.field("replica") else { return Err(ClientError::NotANode) };
    let replica: String =
        String::from_utf8_lossy(replica).chars().filter(char::is_ascii_hexdigit).take(8).collect();
    let date = backup::date(backup::unix_ms()).replace(':', "");
    Ok(PathBuf::from(format!("{replica}-{date}.tidelock")))
}

/// A backup in a line.
pub(crate) fn describe(summary: &BackupSummary) -> String {
    let BackupSummary { frames, rows, keyspaces, position, bytes, .. } = summary;
    let size = size(*bytes);
    format!("{frames} frames, {rows} rows, {keyspaces} keyspaces, {size}, up to position {position}")
}

/// The same for programs.
pub(crate) fn as_json(summary: &BackupSummary) -> Json {
    let BackupSummary { replica, unix_ms, frames, rows, keyspaces, position, bytes, .. } = summary;
    json!({
        "replica": replica.to_string(),
        "unix_ms": unix_ms,
        "frames": frames,
        "rows": rows,
        "keyspaces": keyspaces,
        "position": position,
        "bytes": bytes,
    })
}

pub(super) fn export(node: &NodeArgs, out: &mut dyn Write) -> Result<(), ClientError> {
    let mut client = Client::connect(node)?;
    let mut progress = ProgressLine::default();
    let mut bytes = 0;
    pieces(&mut client, &[b"TIDE.EXPORT"], |piece| {
        bytes += piece.len() as u64;
        progress.show(|| format!("{} exported", size(bytes)));
        out.write_all(piece).map_err(ClientError::Print)
    })?;
    out.flush().map_err(ClientError::Print)
}
