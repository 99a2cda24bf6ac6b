//! Writes the inputs that the stable loop begins with as files, one folder for each target, for libFuzzer.

use std::path::PathBuf;
use std::{env, fs, io};

fn main() -> io::Result<()> {
    let root = PathBuf::from(env::args_os().nth(1).unwrap_or_else(|| "fuzz/corpus".into()));
    for target in &tidelock_fuzz::TARGETS {
        let folder = root.join(target.name);
        fs::create_dir_all(&folder)?;
        for (place, input) in (target.corpus)().iter().enumerate() {
            fs::write(folder.join(format!("begin-{place}")), input)?;
        }
    }
    Ok(())
}
