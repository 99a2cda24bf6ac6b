//! Programs in other languages, with the packages that `.ci/clients` installed under the target folder.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A language of which packages are installed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Language {
    JavaScript,
    Python,
}

impl Language {
    /// How a program that needs this package is run. Where the language or the package is missing, a message says so.
    pub(crate) fn with(self, package: &str) -> Option<Command> {
        let (program, variable) = match self {
            Self::JavaScript => ("node", "NODE_PATH"),
            Self::Python => ("python3", "PYTHONPATH"),
        };
        let packages = self.packages();
        if !packages.join(package).is_dir() {
            eprintln!("skipped: {package} is not installed; .ci/clients does it");
            return None;
        }
        let asked =
            Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
        if !asked.is_ok_and(|status| status.success()) {
            eprintln!("skipped: there is no {program} on this machine");
            return None;
        }
        let mut command = Command::new(program);
        command.env(variable, packages);
        Some(command)
    }

    /// The folder that has a folder of each package.
    pub(crate) fn packages(self) -> PathBuf {
        // The target folder, wherever that is, has a folder for the tests' own files.
        let clients = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("clients");
        clients.join(if self == Self::Python { "python" } else { "node_modules" })
    }
}
