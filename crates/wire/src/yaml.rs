//! Resources as people declare them: YAML documents of `kind`, `name` and `spec`.
//!
//! The spec is the JSON form of the kind's message; besides it field names may be written as in the proto files
//! (`data_directory`), enum values without their prefix (`CRITICAL`) and durations as `30m`. What is unknown, given twice or of a
//! wrong shape is refused with file, line, column, what was expected and the nearest name.

mod read;
mod tree;
mod write;

use std::fmt;

use muster_common::fault::{ErrorKind, Fault};
use prost_reflect::{FieldDescriptor, MessageDescriptor, Value};

use self::tree::{Node, Place, Shape};
use crate::descriptor;
use crate::nearest::did_you_mean;
use crate::proto::v1::resource::Spec;
use crate::proto::v1::{Resource, ResourceKind};

/// The most resources in one file, as in one `ApplyRequest`.
pub const MAX_RESOURCES: usize = 1_000;

/// The longest text, in bytes.
pub const MAX_BYTES: usize = 4 << 20;

const RESOURCE: &str = "muster.v1.Resource";
const KEYS: [&str; 5] = ["kind", "name", "id", "etag", "spec"];

/// Why a text is no list of resources, shown as `file:line:column: message`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct YamlError {
    /// The file as it was named by the caller.
    pub file: String,
    /// Counted from 1; 0 where the whole text is meant.
    pub line: u64,
    /// Counted from 1, in characters; 0 where the whole text is meant.
    pub column: u64,
    /// What was found and what was expected.
    pub message: String,
}

impl fmt::Display for YamlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.file, self.message),
            line => write!(f, "{}:{line}:{}: {}", self.file, self.column, self.message),
        }
    }
}

impl From<YamlError> for Fault {
    fn from(error: YamlError) -> Self {
        Self::refused(ErrorKind::InvalidArgument, error.to_string()).hint(
            "correct the file and apply it again; nothing of it was applied. `muster get KIND NAME -o yaml` shows how a document looks",
        )
    }
}

/// Something wrong at a place; the file's name is added on the way out.
#[derive(Debug)]
struct Wrong {
    place: Place,
    message: String,
}

impl Wrong {
    fn at(place: Place, message: impl Into<String>) -> Self {
        Self { place, message: message.into() }
    }
}

fn quoted(text: &str) -> String {
    format!("{:?}", text.chars().take(80).collect::<String>())
}

/// More than the deepest field of any kind lies; a text that goes deeper is refused before it can fill a thread's stack.
const MAX_DEPTH: usize = 24;

/// All resources of a text of one or more documents. Empty documents count for nothing. `file` is for the error only.
///
/// # Errors
/// At the first thing that is wrong.
pub fn parse(text: &str, file: &str) -> Result<Vec<Resource>, YamlError> {
    read_all(text).map_err(|wrong| YamlError {
        file: file.to_owned(),
        line: wrong.place.line,
        column: wrong.place.column,
        message: wrong.message,
    })
}

/// A resource as one document that [`parse`] reads back: kind, name, id and spec, without what else the controller adds.
///
/// # Errors
/// Where the resource has no spec.
pub fn to_yaml(resource: &Resource) -> Result<String, Fault> {
    let internal = |reason: &str| Fault::failed(ErrorKind::Internal, format!("show {:?} as YAML: {reason}", resource.name));
    let kind = kind_of(resource).ok_or_else(|| internal("it has no spec of a kind that this version knows"))?;
    let whole = descriptor::dynamic(resource, RESOURCE).ok_or_else(|| internal("it is no resource"))?;
    let field = spec_fields().into_iter().find(|field| field.name() == kind_name(kind).to_ascii_lowercase());
    let spec = field.map(|field| whole.get_field(&field).into_owned());
    let Some(Value::Message(spec)) = spec else {
        return Err(internal("its spec is no message"));
    };
    let text = |text: &str| write::Plain::Text(text.to_owned());
    let mut entries = vec![(text("kind"), text(kind_name(kind))), (text("name"), text(&resource.name))];
    if !resource.id.is_empty() {
        entries.push((text("id"), text(&resource.id)));
    }
    entries.push((text("spec"), write::message(&spec)));
    serde_saphyr::to_string(&write::Plain::Map(entries)).map_err(|error| internal(&error.to_string()))
}

/// The kind of a resource; `None` where it has no spec.
#[must_use]
pub fn kind_of(resource: &Resource) -> Option<ResourceKind> {
    Some(match resource.spec.as_ref()? {
        Spec::Site(_) => ResourceKind::Site,
        Spec::Repository(_) => ResourceKind::Repository,
        Spec::Component(_) => ResourceKind::Component,
        Spec::Schedule(_) => ResourceKind::Schedule,
        Spec::Route(_) => ResourceKind::Route,
    })
}

/// A kind as people write it: `Component`.
#[must_use]
pub const fn kind_name(kind: ResourceKind) -> &'static str {
    match kind {
        ResourceKind::Unspecified => "",
        ResourceKind::Site => "Site",
        ResourceKind::Repository => "Repository",
        ResourceKind::Component => "Component",
        ResourceKind::Schedule => "Schedule",
        ResourceKind::Route => "Route",
    }
}

/// All kinds, in the order in which they are needed: what others name comes first.
pub const KINDS: [ResourceKind; 5] =
    [ResourceKind::Site, ResourceKind::Repository, ResourceKind::Component, ResourceKind::Schedule, ResourceKind::Route];

/// The kind that a person names: `component`, `Component`, `components`.
///
/// # Errors
/// Where there is none of that name; the text has the nearest.
pub fn kind_from_name(text: &str) -> Result<ResourceKind, Fault> {
    let is = |kind: &&ResourceKind| {
        let name = kind_name(**kind);
        let plural = if let Some(stem) = name.strip_suffix('y') { format!("{stem}ies") } else { format!("{name}s") };
        name.eq_ignore_ascii_case(text) || plural.eq_ignore_ascii_case(text)
    };
    KINDS.iter().find(is).copied().ok_or_else(|| Fault::refused(ErrorKind::InvalidArgument, unknown_kind(text)))
}

fn unknown_kind(text: &str) -> String {
    let names = KINDS.map(kind_name);
    format!("unknown kind {}; expected {}{}", quoted(text), names.join(", "), did_you_mean(text, names))
}

fn spec_fields() -> Vec<FieldDescriptor> {
    let oneofs: Vec<_> = descriptor::message(RESOURCE).iter().flat_map(MessageDescriptor::oneofs).collect();
    oneofs.iter().filter(|one| one.name() == "spec").flat_map(|one| one.fields().collect::<Vec<_>>()).collect()
}

fn read_all(text: &str) -> Result<Vec<Resource>, Wrong> {
    if text.len() > MAX_BYTES {
        return Err(Wrong::at(Place::default(), format!("longer than {MAX_BYTES} bytes; split the file")));
    }
    let documents: Vec<Node> = serde_saphyr::from_multiple_with_options(text, options()).map_err(|error| {
        let place = error.location().map(Place::from).unwrap_or_default();
        let told = error.without_snippet().to_string();
        Wrong::at(place, without_place(told.lines().next().unwrap_or_default()))
    })?;
    if documents.len() > MAX_RESOURCES {
        return Err(Wrong::at(Place::default(), format!("more than {MAX_RESOURCES} documents; split the file")));
    }
    let mut resources = Vec::with_capacity(documents.len());
    for document in &documents {
        let resource = read_document(document)?;
        let same = |other: &Resource| other.name == resource.name && kind_of(other) == kind_of(&resource);
        if resources.iter().any(same) {
            let kind = kind_of(&resource).map_or("", kind_name);
            return Err(Wrong::at(document.place, format!("{kind} {} is declared twice in this file", quoted(&resource.name))));
        }
        resources.push(resource);
    }
    Ok(resources)
}

fn options() -> serde_saphyr::Options {
    let mut budget = serde_saphyr::Budget::default();
    budget.max_depth = MAX_DEPTH;
    let mut options = serde_saphyr::Options::default();
    options.budget = Some(budget);
    options
}

/// The library's text without the place at its end, which is told at the beginning.
fn without_place(text: &str) -> String {
    text.split(" at line ").next().unwrap_or(text).trim_end_matches(',').to_owned()
}

fn read_document(document: &Node) -> Result<Resource, Wrong> {
    let Shape::Map(entries) = &document.shape else {
        return Err(Wrong::at(document.place, format!("expected a mapping of kind, name, spec; found {}", document.shape.told())));
    };
    let mut found: [Option<&Node>; 5] = [None; 5];
    for (key, value) in entries {
        let written = match &key.shape {
            Shape::Text(text) => text.as_str(),
            other => return Err(Wrong::at(key.place, format!("expected kind, name or spec, found {}", other.told()))),
        };
        let slot = KEYS.iter().position(|known| *known == written).and_then(|at| found.get_mut(at));
        match slot {
            Some(slot) => *slot = Some(value),
            None => {
                let near = did_you_mean(written, KEYS);
                return Err(Wrong::at(key.place, format!("unknown key {}; expected kind, name, spec{near}", quoted(written))));
            }
        }
    }
    let [kind, name, id, etag, spec] = found;
    let kind = read_kind(kind, document.place)?;
    let name = text_of(name, "name", document.place)?;
    if let Err(error) = name.1.parse::<muster_common::name::Name>() {
        return Err(Wrong::at(name.0, format!("name: {error}")));
    }
    let text_or_nothing = |node: Option<&Node>, key| {
        node.map_or(Ok(String::new()), |node| text_of(Some(node), key, node.place).map(|found| found.1.to_owned()))
    };
    let (id, etag) = (text_or_nothing(id, "id")?, text_or_nothing(etag, "etag")?);
    Ok(Resource { id, etag, ..read_resource(kind, name.1, spec, document.place)? })
}

fn read_kind(node: Option<&Node>, document: Place) -> Result<ResourceKind, Wrong> {
    let (place, written) = text_of(node, "kind", document)?;
    KINDS.into_iter().find(|kind| kind_name(*kind) == written).ok_or_else(|| Wrong::at(place, unknown_kind(written)))
}

fn text_of<'a>(node: Option<&'a Node>, key: &str, document: Place) -> Result<(Place, &'a str), Wrong> {
    let node = node.ok_or_else(|| Wrong::at(document, format!("{key} is missing; expected kind, name, spec")))?;
    match &node.shape {
        Shape::Text(text) => Ok((node.place, text)),
        other => Err(Wrong::at(node.place, format!("{key}: expected a text, found {}", other.told()))),
    }
}

fn read_resource(kind: ResourceKind, name: &str, spec: Option<&Node>, document: Place) -> Result<Resource, Wrong> {
    let defect = || Wrong::at(document, format!("{} cannot be read by this version", kind_name(kind)));
    let field = spec_fields().into_iter().find(|field| field.name() == kind_name(kind).to_ascii_lowercase()).ok_or_else(defect)?;
    let descriptor = field.kind().as_message().cloned().ok_or_else(defect)?;
    let spec = match spec {
        None | Some(Node { shape: Shape::Null, .. }) => prost_reflect::DynamicMessage::new(descriptor),
        Some(node) => read::message(node, &descriptor, "spec")?,
    };
    let mut whole = prost_reflect::DynamicMessage::new(descriptor::message(RESOURCE).ok_or_else(defect)?);
    whole.set_field(&field, Value::Message(spec));
    let read: Resource = whole.transcode_to().map_err(|_| defect())?;
    Ok(Resource { name: name.to_owned(), ..read })
}

#[cfg(test)]
mod tests;
