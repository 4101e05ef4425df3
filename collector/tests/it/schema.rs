//! Does a value fit its schema? Of JSON Schema it knows what our document uses and refuses to pass over the rest. It is stricter
//! than the standard in one thing: a field that is not described is a fault.

use serde_json::{Map, Value, json};
use telemetry::Wall;

#[derive(Clone, Copy)]
pub(crate) struct Schema<'a> {
    /// In which references are looked up.
    pub(crate) document: &'a Value,
    pub(crate) schema: &'a Value,
}

/// The fields of an object, those of its parts included.
#[derive(Default)]
struct Fields<'a> {
    described: Map<String, Value>,
    required: Vec<&'a str>,
}

impl<'a> Schema<'a> {
    /// What does not fit, and where.
    pub(crate) fn check(self, value: &Value) -> Result<(), String> {
        let fault = |what: String| Err(format!("{what}\nof {}\nin {value:#}", self.schema));
        for (keyword, wanted) in self.schema.as_object().ok_or("not a schema")? {
            let fits = match keyword.as_str() {
                "$ref" => return self.of(self.resolve()?).check(value),
                "anyOf" => each(wanted).any(|part| self.of(part).check(value).is_ok()),
                "oneOf" => each(wanted).filter(|part| self.of(part).check(value).is_ok()).count() == 1,
                "type" => each(wanted).any(|kind| is_kind(value, kind)),
                "enum" => each(wanted).any(|allowed| allowed == value),
                "pattern" => matches(wanted.as_str().unwrap_or_default(), value.as_str().unwrap_or_default()),
                "format" => value.is_null() || is_formatted(value, wanted.as_str().unwrap_or_default()),
                "minimum" => value.is_null() || value.as_f64() >= wanted.as_f64(),
                "items" => each_item(value).try_for_each(|item| self.of(wanted).check(item)).map(|()| true)?,
                "minItems" => value.is_null() || each_item(value).count() as u64 >= wanted.as_u64().unwrap_or(0),
                "maxItems" => value.is_null() || each_item(value).count() as u64 <= wanted.as_u64().unwrap_or(0),
                "additionalProperties" => {
                    let fields = value.as_object().into_iter().flat_map(Map::values);
                    fields.clone().try_for_each(|field| self.of(wanted).check(field)).map(|()| true)?
                }
                "propertyNames" => {
                    let mut names = value.as_object().into_iter().flat_map(Map::keys);
                    names.try_for_each(|name| self.of(wanted).check(&name.as_str().into())).map(|()| true)?
                }
                "minLength" => value.as_str().map(str::len) >= wanted.as_u64().map(|least| least as usize),
                "maxLength" => value.as_str().map(str::len) <= wanted.as_u64().map(|most| most as usize),
                "description" | "properties" | "required" | "allOf" => true,
                other => return fault(format!("{other} is a keyword that this validator does not know")),
            };
            if !fits {
                return fault(format!("{keyword} does not fit"));
            }
        }
        if ["properties", "allOf"].iter().all(|keyword| self.schema[keyword].is_null()) {
            return Ok(());
        }
        let (fields, object) = (self.fields()?, value.as_object().ok_or("not an object")?);
        if let Some(missing) = fields.required.iter().find(|name| !object.contains_key(**name)) {
            return fault(format!("{missing} is missing"));
        }
        for (name, field) in object {
            let Some(schema) = fields.described.get(name) else { return fault(format!("{name} is not described")) };
            Schema { document: self.document, schema }.check(field)?;
        }
        Ok(())
    }

    fn fields(self) -> Result<Fields<'a>, String> {
        let mut fields = Fields::default();
        if !self.schema["$ref"].is_null() {
            return self.of(self.resolve()?).fields();
        }
        for part in each(&self.schema["allOf"]) {
            let Fields { described, required } = self.of(part).fields()?;
            fields.described.extend(described);
            fields.required.extend(required);
        }
        fields.described.extend(self.schema["properties"].as_object().cloned().unwrap_or_default());
        fields.required.extend(each(&self.schema["required"]).filter_map(Value::as_str));
        Ok(fields)
    }

    fn resolve(self) -> Result<&'a Value, String> {
        let path = self.schema["$ref"].as_str().and_then(|path| path.strip_prefix('#')).unwrap_or_default();
        self.document.pointer(path).ok_or(format!("{path} is not in the document"))
    }

    fn of(self, schema: &'a Value) -> Self {
        Self { schema, ..self }
    }
}

/// Of a list; anything else is a list of one, and null of none.
fn each(value: &Value) -> impl Iterator<Item = &Value> {
    let one = Some(value).filter(|value| !value.is_array() && !value.is_null());
    value.as_array().into_iter().flatten().chain(one)
}

fn each_item(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn is_kind(value: &Value, kind: &Value) -> bool {
    match kind.as_str().unwrap_or_default() {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "string" => value.is_string(),
        "number" => value.is_number(),
        "integer" => value.is_i64() || value.is_u64(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        other => panic!("{other} is not a type"),
    }
}

fn is_formatted(value: &Value, format: &str) -> bool {
    match format {
        "int32" => value.as_i64().is_some_and(|number| i32::try_from(number).is_ok()),
        "int64" | "double" => value.is_number(),
        "date-time" => value.as_str().is_some_and(|text| text.parse::<Wall>().is_ok()),
        other => panic!("{other} is not a format"),
    }
}

/// `^[characters]{least,most}$`, or `{exactly}`.
fn matches(pattern: &str, text: &str) -> bool {
    let parts = pattern.strip_prefix("^[").and_then(|rest| rest.strip_suffix("}$")).and_then(|it| it.split_once("]{"));
    let (characters, counts) = parts.unwrap_or_else(|| panic!("{pattern} is another kind of pattern"));
    let (least, most) = counts.split_once(',').unwrap_or((counts, counts));
    let in_class = |byte: u8| {
        let class = characters.as_bytes();
        let ranges = class.windows(3).filter(|range| range[1] == b'-');
        class.contains(&byte) || ranges.into_iter().any(|range| (range[0]..=range[2]).contains(&byte))
    };
    (least.parse().unwrap()..=most.parse().unwrap()).contains(&text.len()) && text.bytes().all(in_class)
}

#[test]
fn what_does_not_fit_is_told() {
    let document = json!({"components": {"schemas": {"Name": {"type": "string", "pattern": "^[a-c_-]{1,3}$"}}}});
    let name = json!({"$ref": "#/components/schemas/Name"});
    let nullable = json!({"oneOf": [name, {"type": "null"}]});
    let object =
        json!({"type": "object", "properties": {"a": name, "b": {"type": ["number", "null"]}}, "required": ["b"]});
    let both = json!({"allOf": [object, {"properties": {"c": {"type": "integer", "minimum": 0}}, "required": ["c"]}]});
    let fits = |schema: &Value, value: Value| Schema { document: &document, schema }.check(&value).is_ok();
    assert!(
        fits(&name, json!("a_-")) && !fits(&name, json!("abcd")) && !fits(&name, json!("d")) && !fits(&name, json!(1))
    );
    assert!(fits(&nullable, json!(null)) && fits(&nullable, json!("a")) && !fits(&nullable, json!("")));
    assert!(fits(&object, json!({"b": null})) && fits(&object, json!({"a": "b", "b": 0.5})));
    for wrong in [json!({}), json!({"b": "x"}), json!({"a": null, "b": 1}), json!({"b": 1, "d": 1}), json!([])] {
        assert!(!fits(&object, wrong.clone()), "{wrong}");
    }
    assert!(
        fits(&both, json!({"b": 1, "c": 1})) && !fits(&both, json!({"b": 1})) && !fits(&both, json!({"b": 1, "c": -1}))
    );
    assert!(!fits(&json!({"not": {}}), json!(1)) && !fits(&json!({"$ref": "#/components/schemas/Nobody"}), json!(1)));
    assert!(!fits(&json!({"type": "array", "items": name}), json!(["a", "d"])));
    assert!(!fits(&json!({"enum": ["ok", "down"]}), json!("up")));
}
