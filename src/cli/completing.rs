//! `completions`: the scripts that make shells complete what [`Cli`] says.

use std::io::Write;

use clap::CommandFactory;
use clap_complete::Shell;

use super::args::Cli;
use super::client::ClientError;
use super::commands::print;

/// Prints the script of a shell.
///
/// # Errors
/// [`ClientError::Print`].
pub fn completions(shell: Shell, out: &mut dyn Write) -> Result<(), ClientError> {
    let mut script = Vec::new();
    // It is made in memory because the generator panics when its output is closed, as by `| head`.
    clap_complete::generate(shell, &mut Cli::command(), "tidelock", &mut script);
    print(out, &String::from_utf8_lossy(&script))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use clap::ValueEnum;

    use super::*;

    fn script(shell: Shell) -> String {
        let mut script = Vec::new();
        completions(shell, &mut script).expect("memory takes it");
        String::from_utf8(script).expect("a script is text")
    }

    #[test]
    fn every_shell_learns_every_command() {
        assert_eq!(Shell::value_variants().len(), 5, "bash, elvish, fish, powershell, zsh");
        for shell in Shell::value_variants() {
            let script = script(*shell);
            for command in Cli::command().get_subcommands() {
                assert!(script.contains(command.get_name()), "{shell} does not know {}", command.get_name());
            }
            assert!(script.contains("password-file"), "{shell} does not know options");
        }
    }

    /// A shell that is not installed is skipped.
    #[test]
    fn shells_can_read_their_scripts() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let path = folder.path().join(shell.to_string());
            std::fs::write(&path, script(shell)).expect("the folder is ours");
            match Command::new(shell.to_string()).arg("-n").arg(&path).output() {
                Ok(output) => {
                    let errors = String::from_utf8_lossy(&output.stderr);
                    assert!(output.status.success() && errors.is_empty(), "{shell}: {errors}");
                }
                Err(error) => eprintln!("skipped: there is no {shell} here: {error}"),
            }
        }
    }
}
