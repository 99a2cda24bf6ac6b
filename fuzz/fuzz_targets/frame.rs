//! libFuzzer's entry to the target `frame`; on stable, a program that replays files.
#![cfg_attr(fuzzing, no_main)]

tidelock_fuzz::fuzz!("frame");
