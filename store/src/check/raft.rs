//! Checking what `log.redb` holds of a Raft group and of modes: every entry that must be there is, and nothing else.

use tidelock_engine::ports::ReadError;

use super::Check;
use crate::log::{LogFile, damaged, visit};
use crate::raft::{Place, RaftBounds, Row, is_value, read_key};
use crate::schema::{CRC_BYTES, LOG_FILE, log_tag};

/// # Errors
/// Something of it cannot be read.
pub(super) fn check(log: &LogFile, check: &mut Check<'_>) -> Result<(), ReadError> {
    log.modes()?;
    let bounds = log.raft_bounds()?;
    let RaftBounds { oldest, first, next, bytes, .. } = bounds;
    let (mut there, mut found) = (0, 0);
    visit(&log.entries()?, &[log_tag::RAFT], &[log_tag::RAFT + 1], |key, value| {
        let place = read_key(key).filter(|place| is_value(*place, value));
        match place.ok_or_else(|| damaged("something of its Raft group"))? {
            Place::Row(Row::Bounds) => return Ok(()),
            Place::Row(_) => {}
            Place::Entry(index) => {
                there += u64::from((first..next).contains(&index));
                check.expect((oldest..next).contains(&index), LOG_FILE, || {
                    format!("entry {index} of Raft's log is there, which goes from {oldest} to {next}")
                });
            }
        }
        found += (key.len() + value.len() + CRC_BYTES) as u64;
        Ok(())
    })?;
    check.expect(there == next - first, LOG_FILE, || {
        format!("Raft's log has {there} entries of {}", next - first)
    });
    check.expect(found == bytes, LOG_FILE, || {
        format!("its Raft group takes {found} bytes, and it counts {bytes}")
    });
    Ok(())
}
