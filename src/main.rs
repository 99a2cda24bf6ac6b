//! The program `tidelock`; what it does is in [`tidelock::app`].

use std::process::ExitCode;

use mimalloc::MiMalloc;

/// Much of what one thread allocates another one frees: requests, replies, and the entries of a commit. The allocator
/// of the C library takes locks for that.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    use_small_pages();
    tidelock::app::main()
}

/// Asks the kernel for no pages of 2 MiB: the allocator would have the whole heap in them, and an idle node that needs
/// 3 MB would have 16. A busy one is as fast without.
fn use_small_pages() {
    #[cfg(target_os = "linux")]
    // An older kernel has them all the same.
    let _ = rustix::thread::disable_transparent_huge_pages(true);
}
