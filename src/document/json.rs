//! Documents as JSON: read, written and patched.
//!
//! Writing keeps what is equal and goes into what is of the same kind, so that it undoes no concurrent edit that
//! it does not touch: a text is edited where it differs, a map is changed field by field. Strings become texts,
//! which is what automerge's JavaScript takes strings for.
//! Source: RFC 6901 (JSON Pointer), RFC 7396 (JSON Merge Patch).

use automerge::transaction::{Transactable, Transaction};
use automerge::{
    Automerge, AutomergeError, ObjId, ObjType, Prop, ROOT, ReadDoc, ScalarValue, Value as Stored,
};
use serde_json::{Map, Number, Value};
use thiserror::Error;
use tidelock_engine::bounds::REQUEST_ANSWER_BYTES_MAX;

use super::path::{DEPTH_MAX, Path, index};

/// Why JSON was not read or written.
#[derive(Debug, Clone, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum JsonError {
    /// The path is not a JSON Pointer.
    #[error("the path is a JSON Pointer, such as /list/0/name, or empty for the whole document")]
    Path,
    /// The path goes through something that is not there, or that has no parts.
    #[error("there is nothing at step {0} of the path")]
    NoSuchPath(usize),
    /// The whole document is an object.
    #[error("the whole document, and a patch of it, is a JSON object")]
    NotAnObject,
    /// It is deeper than can be read.
    #[error("deeper than {DEPTH_MAX} levels")]
    TooDeep,
    /// It is too long to answer.
    #[error("more than {REQUEST_ANSWER_BYTES_MAX} bytes of JSON; read a part of it")]
    TooLong,
    /// automerge refuses it.
    #[error("automerge: {0}")]
    Refused(String),
}

impl From<AutomergeError> for JsonError {
    fn from(error: AutomergeError) -> Self {
        Self::Refused(error.to_string())
    }
}

/// The part of a document at a path.
pub(super) fn read(document: &Automerge, path: &Path) -> Result<Option<Value>, JsonError> {
    let mut reader = Reader { document, left: REQUEST_ANSWER_BYTES_MAX };
    let mut at = (Stored::Object(ObjType::Map), ROOT);
    for step in &path.steps {
        let Stored::Object(kind) = at.0 else { return Ok(None) };
        let Some(prop) = prop_of(kind, step) else { return Ok(None) };
        match document.get(&at.1, prop)? {
            Some((value, id)) => at = (value, id),
            None => return Ok(None),
        }
    }
    reader.value(&at.0, &at.1, path.steps.len()).map(Some)
}

/// A field of a map, or an index of a list.
fn prop_of(kind: ObjType, step: &str) -> Option<Prop> {
    match kind {
        ObjType::Map | ObjType::Table => Some(Prop::Map(step.to_owned())),
        ObjType::List => index(step).map(Prop::Seq),
        ObjType::Text => None,
    }
}

struct Reader<'a> {
    document: &'a Automerge,
    /// The bytes that may still be read, roughly.
    left: usize,
}

impl Reader<'_> {
    fn value(&mut self, value: &Stored<'_>, id: &ObjId, depth: usize) -> Result<Value, JsonError> {
        if depth > DEPTH_MAX {
            return Err(JsonError::TooDeep);
        }
        match value {
            Stored::Scalar(scalar) => self.scalar(scalar),
            Stored::Object(ObjType::Text) => {
                let text = self.document.text(id)?;
                self.spend(text.len())?;
                Ok(Value::String(text))
            }
            Stored::Object(ObjType::List) => {
                let mut list = Vec::new();
                for item in 0..self.document.length(id) {
                    self.spend(1)?;
                    if let Some((value, id)) = self.document.get(id, item)? {
                        list.push(self.value(&value, &id, depth + 1)?);
                    }
                }
                Ok(Value::Array(list))
            }
            Stored::Object(ObjType::Map | ObjType::Table) => {
                let mut map = Map::new();
                for field in self.document.keys(id) {
                    self.spend(field.len() + 3)?;
                    if let Some((value, id)) = self.document.get(id, &field)? {
                        map.insert(field, self.value(&value, &id, depth + 1)?);
                    }
                }
                Ok(Value::Object(map))
            }
        }
    }

    fn scalar(&mut self, scalar: &ScalarValue) -> Result<Value, JsonError> {
        let list = |bytes: &[u8]| Value::Array(bytes.iter().map(|byte| (*byte).into()).collect());
        self.spend(match scalar {
            ScalarValue::Str(text) => text.len(),
            ScalarValue::Bytes(bytes) | ScalarValue::Unknown { bytes, .. } => 4 * bytes.len(),
            _ => 8,
        })?;
        Ok(match scalar {
            ScalarValue::Str(text) => Value::String(text.to_string()),
            ScalarValue::Bytes(bytes) | ScalarValue::Unknown { bytes, .. } => list(bytes),
            ScalarValue::Int(number) | ScalarValue::Timestamp(number) => (*number).into(),
            ScalarValue::Uint(number) => (*number).into(),
            // JSON has no infinities.
            ScalarValue::F64(number) => Number::from_f64(*number).map_or(Value::Null, Value::Number),
            ScalarValue::Counter(counter) => i64::from(counter).into(),
            ScalarValue::Boolean(is) => (*is).into(),
            ScalarValue::Null => Value::Null,
        })
    }

    fn spend(&mut self, bytes: usize) -> Result<(), JsonError> {
        self.left = self.left.checked_sub(bytes).ok_or(JsonError::TooLong)?;
        Ok(())
    }
}

/// Writes the part of a document at a path. The last step may be a new field, or an index right behind a list,
/// which `-` means too.
pub(super) fn set(edit: &mut Transaction<'_>, path: &Path, value: &Value) -> Result<(), JsonError> {
    check_depth(value, path.steps.len())?;
    let Some((last, way)) = path.steps.split_last() else {
        let Value::Object(fields) = value else { return Err(JsonError::NotAnObject) };
        return set_fields(edit, &ROOT, fields);
    };
    let mut at = (ROOT, ObjType::Map);
    for (number, step) in way.iter().enumerate() {
        let missing = || JsonError::NoSuchPath(number);
        let prop = prop_of(at.1, step).ok_or_else(missing)?;
        match edit.get(&at.0, prop)? {
            Some((Stored::Object(kind), id)) => at = (id, kind),
            _ => return Err(missing()),
        }
    }
    let missing = || JsonError::NoSuchPath(way.len());
    match at.1 {
        ObjType::Text => Err(missing()),
        ObjType::Map | ObjType::Table => assign(edit, &at.0, Prop::Map(last.clone()), value),
        ObjType::List => {
            let length = edit.length(&at.0);
            let index = if last == "-" { length } else { index(last).ok_or_else(missing)? };
            match index.cmp(&length) {
                std::cmp::Ordering::Less => assign(edit, &at.0, Prop::Seq(index), value),
                std::cmp::Ordering::Equal => insert(edit, &at.0, index, value),
                std::cmp::Ordering::Greater => Err(missing()),
            }
        }
    }
}

/// Changes the fields that a patch names; null removes one.
pub(super) fn patch(edit: &mut Transaction<'_>, patch: &Value) -> Result<(), JsonError> {
    check_depth(patch, 0)?;
    let Value::Object(fields) = patch else { return Err(JsonError::NotAnObject) };
    patch_fields(edit, &ROOT, fields)
}

fn patch_fields(
    edit: &mut Transaction<'_>,
    map: &ObjId,
    fields: &Map<String, Value>,
) -> Result<(), JsonError> {
    for (field, value) in fields {
        match (value, edit.get(map, field)?) {
            (Value::Null, None) => {}
            (Value::Null, Some(_)) => edit.delete(map, field)?,
            (Value::Object(inner), Some((Stored::Object(ObjType::Map), id))) => {
                patch_fields(edit, &id, inner)?;
            }
            // The nulls of a patch of what is not there name fields that are not there.
            (Value::Object(inner), _) => {
                let id = edit.put_object(map, field, ObjType::Map)?;
                patch_fields(edit, &id, inner)?;
            }
            (value, _) => assign(edit, map, Prop::Map(field.clone()), value)?,
        }
    }
    Ok(())
}

/// Makes what is at a place equal to a value.
fn assign(edit: &mut Transaction<'_>, parent: &ObjId, prop: Prop, value: &Value) -> Result<(), JsonError> {
    let (found, id) = match edit.get(parent, prop.clone())? {
        Some((found, id)) => (Some(found.into_owned()), id),
        None => (None, ROOT),
    };
    match (value, found) {
        (Value::Object(fields), Some(Stored::Object(ObjType::Map))) => set_fields(edit, &id, fields),
        (Value::Array(items), Some(Stored::Object(ObjType::List))) => set_items(edit, &id, items),
        (Value::String(text), Some(Stored::Object(ObjType::Text))) => Ok(edit.update_text(&id, text)?),
        (Value::Object(fields), _) => {
            let id = edit.put_object(parent, prop, ObjType::Map)?;
            set_fields(edit, &id, fields)
        }
        (Value::Array(items), _) => {
            let id = edit.put_object(parent, prop, ObjType::List)?;
            set_items(edit, &id, items)
        }
        (Value::String(text), _) => {
            let id = edit.put_object(parent, prop, ObjType::Text)?;
            Ok(edit.splice_text(&id, 0, 0, text)?)
        }
        (value, found) => {
            let scalar = scalar_of(value);
            if found == Some(Stored::from(scalar.clone())) {
                Ok(())
            } else {
                Ok(edit.put(parent, prop, scalar)?)
            }
        }
    }
}

fn set_fields(edit: &mut Transaction<'_>, map: &ObjId, fields: &Map<String, Value>) -> Result<(), JsonError> {
    let old: Vec<String> = edit.keys(map).filter(|field| !fields.contains_key(field)).collect();
    for field in old {
        edit.delete(map, field)?;
    }
    fields.iter().try_for_each(|(field, value)| assign(edit, map, Prop::Map(field.clone()), value))
}

/// Items are compared place by place; what is too much goes at the end.
fn set_items(edit: &mut Transaction<'_>, list: &ObjId, items: &[Value]) -> Result<(), JsonError> {
    let length = edit.length(list);
    for index in (items.len()..length).rev() {
        edit.delete(list, index)?;
    }
    for (index, value) in items.iter().enumerate() {
        if index < length {
            assign(edit, list, Prop::Seq(index), value)?;
        } else {
            insert(edit, list, index, value)?;
        }
    }
    Ok(())
}

fn insert(edit: &mut Transaction<'_>, list: &ObjId, index: usize, value: &Value) -> Result<(), JsonError> {
    match value {
        Value::Object(fields) => {
            let id = edit.insert_object(list, index, ObjType::Map)?;
            set_fields(edit, &id, fields)
        }
        Value::Array(items) => {
            let id = edit.insert_object(list, index, ObjType::List)?;
            set_items(edit, &id, items)
        }
        Value::String(text) => {
            let id = edit.insert_object(list, index, ObjType::Text)?;
            Ok(edit.splice_text(&id, 0, 0, text)?)
        }
        value => Ok(edit.insert(list, index, scalar_of(value))?),
    }
}

/// A value that has no parts.
fn scalar_of(value: &Value) -> ScalarValue {
    match value {
        Value::Bool(is) => ScalarValue::Boolean(*is),
        Value::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(number), _) => ScalarValue::Int(number),
            (None, Some(number)) => ScalarValue::Uint(number),
            (None, None) => ScalarValue::F64(number.as_f64().unwrap_or(f64::NAN)),
        },
        _ => ScalarValue::Null,
    }
}

/// What is written can be read again.
fn check_depth(value: &Value, depth: usize) -> Result<(), JsonError> {
    if depth > DEPTH_MAX {
        return Err(JsonError::TooDeep);
    }
    match value {
        Value::Array(items) => items.iter().try_for_each(|item| check_depth(item, depth + 1)),
        Value::Object(fields) => fields.values().try_for_each(|field| check_depth(field, depth + 1)),
        _ => Ok(()),
    }
}
