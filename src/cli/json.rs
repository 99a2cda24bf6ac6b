//! Answers as JSON.

use serde_json::{Map, Value as Json, json};

use super::escape;
use super::value::Value;
use crate::export;

/// Text is a string. Bytes that are not UTF-8 are `{"hex": "..."}`, so that nothing looks like what it is not.
pub(super) fn of(value: &Value) -> Json {
    match value {
        Value::Null => Json::Null,
        Value::Integer(number) => json!(number),
        Value::Boolean(is) => json!(is),
        Value::Double(number) => json!(number),
        Value::Word(word) => json!(word),
        Value::Bytes(bytes) => export::bytes(bytes),
        Value::List(items) => items.iter().map(of).collect(),
        Value::Map(pairs) => {
            Json::Object(pairs.iter().map(|(key, value)| (name(key), of(value))).collect::<Map<_, _>>())
        }
    }
}

/// A field's name must be text in JSON; other bytes are escaped.
fn name(key: &Value) -> String {
    match key {
        Value::Bytes(bytes) => String::from_utf8(bytes.clone()).unwrap_or_else(|_| escape::line(bytes)),
        other => of(other).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_that_are_not_text_are_told_from_text() {
        let bytes = |bytes: &[u8]| Value::Bytes(bytes.to_vec());
        let map = Value::Map(vec![(bytes(b"f"), bytes(b"\xff\x01")), (bytes(b"\xfe"), Value::Null)]);
        let list = Value::List(vec![bytes(b"ff01"), Value::Integer(1), Value::Boolean(true), map]);
        assert_eq!(of(&list).to_string(), r#"["ff01",1,true,{"\\xfe":null,"f":{"hex":"ff01"}}]"#);
    }
}
