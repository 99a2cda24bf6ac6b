//! The program `tidelock`; what it does is in [`tidelock::app`].

use std::process::ExitCode;

use mimalloc::MiMalloc;

/// Much of what one thread allocates another one frees: requests, replies, and the entries of a commit. The allocator
/// of the C library takes locks for that.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    tidelock::app::main()
}
