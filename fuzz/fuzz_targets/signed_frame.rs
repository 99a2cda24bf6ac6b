//! libFuzzer's entry to the target `signed_frame`; on stable, a program that replays files.
#![cfg_attr(fuzzing, no_main)]

tidelock_fuzz::fuzz!("signed_frame");
