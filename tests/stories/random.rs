//! Random scenarios, many seeds each. `SEED=n` replays one, `SEEDS=n` and `FIRST_SEED=n` play others.

use sim::campaign::campaign;
use sim::scenarios;

#[test]
fn partitions() {
    campaign(&scenarios::PARTITIONS);
}

#[test]
fn bad_links() {
    campaign(&scenarios::BAD_LINKS);
}

#[test]
fn crashes() {
    campaign(&scenarios::CRASHES);
}

#[test]
fn bad_disks() {
    campaign(&scenarios::BAD_DISKS);
}

#[test]
fn copies() {
    campaign(&scenarios::COPIES);
}

#[test]
fn bad_clocks() {
    campaign(&scenarios::BAD_CLOCKS);
}

#[test]
fn churn() {
    campaign(&scenarios::CHURN);
}

#[test]
fn large_keys() {
    campaign(&scenarios::LARGE_KEYS);
}

#[test]
fn months_offline() {
    campaign(&scenarios::MONTHS_OFFLINE);
}

#[test]
fn short_logs() {
    campaign(&scenarios::SHORT_LOGS);
}

#[test]
fn keyspaces() {
    campaign(&scenarios::KEYSPACES);
}

#[test]
fn retirements() {
    campaign(&scenarios::RETIREMENTS);
}

#[test]
fn hostile() {
    campaign(&scenarios::HOSTILE);
}

#[test]
fn computed() {
    campaign(&scenarios::COMPUTED);
}

#[test]
fn expiry() {
    campaign(&scenarios::EXPIRY);
}

#[test]
fn expiry_offline() {
    campaign(&scenarios::EXPIRY_OFFLINE);
}

#[test]
fn everything() {
    campaign(&scenarios::EVERYTHING);
}

#[test]
fn strong() {
    campaign(&scenarios::STRONG);
}

#[test]
fn strong_faults() {
    campaign(&scenarios::STRONG_FAULTS);
}
