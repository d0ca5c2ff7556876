//! PostgreSQL's data pages: their header and their checksum (`storage/bufpage.h`, `storage/checksum_impl.h`).
//!
//! Knows no files. What it judges is bytes and a block number; it never panics on what it is given.

use muster_common::position::Lsn;

/// The page size that every Debian build has. Others are handled by their own size from `pg_control`.
pub const DEFAULT_BLOCK_SIZE: usize = 8192;

/// How many FNV-1a sums run beside each other (`N_SUMS`).
const SUMS: usize = 32;
/// `FNV_PRIME`.
const PRIME: u32 = 16_777_619;
/// `checksumBaseOffsets`.
const OFFSETS: [u32; SUMS] = [
    0x5B1F_36E9,
    0xB852_5960,
    0x02AB_50AA,
    0x1DE6_6D2A,
    0x79FF_467A,
    0x9BB9_F8A3,
    0x217E_7CD2,
    0x83E1_3D2C,
    0xF8D4_474F,
    0xE39E_B970,
    0x42C6_AE16,
    0x9932_16FA,
    0x7B09_3B5D,
    0x98DA_FF3C,
    0xF718_902A,
    0x0B1C_9CDB,
    0xE58F_764B,
    0x1876_36BC,
    0x5D7B_3BB1,
    0xE73D_E7DE,
    0x92BE_C979,
    0xCCA6_C0B2,
    0x304A_0979,
    0x85AA_43D4,
    0x7831_25BB,
    0x6CA8_EAA2,
    0xE407_EAC6,
    0x4B5C_FC3E,
    0x9FBF_8C76,
    0x15CA_20BE,
    0xF2CA_9FD3,
    0x959B_D756,
];

/// What one page is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Its checksum is right, or it was never used.
    Good,
    /// Its checksum is wrong, or it claims to be unused and holds bytes.
    Bad {
        /// The page's own LSN: from the backup's start on, recovery writes the page anew whatever was read.
        lsn: Lsn,
    },
}

/// Judges page number `block` of its relation (counted over all segment files).
#[must_use]
pub fn judge(page: &[u8], block: u32) -> Verdict {
    let (Some(lsn), Some(stored), Some(upper)) = (lsn(page), half(page, 8), half(page, 14)) else {
        return Verdict::Bad { lsn: Lsn(0) };
    };
    let good = if upper == 0 { page.iter().all(|byte| *byte == 0) } else { stored == checksum(page, block) };
    if good { Verdict::Good } else { Verdict::Bad { lsn } }
}

/// `pd_lsn`: two 32-bit halves, the high one first.
#[must_use]
pub fn lsn(page: &[u8]) -> Option<Lsn> {
    let high = u32::from_le_bytes(page.get(0..4)?.try_into().ok()?);
    let low = u32::from_le_bytes(page.get(4..8)?.try_into().ok()?);
    Some(Lsn(u64::from(high) << 32 | u64::from(low)))
}

fn half(page: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(page.get(at..at + 2)?.try_into().ok()?))
}

/// `pg_checksum_page`: the sums of the page with its checksum field taken as zero, mixed with the block number.
#[must_use]
pub fn checksum(page: &[u8], block: u32) -> u16 {
    let mut sums = OFFSETS;
    for (number, row) in page.chunks_exact(SUMS * 4).enumerate() {
        let mut words = [0_u32; SUMS];
        for (word, bytes) in words.iter_mut().zip(row.chunks_exact(4)) {
            *word = u32::from_le_bytes(bytes.try_into().unwrap_or_default());
        }
        if number == 0 {
            // pd_checksum is the low half of the third word.
            if let Some(word) = words.get_mut(2) {
                *word &= 0xFFFF_0000;
            }
        }
        mix(&mut sums, &words);
    }
    mix(&mut sums, &[0; SUMS]);
    mix(&mut sums, &[0; SUMS]);
    let folded = sums.iter().fold(0, |all, sum| all ^ sum) ^ block;
    // Never zero: zero would look like a page without a checksum.
    u16::try_from(folded % 65_535 + 1).unwrap_or(u16::MAX)
}

#[inline]
fn mix(sums: &mut [u32; SUMS], words: &[u32; SUMS]) {
    for (sum, word) in sums.iter_mut().zip(words) {
        let mixed = *sum ^ word;
        *sum = mixed.wrapping_mul(PRIME) ^ (mixed >> 17);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// PostgreSQL's own formula, written as its header file has it, one byte order, no lanes.
    fn reference(page: &[u8], block: u32) -> u16 {
        let mut page = page.to_vec();
        page[8] = 0;
        page[9] = 0;
        let mut sums = OFFSETS;
        let rows = page.len() / (4 * SUMS);
        for i in 0..rows + 2 {
            for (j, sum) in sums.iter_mut().enumerate() {
                let at = (i * SUMS + j) * 4;
                let word = if i < rows { u32::from_le_bytes(page[at..at + 4].try_into().unwrap()) } else { 0 };
                let mixed = *sum ^ word;
                *sum = mixed.wrapping_mul(PRIME) ^ (mixed >> 17);
            }
        }
        let folded = sums.iter().fold(0, |a, b| a ^ b) ^ block;
        u16::try_from(folded % 65_535 + 1).unwrap()
    }

    fn page(seed: u8) -> Vec<u8> {
        let mut page: Vec<u8> = (0..DEFAULT_BLOCK_SIZE).map(|i| (i as u8).wrapping_mul(31).wrapping_add(seed)).collect();
        page[14] = 1;
        let sum = checksum(&page, 7);
        page[8..10].copy_from_slice(&sum.to_le_bytes());
        page
    }

    #[test]
    fn the_checksum_is_the_one_of_postgresqls_header_file() {
        for seed in 0..20 {
            assert_eq!(checksum(&page(seed), 7), reference(&page(seed), 7));
        }
    }

    #[test]
    fn a_changed_byte_and_a_wrong_place_are_seen() {
        let good = page(3);
        assert_eq!(judge(&good, 7), Verdict::Good);
        assert_eq!(judge(&good, 8), Verdict::Bad { lsn: lsn(&good).unwrap() });
        for at in [0, 5, 8, 9, 10, 100, 8191] {
            let mut bad = good.clone();
            bad[at] ^= 1;
            assert_ne!(judge(&bad, 7), Verdict::Good, "byte {at}");
        }
    }

    #[test]
    fn an_unused_page_is_good_only_when_it_is_empty() {
        let mut page = vec![0; DEFAULT_BLOCK_SIZE];
        assert_eq!(judge(&page, 0), Verdict::Good);
        page[4000] = 1;
        assert_eq!(judge(&page, 0), Verdict::Bad { lsn: Lsn(0) });
        assert_eq!(judge(&[], 0), Verdict::Bad { lsn: Lsn(0) });
    }
}
