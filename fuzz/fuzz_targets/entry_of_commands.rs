//! libFuzzer's entry to the target `entry_of_commands`; on stable, a program that replays files.
#![cfg_attr(fuzzing, no_main)]

tidelock_fuzz::fuzz!("entry_of_commands");
