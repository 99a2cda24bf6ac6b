//! The commands that look at the folder of a node that is not running, or at backups.

use std::path::Path;

use serde_json::{Value as Json, json};
use tidelock_store::{FileDisk, Progress};

use super::{Result, log_to_stderr};
use crate::backup::{self, BackupFileError, BackupSummary, RestoreProgress};
use crate::cli::progress::{ProgressLine, size};
use crate::cli::{self, CheckArgs, IdArgs, RestoreArgs};
use crate::identity;

pub(super) fn id(args: &IdArgs) -> Result<()> {
    let peer = identity::load_or_make(&args.data)?.peer();
    if args.json {
        println!("{}", json!({ "peer": peer.to_string() }));
    } else {
        println!("{peer}");
    }
    Ok(())
}

pub(super) fn check(args: &CheckArgs) -> Result<()> {
    log_to_stderr("warn");
    let directory = &args.dir;
    if !directory.is_dir() {
        return Err(format!("{} is not a directory", directory.display()).into());
    }
    let mut line = ProgressLine::default();
    let report =
        tidelock_store::check(&FileDisk::at(directory), &mut |progress| line.show(|| describe(progress)));
    drop(line);
    let report = report?;
    if args.json {
        println!("{}", report_json(&report));
    } else {
        print_report(&report);
    }
    match report.findings.len() {
        0 => Ok(()),
        count => Err(format!("{count} findings").into()),
    }
}

fn report_json(report: &tidelock_store::Report) -> Json {
    let findings = report.findings.iter();
    let findings =
        findings.map(|finding| json!({ "file": finding.file, "what": finding.what, "run": finding.run }));
    json!({
        "frames": report.frames,
        "rows": report.rows,
        "keyspaces": report.keyspaces,
        "vector_bytes": report.vector_bytes,
        "findings": findings.collect::<Json>(),
    })
}

fn print_report(report: &tidelock_store::Report) {
    let tidelock_store::Report { frames, rows, keyspaces, vector_bytes, .. } = report;
    println!(
        "{frames} frames, {rows} rows, {keyspaces} keyspaces, whose version vectors take {vector_bytes} bytes"
    );
    if report.findings.is_empty() {
        println!("log, rows and fingerprints agree");
    }
    for finding in &report.findings {
        println!("{}: {}\n  to do: {}", finding.file, finding.what, finding.run);
    }
}

pub(super) fn restore(args: &RestoreArgs) -> Result<()> {
    log_to_stderr("warn");
    let mut line = ProgressLine::default();
    let restored = backup::restore_folder(&args.from, &args.data, args.key.as_deref(), &mut |progress| {
        line.show(|| match progress {
            RestoreProgress::Read(bytes) => format!("{} read", size(bytes)),
            RestoreProgress::Frames { done, total } => format!("frame {done} of {total} applied"),
            RestoreProgress::Rows(rows) => format!("{rows} rows counted"),
            _ => "restoring".to_owned(),
        });
    });
    drop(line);
    let (summary, peer) = restored?;
    if args.json {
        let mut restored = cli::backup_json(&summary);
        restored["data"] = json!(args.data.display().to_string());
        restored["peer"] = json!(peer.to_string());
        println!("{restored}");
        return Ok(());
    }
    let data = args.data.display();
    println!("{data}: {}, of {}", cli::describe_backup(&summary), backup::date(summary.unix_ms));
    println!(
        "replica {} was backed up; this node is peer {peer} and writes as a new replica",
        summary.replica
    );
    Ok(())
}

pub(super) fn list_backups(folder: &Path, is_json: bool) -> Result<()> {
    let mut line = ProgressLine::default();
    let found = backup::backups_in(folder, &mut |path, bytes| {
        line.show(|| format!("{}: {} read", path.display(), size(bytes)));
    });
    drop(line);
    let found = found?;
    let damaged = found.iter().filter(|(_, summary)| summary.is_err()).count();
    if is_json {
        println!("{}", found.iter().map(|(path, summary)| listed_json(path, summary)).collect::<Json>());
    } else if found.is_empty() {
        println!("no backups in {}", folder.display());
    } else {
        found.iter().for_each(|(path, summary)| println!("{}", listed(path, summary)));
    }
    if damaged > 0 { Err(format!("{damaged} of these backups cannot be restored").into()) } else { Ok(()) }
}

type Summary = std::result::Result<BackupSummary, BackupFileError>;

fn listed(path: &Path, summary: &Summary) -> String {
    let name = file_name(path);
    match summary {
        Ok(summary) => {
            let (replica, date) = (summary.replica, backup::date(summary.unix_ms));
            format!("{name}  sound  {date}  replica {replica}  {}", cli::describe_backup(summary))
        }
        Err(BackupFileError::Backup { source, .. }) => format!("{name}  damaged  {source}"),
        Err(error) => format!("{name}  unreadable  {error}"),
    }
}

fn listed_json(path: &Path, summary: &Summary) -> Json {
    let mut listed = match summary {
        Ok(summary) => cli::backup_json(summary),
        Err(error) => json!({ "error": error.to_string() }),
    };
    listed["file"] = json!(file_name(path));
    listed["sound"] = json!(summary.is_ok());
    listed
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().display().to_string()
}

fn describe(progress: Progress) -> String {
    match progress {
        Progress::Pages { file } => format!("checking the pages of {file}"),
        Progress::Frames { done, total } => format!("frame {done} of {total}"),
        Progress::Rows { done } => format!("row {done}"),
        _ => "checking".to_owned(),
    }
}
