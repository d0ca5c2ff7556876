//! JSON judged by the part of JSON Schema that our schema uses. Stricter than the schema: a property that it does not know is a problem,
//! since what is printed and not documented is no promise.

use serde_json::Value;

/// What is wrong with `value` by `schema`, a part of `document`; each with its place.
#[must_use]
pub fn problems(document: &Value, schema: &Value, value: &Value) -> Vec<String> {
    let mut problems = Vec::new();
    judge(document, schema, value, "$", &mut problems);
    problems
}

fn judge(document: &Value, schema: &Value, value: &Value, place: &str, problems: &mut Vec<String>) {
    if let Some(name) = schema["$ref"].as_str() {
        let target = name.strip_prefix("#/$defs/").and_then(|name| document["$defs"].get(name));
        match target {
            Some(target) => judge(document, target, value, place, problems),
            None => problems.push(format!("{place}: {name} is not in the schema")),
        }
        return;
    }
    if let Some(choices) = schema["anyOf"].as_array() {
        if !choices.iter().any(|choice| self::problems(document, choice, value).is_empty()) {
            problems.push(format!("{place}: {value} is none of {choices:?}"));
        }
        return;
    }
    if let Some(values) = schema["enum"].as_array() {
        if !values.contains(value) {
            problems.push(format!("{place}: {value} is none of {values:?}"));
        }
        return;
    }
    if !is_of(&schema["type"], value) {
        problems.push(format!("{place}: {value} is no {}", schema["type"]));
        return;
    }
    if let (Some(pattern), Some(text)) = (schema["pattern"].as_str(), value.as_str())
        && !matches(pattern, text)
    {
        problems.push(format!("{place}: {text:?} does not match {pattern}"));
    }
    for needed in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        if value.get(needed).is_none() && value.is_object() {
            problems.push(format!("{place}: {needed} is missing"));
        }
    }
    for (name, inner) in value.as_object().into_iter().flatten() {
        let place = format!("{place}.{name}");
        match schema["properties"].get(name).or_else(|| schema.get("additionalProperties")) {
            Some(schema) => judge(document, schema, inner, &place, problems),
            None if schema.get("properties").is_none() => {}
            None => problems.push(format!("{place} is not documented")),
        }
    }
    if let (Some(items), Some(list)) = (schema.get("items"), value.as_array()) {
        for (at, inner) in list.iter().enumerate() {
            judge(document, items, inner, &format!("{place}[{at}]"), problems);
        }
    }
}

fn is_of(kind: &Value, value: &Value) -> bool {
    match kind {
        Value::Array(kinds) => kinds.iter().any(|kind| is_of(kind, value)),
        Value::String(kind) => match kind.as_str() {
            "object" => value.is_object(),
            "array" => value.is_array(),
            "string" => value.is_string(),
            "integer" => value.is_i64() || value.is_u64(),
            "number" => value.is_number(),
            "boolean" => value.is_boolean(),
            "null" => value.is_null(),
            _ => false,
        },
        Value::Null => true,
        Value::Bool(_) | Value::Number(_) | Value::Object(_) => false,
    }
}

/// The two patterns that the schema has: a whole number, and a duration in seconds.
fn matches(pattern: &str, text: &str) -> bool {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|letter| letter.is_ascii_digit());
    let text = text.strip_prefix('-').unwrap_or(text);
    match pattern.strip_suffix("s$") {
        Some(_) => text.strip_suffix('s').is_some_and(|text| match text.split_once('.') {
            Some((whole, part)) => digits(whole) && digits(part),
            None => digits(text),
        }),
        None => digits(text),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_the_schema_does_not_allow_is_told_with_its_place() {
        let document = json!({"$defs": {"a": {"type": "object", "required": ["n"], "properties": {
            "n": {"type": "string", "pattern": "^-?[0-9]+$"}, "list": {"type": "array", "items": {"$ref": "#/$defs/e"}}}},
            "e": {"anyOf": [{"enum": ["X"]}, {"type": "integer"}]}}});
        let schema = json!({"$ref": "#/$defs/a"});
        assert!(problems(&document, &schema, &json!({"n": "-12", "list": ["X", 7]})).is_empty());
        for (value, expected) in [
            (json!({"n": "1x"}), "$.n: \"1x\" does not match"),
            (json!({"n": 1}), "$.n: 1 is no \"string\""),
            (json!({}), "$: n is missing"),
            (json!({"n": "1", "more": 1}), "$.more is not documented"),
            (json!({"n": "1", "list": ["Y"]}), "$.list[0]: \"Y\" is none of"),
        ] {
            let found = problems(&document, &schema, &value);
            assert!(found.len() == 1 && found[0].starts_with(expected), "{value}: {found:?}");
        }
    }
}
