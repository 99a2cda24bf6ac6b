//! The program `tidelock`, under a name of its own for the tests of real processes.

use std::process::ExitCode;

fn main() -> ExitCode {
    tidelock::app::main()
}
