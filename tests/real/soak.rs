//! The soak: real processes at a third of their capacity, killed, paused and cut off, for as long as one likes.
//!
//! `cargo soak --hours 2` reports the slopes of memory, descriptors, tasks and files; `cargo soak --help` tells
//! the rest. As a test among others, without arguments, it does the same in some seconds and judges only what
//! was kept: nothing acknowledged is lost, and all nodes end equal. It never judges a time.

#[allow(dead_code, unused_imports, reason = "the soak uses a part of it")]
mod processes;

mod soak {
    pub(crate) mod account;
    pub(crate) mod args;
    pub(crate) mod board;
    pub(crate) mod chaos;
    pub(crate) mod model;
    pub(crate) mod operation;
    pub(crate) mod outcome;
    pub(crate) mod random;
    pub(crate) mod report;
    pub(crate) mod run;
    pub(crate) mod sample;
    pub(crate) mod slope;
    pub(crate) mod trend;
    pub(crate) mod workload;
    pub(crate) mod writer;
}

use std::process::ExitCode;

use soak::args::{self, Plan};
use soak::run::Soak;

fn main() -> ExitCode {
    let plan = match args::read(std::env::args_os()) {
        Ok(plan) => plan,
        Err(status) => return status,
    };
    let folder = tempfile::tempdir().expect("a temporary folder");
    println!(
        "soak of {} nodes for {:?}, seed {}, in {}",
        plan.nodes,
        plan.load,
        plan.seed,
        folder.path().display()
    );
    match Soak::start(&plan, folder.path()).run() {
        Ok(report) => finish(&plan, &report),
        Err(what) => {
            let kept = folder.keep();
            eprintln!("soak FAILED, seed {}; the files are kept in {}\n{what}", plan.seed, kept.display());
            ExitCode::FAILURE
        }
    }
}

fn finish(plan: &Plan, report: &soak::report::Report) -> ExitCode {
    print!("{}", report.summary());
    if !plan.is_smoke {
        print!("{}", report.tables());
    }
    if let Some(path) = &plan.report
        && let Err(error) = report.write_to(path)
    {
        eprintln!("{}: {error}", path.display());
        return ExitCode::FAILURE;
    }
    if plan.is_strict && !report.over().is_empty() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
