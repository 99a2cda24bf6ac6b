//! The program `tidelock`; what it does is in [`tidelock::app`].

use std::process::ExitCode;

fn main() -> ExitCode {
    tidelock::app::main()
}
