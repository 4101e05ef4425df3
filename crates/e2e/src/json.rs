//! Reads answers whose shape is known: what is not there stops the test.

use serde_json::Value;

pub fn items(list: &Value) -> impl Iterator<Item = &Value> {
    items_of(&list["items"])
}

pub fn items_of(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().unwrap_or_else(|| panic!("not a list: {list}")).iter()
}

pub fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("not text: {value}")).to_owned()
}

pub fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("not a number: {value}"))
}

pub fn whole(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("not a whole number: {value}"))
}
