//! Where each object lies, relative to the repository's root. Ids are 32 lower-case hexadecimal digits.

use muster_common::id::{ComponentId, HoldId, KeyId, MarkId, PackId, PointId};

/// The signed `config`.
pub(crate) const CONFIG: &str = "config";
/// The folder of key objects.
pub(crate) const KEYS: &str = "keys";
/// The folder of packs.
pub(crate) const PACKS: &str = "packs";
/// The folder of points.
pub(crate) const POINTS: &str = "points";

/// The folder of marks.
const MARKS: &str = "marks";
/// The folder of holds.
const HOLDS: &str = "holds";

pub(crate) fn marks_of(component: ComponentId) -> String {
    format!("{MARKS}/{component}")
}

pub(crate) fn mark(component: ComponentId, id: MarkId) -> String {
    format!("{MARKS}/{component}/{id}")
}

pub(crate) fn holds_of(component: ComponentId) -> String {
    format!("{HOLDS}/{component}")
}

/// The `n`th word of a hold; the highest counts.
pub(crate) fn hold(component: ComponentId, id: HoldId, n: u32) -> String {
    format!("{HOLDS}/{component}/{id}/{n}")
}

/// The id of a hold and the number of its word, where `path` is one.
pub(crate) fn parse_hold(component: ComponentId, path: &str) -> Option<(HoldId, u32)> {
    let (id, n) = path.strip_prefix(&holds_of(component))?.strip_prefix('/')?.split_once('/')?;
    let (id, n) = (id.parse().ok()?, n.parse().ok()?);
    (hold(component, id, n) == path).then_some((id, n))
}

pub(crate) fn key(id: KeyId) -> String {
    format!("{KEYS}/{id}")
}

pub(crate) fn packs_of(domain: ComponentId) -> String {
    format!("{PACKS}/{domain}")
}

pub(crate) fn pack(domain: ComponentId, id: PackId) -> String {
    let [first, ..] = id.as_bytes();
    format!("{PACKS}/{domain}/{first:02x}/{id}")
}

pub(crate) fn points_of(component: ComponentId) -> String {
    format!("{POINTS}/{component}")
}

pub(crate) fn point(component: ComponentId, id: PointId) -> String {
    format!("{POINTS}/{component}/{id}")
}

/// The id of a key object, where `path` is one.
pub(crate) fn parse_key(path: &str) -> Option<KeyId> {
    path.strip_prefix(KEYS)?.strip_prefix('/')?.parse().ok()
}

/// Domain and id of a pack, where `path` is one.
pub(crate) fn parse_pack(path: &str) -> Option<(ComponentId, PackId)> {
    let mut parts = path.strip_prefix(PACKS)?.strip_prefix('/')?.split('/');
    let (domain, _, id) = (parts.next()?.parse().ok()?, parts.next()?, parts.next()?.parse().ok()?);
    (parts.next().is_none() && pack(domain, id) == path).then_some((domain, id))
}

/// Component and id of a point, where `path` is one.
pub(crate) fn parse_point(path: &str) -> Option<(ComponentId, PointId)> {
    let (component, id) = path.strip_prefix(POINTS)?.strip_prefix('/')?.split_once('/')?;
    Some((component.parse().ok()?, id.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_read_back_as_they_are_written() {
        let (component, pack_id, point_id) =
            (ComponentId::from_bytes([1; 16]), PackId::from_bytes([0xab; 16]), PointId::from_bytes([3; 16]));
        assert_eq!(pack(component, pack_id), format!("packs/{}/ab/{}", "01".repeat(16), "ab".repeat(16)));
        assert_eq!(parse_pack(&pack(component, pack_id)), Some((component, pack_id)));
        assert_eq!(parse_pack(&format!("packs/{component}/ac/{pack_id}")), None);
        assert_eq!(parse_point(&point(component, point_id)), Some((component, point_id)));
        assert_eq!(parse_key(&key(KeyId::from_bytes([4; 16]))), Some(KeyId::from_bytes([4; 16])));
        assert_eq!(parse_point("points/x/y"), None);
        let hold_id = HoldId::from_bytes([5; 16]);
        assert_eq!(parse_hold(component, &hold(component, hold_id, 12)), Some((hold_id, 12)));
        assert_eq!(parse_hold(component, &format!("holds/{component}/{hold_id}/012")), None);
    }
}
