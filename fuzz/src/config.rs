//! The configuration file: any text.

use tidelock::NodeConfig;
use tidelock_engine::bounds::VALUE_BYTES_MAX;

use crate::Verdict;
use crate::memory::Bound;

/// The file is the operator's, so the bound is about mistakes: a parser that goes wild.
pub const BOUND: Bound = Bound { base: 64 << 10, per_byte: 512, max: 1 << 30 };

/// The text of a configuration file.
pub fn config(data: &[u8]) -> Verdict {
    let Ok(text) = std::str::from_utf8(data) else { return Verdict::Refused };
    let config = match BOUND.hold(data.len(), || NodeConfig::from_toml(text)) {
        Ok(config) => config,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            return Verdict::Refused;
        }
    };
    let again = toml::to_string(&config).expect("what was read can be written");
    assert_eq!(NodeConfig::from_toml(&again).expect("its own text"), config);
    if BOUND.hold(data.len(), || config.validate()).is_ok() {
        let redis = &config.redis;
        assert!(!config.cluster.is_empty() && config.cache_bytes >= 1 << 20);
        assert!((1..=VALUE_BYTES_MAX).contains(&redis.bulk_bytes_max));
        assert!((1..=1 << 20).contains(&redis.array_elements_max));
        assert!(redis.command_bytes_max - redis.bulk_bytes_max >= 1 << 10);
        assert!(redis.input_bytes_max >= redis.command_bytes_max && redis.clients_max > 0);
        assert!(redis.client_output_bytes_max >= 1 << 10);
        assert!(redis.output_bytes_max >= redis.client_output_bytes_max);
        let allowed = config.allowed().expect("it was validated");
        assert_eq!(allowed.is_none(), config.allow.is_empty());
    }
    Verdict::Decoded
}
