//! Holds JSON against a schema of an OpenAPI document: as much of the language as ours uses.

use serde_json::Value;

/// Answers what is wrong with `value`, if anything is. References are looked up in `document`.
pub(crate) fn check(document: &Value, schema: &Value, value: &Value) -> Result<(), String> {
    if let Some(reference) = schema["$ref"].as_str() {
        let found = document.pointer(reference.trim_start_matches('#'));
        return check(document, found.ok_or(format!("{reference} is nowhere"))?, value);
    }
    if let Some(choices) = schema["oneOf"].as_array() {
        let fitting = choices.iter().filter(|choice| check(document, choice, value).is_ok()).count();
        return if fitting == 1 { Ok(()) } else { Err(format!("{value} fits {fitting} of {choices:?}")) };
    }
    check_type(schema, value)?;
    if let Some(words) = schema["enum"].as_array()
        && !words.contains(value)
    {
        return Err(format!("{value} is none of {words:?}"));
    }
    if let (Some(least), Some(number)) = (schema["minimum"].as_i64(), value.as_i64())
        && number < least
    {
        return Err(format!("{number} is less than {least}"));
    }
    for item in value.as_array().into_iter().flatten() {
        check(document, &schema["items"], item)?;
    }
    if schema["properties"].is_object() { check_fields(document, schema, value) } else { Ok(()) }
}

fn check_type(schema: &Value, value: &Value) -> Result<(), String> {
    let is = |name: &str| match name {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "null" => value.is_null(),
        _ => panic!("a type that the documents do not use: {name}"),
    };
    let types = &schema["type"];
    let names: Vec<&str> = match types.as_array() {
        Some(names) => names.iter().filter_map(Value::as_str).collect(),
        None => types.as_str().into_iter().collect(),
    };
    assert!(!names.is_empty(), "a schema without a type: {schema}");
    if names.into_iter().any(is) { Ok(()) } else { Err(format!("{value} is no {types}")) }
}

fn check_fields(document: &Value, schema: &Value, value: &Value) -> Result<(), String> {
    let (known, fields) = (schema["properties"].as_object(), value.as_object());
    let (Some(known), Some(fields)) = (known, fields) else { return Err(format!("{value} has no fields")) };
    for (name, field) in fields {
        let schema = known.get(name).ok_or(format!("{name} is not documented"))?;
        check(document, schema, field).map_err(|error| format!("{name}: {error}"))?;
    }
    let required = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let missing: Vec<&str> = required.filter(|name| !fields.contains_key(*name)).collect();
    if missing.is_empty() { Ok(()) } else { Err(format!("{value} lacks {missing:?}")) }
}
