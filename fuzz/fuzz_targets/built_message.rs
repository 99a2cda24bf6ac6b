//! libFuzzer's entry to the target `built_message`; on stable, a program that replays files.
#![cfg_attr(fuzzing, no_main)]

tidelock_fuzz::fuzz!("built_message");
