//! tidelock
