//! The fields in which two versions of a spec differ, for people.
//!
//! It works on the JSON form, so that fields are called as in the YAML documents.

use serde_json::Value;

/// The most fields that are told of one resource.
pub const MOST_FIELDS: usize = 100;
/// The most characters of a value that are shown.
const MOST_SHOWN: usize = 120;

/// Each as `path: old -> new`, in the order of the paths; what is on one side only is `(none)` on the other.
#[must_use]
pub fn fields(old: &Value, new: &Value) -> Vec<String> {
    let mut found = Vec::new();
    walk("", Some(old), Some(new), &mut found);
    if found.len() > MOST_FIELDS {
        let more = found.len() - MOST_FIELDS;
        found.truncate(MOST_FIELDS);
        found.push(format!("and {more} more"));
    }
    found
}

fn walk(path: &str, old: Option<&Value>, new: Option<&Value>, found: &mut Vec<String>) {
    match (old, new) {
        (Some(Value::Object(before)), Some(Value::Object(after))) => {
            let mut names: Vec<&String> = before.keys().chain(after.keys()).collect();
            names.sort();
            names.dedup();
            for name in names {
                let below = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                walk(&below, before.get(name), after.get(name), found);
            }
        }
        (Some(Value::Array(before)), Some(Value::Array(after))) => {
            for n in 0..before.len().max(after.len()) {
                walk(&format!("{path}[{n}]"), before.get(n), after.get(n), found);
            }
        }
        (before, after) if before == after => {}
        (before, after) => found.push(format!("{path}: {} -> {}", show(before), show(after))),
    }
}

fn show(value: Option<&Value>) -> String {
    let text = match value {
        None => return "(none)".to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    };
    if text.chars().count() > MOST_SHOWN { format!("{}…", text.chars().take(MOST_SHOWN).collect::<String>()) } else { text }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_field_that_differs_is_told_by_its_path() {
        let old = json!({"priority": "HIGH", "instances": [{"site": "a", "files": {"path": "/x"}}]});
        let new = json!({"instances": [{"site": "a", "files": {"path": "/y"}}, {"site": "b"}], "repository": "r"});
        assert_eq!(
            fields(&old, &new),
            [
                "instances[0].files.path: /x -> /y",
                "instances[1]: (none) -> {\"site\":\"b\"}",
                "priority: HIGH -> (none)",
                "repository: (none) -> r",
            ]
        );
        assert_eq!(fields(&old, &old), Vec::<String>::new());
    }

    #[test]
    fn a_long_list_of_differences_is_cut_and_says_so() {
        let new: Value = (0..150).map(|n| (format!("f{n}"), json!(n))).collect::<serde_json::Map<_, _>>().into();
        let told = fields(&json!({}), &new);
        assert_eq!(told.len(), MOST_FIELDS + 1);
        assert_eq!(told.last().map(String::as_str), Some("and 50 more"));
    }
}
