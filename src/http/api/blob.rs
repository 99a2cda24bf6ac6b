//! Bytes in JSON: a string if they are UTF-8, `{"hex": ".."}` otherwise.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

use crate::export;

/// A key, element, field or value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Blob(pub(super) Vec<u8>);

impl Serialize for Blob {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match std::str::from_utf8(&self.0) {
            Ok(text) => serializer.serialize_str(text),
            Err(_) => export::bytes(&self.0).serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Blob {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let json = Value::deserialize(deserializer)?;
        let bytes = export::from_json(&json);
        bytes.map(Self).ok_or_else(|| D::Error::custom("neither a string nor {\"hex\": \"..\"}"))
    }
}

/// Each as JSON shows it.
pub(super) fn blobs(list: Vec<Vec<u8>>) -> Vec<Blob> {
    list.into_iter().map(Blob).collect()
}
