//! `docs/reference/api.md`: services, messages and enums with the comments that stand in `proto/`.

use prost_types::field_descriptor_proto::Type;

use super::protocol::{Enumeration, Holds, MEMBERS, Message, Protocol, SERVICES, Shape, comment, index, shape};

const HEAD: &str = "# The API

<!-- Made from proto/ by `make reference`. Edit the comments there. -->

Every call, message and field, as `proto/` describes them. [The API by hand](../guides/grpcurl.md) shows how to call them,
[JSON of the commands](json.md) what `muster -o json` prints. A failed call carries a [Fault](#musterv1fault) in its details.
";

/// The page.
#[must_use]
pub fn page(protocol: &Protocol) -> String {
    let mut page = HEAD.to_owned();
    for package in ["muster.v1", "muster.agent.v1"] {
        page.push_str(&format!("\n## Services of {package}\n"));
        services(protocol, package, &mut page);
        page.push_str(&format!("\n## Messages of {package}\n"));
        let mut messages = protocol.messages();
        messages.retain(|message| message.file.package() == package);
        messages.sort_by(|a, b| a.full_name.cmp(&b.full_name));
        messages.iter().for_each(|message| page.push_str(&message_text(message)));
        page.push_str(&format!("\n## Enums of {package}\n"));
        let mut enums = protocol.enums();
        enums.retain(|one| one.file.package() == package);
        enums.sort_by(|a, b| a.full_name.cmp(&b.full_name));
        enums.iter().for_each(|one| page.push_str(&enum_text(one)));
    }
    page
}

fn services(protocol: &Protocol, package: &str, page: &mut String) {
    for file in protocol.files.iter().filter(|file| file.package() == package) {
        for (at, service) in file.service.iter().enumerate() {
            let path = [SERVICES, index(at)];
            page.push_str(&format!("\n### {package}.{}\n\n{}\n\n", service.name(), safe(&comment(file, &path))));
            page.push_str("| call | takes | answers | what it does |\n|---|---|---|---|\n");
            for (number, method) in service.method.iter().enumerate() {
                let stream = |is: bool| if is { "stream of " } else { "" };
                page.push_str(&format!(
                    "| `{}` | {}{} | {}{} | {} |\n",
                    method.name(),
                    stream(method.client_streaming()),
                    link(method.input_type()),
                    stream(method.server_streaming()),
                    link(method.output_type()),
                    safe(&comment(file, &[SERVICES, index(at), MEMBERS, index(number)]))
                ));
            }
        }
    }
}

fn message_text(message: &Message<'_>) -> String {
    let mut text = format!("\n### {}\n\n{}\n", message.full_name, safe(&comment(message.file, &message.path)));
    if message.descriptor.field.is_empty() {
        return text;
    }
    text.push_str("\n| field | type | meaning |\n|---|---|---|\n");
    for (at, field) in message.descriptor.field.iter().enumerate() {
        let path = [message.path.as_slice(), &[MEMBERS, index(at)]].concat();
        let kind = match shape(message.descriptor, field) {
            Shape::One(holds) => held(&holds),
            Shape::List(holds) => format!("list of {}", held(&holds)),
            Shape::Map(key, holds) => format!("map of {} to {}", scalar(key), held(&holds)),
        };
        // proto3's `optional` is a oneof of one for descriptors only.
        let one_of = field.oneof_index.filter(|_| !field.proto3_optional());
        let one_of = one_of.and_then(|at| message.descriptor.oneof_decl.get(usize::try_from(at).ok()?));
        let one_of = one_of.map(|one| format!("One of `{}`. ", one.name())).unwrap_or_default();
        text.push_str(&format!("| `{}` | {kind} | {one_of}{} |\n", field.name(), safe(&comment(message.file, &path))));
    }
    text
}

fn enum_text(one: &Enumeration<'_>) -> String {
    let mut text =
        format!("\n### {}\n\n{}\n\n| value | number | meaning |\n|---|---|---|\n", one.full_name, safe(&comment(one.file, &one.path)));
    for (at, value) in one.descriptor.value.iter().enumerate() {
        let path = [one.path.as_slice(), &[MEMBERS, index(at)]].concat();
        text.push_str(&format!("| `{}` | {} | {} |\n", value.name(), value.number(), safe(&comment(one.file, &path))));
    }
    text
}

fn held(holds: &Holds) -> String {
    match holds {
        Holds::Scalar(kind) => scalar(*kind),
        Holds::Message(name) | Holds::Enum(name) => link(name),
    }
}

fn scalar(kind: Type) -> String {
    kind.as_str_name().trim_start_matches("TYPE_").to_lowercase()
}

/// The name of a message or enum, leading to its heading where it is ours.
fn link(name: &str) -> String {
    let name = name.trim_start_matches('.');
    let short = name.strip_prefix("muster.v1.").or_else(|| name.strip_prefix("muster.agent.v1.")).unwrap_or(name);
    if name.starts_with("muster.") { format!("[{short}](#{})", anchor(name)) } else { format!("`{short}`") }
}

/// As mdBook makes it of a heading: lower case, without points.
fn anchor(name: &str) -> String {
    name.to_lowercase().replace('.', "")
}

/// What would end a table's cell, begin a tag or a link is escaped.
fn safe(text: &str) -> String {
    let mut safe = String::new();
    let mut in_code = false;
    for letter in text.chars() {
        in_code ^= letter == '`';
        match letter {
            '|' => safe.push_str("\\|"),
            '<' if !in_code => safe.push_str("&lt;"),
            '[' if !in_code => safe.push_str("\\["),
            other => safe.push(other),
        }
    }
    safe
}
