//! The protocol's files as descriptors, with the comments that stand at each thing.

use std::collections::BTreeMap;

use muster_wire::descriptor;
use prost::Message as _;
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorProto, FileDescriptorSet};

/// Numbers of fields in descriptor.proto, of which the paths to comments are made.
const MESSAGES: i32 = 4;
const NESTED: i32 = 3;
const NESTED_ENUMS: i32 = 4;
const ENUMS: i32 = 5;
/// The same, of services and methods.
pub const SERVICES: i32 = 6;
/// In a message: its fields. In an enum: its values. In a service: its methods.
pub const MEMBERS: i32 = 2;

/// The protocol.
pub struct Protocol {
    /// Our files, by name.
    pub files: Vec<FileDescriptorProto>,
}

/// A message with its place.
pub struct Message<'a> {
    /// As `muster.v1.Operation`.
    pub full_name: String,
    /// What it is.
    pub descriptor: &'a DescriptorProto,
    /// Where its comment is.
    pub path: Vec<i32>,
    /// The file that it stands in.
    pub file: &'a FileDescriptorProto,
}

/// An enum with its place.
pub struct Enumeration<'a> {
    /// As `muster.v1.Severity`.
    pub full_name: String,
    /// What it is.
    pub descriptor: &'a EnumDescriptorProto,
    /// Where its comment is.
    pub path: Vec<i32>,
    /// The file that it stands in.
    pub file: &'a FileDescriptorProto,
}

impl Protocol {
    /// What this build speaks.
    ///
    /// # Panics
    /// Where the descriptors cannot be decoded.
    #[must_use]
    pub fn of_this_build() -> Self {
        assert!(descriptor::message("muster.v1.Resource").is_some(), "the protocol is built in");
        let set = FileDescriptorSet::decode(muster_wire::DESCRIPTORS).expect("descriptors");
        let mut files: Vec<_> = set.file.into_iter().filter(|file| file.package().starts_with("muster.")).collect();
        // What operators and automation call comes first, the agents' link last.
        files.sort_by_key(|file| (file.package() != "muster.v1", file.name().to_owned()));
        Self { files }
    }

    /// Every message, nested ones after the one that holds them; entries of maps are left out.
    #[must_use]
    pub fn messages(&self) -> Vec<Message<'_>> {
        let mut all = Vec::new();
        for file in &self.files {
            for (at, message) in file.message_type.iter().enumerate() {
                collect(file, message, format!("{}.{}", file.package(), message.name()), vec![MESSAGES, index(at)], &mut all);
            }
        }
        all
    }

    /// Every enum.
    #[must_use]
    pub fn enums(&self) -> Vec<Enumeration<'_>> {
        let mut all = Vec::new();
        for file in &self.files {
            for (at, descriptor) in file.enum_type.iter().enumerate() {
                let full_name = format!("{}.{}", file.package(), descriptor.name());
                all.push(Enumeration { full_name, descriptor, path: vec![ENUMS, index(at)], file });
            }
        }
        for message in self.messages() {
            for (at, descriptor) in message.descriptor.enum_type.iter().enumerate() {
                let full_name = format!("{}.{}", message.full_name, descriptor.name());
                let path = [message.path.as_slice(), &[NESTED_ENUMS, index(at)]].concat();
                all.push(Enumeration { full_name, descriptor, path, file: message.file });
            }
        }
        all
    }
}

fn collect<'a>(
    file: &'a FileDescriptorProto,
    descriptor: &'a DescriptorProto,
    full_name: String,
    path: Vec<i32>,
    all: &mut Vec<Message<'a>>,
) {
    if descriptor.options.as_ref().is_some_and(|options| options.map_entry()) {
        return;
    }
    let nested: Vec<_> = descriptor.nested_type.iter().enumerate().collect();
    all.push(Message { full_name: full_name.clone(), descriptor, path: path.clone(), file });
    for (at, inner) in nested {
        collect(file, inner, format!("{full_name}.{}", inner.name()), [path.as_slice(), &[NESTED, index(at)]].concat(), all);
    }
}

/// A place in a list as descriptor.proto counts it.
#[must_use]
pub fn index(at: usize) -> i32 {
    i32::try_from(at).unwrap_or(i32::MAX)
}

/// The comment in front of what stands at `path`, as one line.
#[must_use]
pub fn comment(file: &FileDescriptorProto, path: &[i32]) -> String {
    let locations = file.source_code_info.as_ref().map(|info| info.location.as_slice()).unwrap_or_default();
    let found = locations.iter().find(|location| location.path == path);
    let text = found.map(|location| [location.leading_comments(), location.trailing_comments()].concat()).unwrap_or_default();
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// What a field holds, once.
pub enum Holds {
    /// A scalar, by its protobuf name.
    Scalar(Type),
    /// A message, by its full name.
    Message(String),
    /// An enum, by its full name.
    Enum(String),
}

/// How often, and what.
pub enum Shape {
    /// Once, or not at all.
    One(Holds),
    /// A list.
    List(Holds),
    /// A map, with keys of that type.
    Map(Type, Holds),
}

/// The shape of a field of `message`.
#[must_use]
pub fn shape(message: &DescriptorProto, field: &FieldDescriptorProto) -> Shape {
    let entry = message.nested_type.iter().find(|nested| {
        nested.options.as_ref().is_some_and(|options| options.map_entry())
            && field.r#type() == Type::Message
            && field.type_name().ends_with(&format!(".{}.{}", message.name(), nested.name()))
    });
    if let Some(entry) = entry {
        let parts: BTreeMap<_, _> = entry.field.iter().map(|part| (part.name(), part)).collect();
        if let (Some(key), Some(value)) = (parts.get("key"), parts.get("value")) {
            return Shape::Map(key.r#type(), holds(value));
        }
    }
    if field.label() == Label::Repeated { Shape::List(holds(field)) } else { Shape::One(holds(field)) }
}

fn holds(field: &FieldDescriptorProto) -> Holds {
    let name = field.type_name().trim_start_matches('.').to_owned();
    match field.r#type() {
        Type::Message | Type::Group => Holds::Message(name),
        Type::Enum => Holds::Enum(name),
        scalar => Holds::Scalar(scalar),
    }
}
