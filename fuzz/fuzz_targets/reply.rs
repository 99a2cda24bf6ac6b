//! libFuzzer's entry to the target `reply`; on stable, a program that replays files.
#![cfg_attr(fuzzing, no_main)]

tidelock_fuzz::fuzz!("reply");
