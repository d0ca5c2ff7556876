//! Page tokens of lists: a cursor that means something to the list that made it and to nobody else.
//!
//! A token is no secret and no authority; its checksum only tells a foreign or cut one from one of ours.

use muster_common::fault::{ErrorKind, Fault};

/// The longest cursor, in bytes.
pub const MAX_CURSOR: usize = 1_024;

/// The token of a page that begins behind `cursor` in the list `list` (its rpc's name).
#[must_use]
pub fn encode(list: &str, cursor: &str) -> String {
    let mut token = format!("{:08x}", checksum(list, cursor));
    for byte in cursor.bytes() {
        token.push_str(&format!("{byte:02x}"));
    }
    token
}

/// The cursor in a token; `None` of the empty token, which asks for the first page.
///
/// # Errors
/// Where the token was not made by this list.
pub fn decode(list: &str, token: &str) -> Result<Option<String>, Fault> {
    if token.is_empty() {
        return Ok(None);
    }
    read(list, token).map(Some).ok_or_else(|| {
        Fault::refused(ErrorKind::InvalidArgument, format!("page_token: not one that {list} gave"))
            .hint("give the next_page_token of the page before, unchanged, to the same call; or none for the first page")
    })
}

/// How many rows to give: `asked`, where 0 asks for `usual`, and never more than `most`.
#[must_use]
pub fn size(asked: u32, usual: u32, most: u32) -> usize {
    let rows = if asked == 0 { usual } else { asked.min(most) };
    usize::try_from(rows).unwrap_or(usize::MAX)
}

fn read(list: &str, token: &str) -> Option<String> {
    if token.len() > 8 + 2 * MAX_CURSOR || !token.is_ascii() {
        return None;
    }
    let (sum, digits) = token.split_at_checked(8)?;
    let sum = u32::from_str_radix(sum, 16).ok()?;
    let mut bytes = Vec::with_capacity(digits.len() / 2);
    for at in (0..digits.len()).step_by(2) {
        bytes.push(u8::from_str_radix(digits.get(at..at + 2)?, 16).ok()?);
    }
    let cursor = String::from_utf8(bytes).ok()?;
    (checksum(list, &cursor) == sum).then_some(cursor)
}

/// FNV-1a, 32 bits (draft-eastlake-fnv).
fn checksum(list: &str, cursor: &str) -> u32 {
    let bytes = list.bytes().chain([0]).chain(cursor.bytes());
    bytes.fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn no_token_asks_for_the_first_page() {
        assert_eq!(decode("ListPoints", ""), Ok(None));
    }

    #[test]
    fn a_token_of_another_list_or_a_changed_one_is_refused() {
        let token = encode("ListPoints", "orders-db");
        for foreign in [token.as_str(), "x", "zzzzzzzz", "+1234567", "éééé", &token[..token.len() - 1], &"0".repeat(100_000)] {
            let fault = decode("ListAgents", foreign).unwrap_err();
            assert_eq!(fault.kind, ErrorKind::InvalidArgument, "{foreign}");
        }
        let mut changed = token.into_bytes();
        let last = changed.last_mut().unwrap();
        *last = if *last == b'0' { b'1' } else { b'0' };
        assert!(decode("ListPoints", &String::from_utf8(changed).unwrap()).is_err());
    }

    #[test]
    fn a_page_has_a_usual_and_a_greatest_size() {
        assert_eq!([size(0, 50, 500), size(7, 50, 500), size(9_999, 50, 500)], [50, 7, 500]);
    }

    proptest! {
        #[test]
        fn a_cursor_comes_back(cursor in ".{0,80}") {
            prop_assert_eq!(decode("List", &encode("List", &cursor)), Ok(Some(cursor)));
        }

        #[test]
        fn any_text_is_judged_without_panic(token in ".{0,80}") {
            drop(decode("List", &token));
        }
    }
}
