//! Reads a relation's file and judges every page on the way. A page that looks bad is read again: the server may have
//! been writing it. What stays bad is noted, and taken as it is: recovery may write it anew, and a person has to know.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use muster_common::position::Lsn;
use muster_repository::entry::RelPath;

use crate::page::{self, Verdict};

/// A page that looks bad is read so often before it counts as bad.
const TRIES: u32 = 5;
/// Between two of these reads.
const PAUSE: Duration = Duration::from_millis(10);
/// How many bad pages are kept by name; all are counted.
const MAX_KEPT: usize = 10_000;

/// A page that stayed bad.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadPage {
    /// Its file.
    pub path: RelPath,
    /// Its number in that file.
    pub block: u64,
    /// The LSN that it claims.
    pub lsn: Lsn,
}

/// What all readers of one backup found.
#[derive(Debug, Default)]
pub struct Findings {
    /// Bad whatever happens: older than the backup's start.
    pub bad: AtomicU64,
    kept: Mutex<Vec<BadPage>>,
    /// Torn by a write after the start, if their LSN is not one from the future: known at the stop.
    doubtful: Mutex<Vec<BadPage>>,
}

impl Findings {
    /// Bad pages, now that the backup's end is known: recovery writes a page anew only if a record up to there did.
    pub fn judge(&self, stop: Lsn) -> (u64, Vec<BadPage>) {
        let lock = |list: &Mutex<Vec<BadPage>>| list.lock().map(|list| list.clone()).unwrap_or_default();
        let future: Vec<_> = lock(&self.doubtful).into_iter().filter(|page| page.lsn > stop).collect();
        let count = self.bad.load(Ordering::Relaxed) + future.len() as u64;
        let mut all = lock(&self.kept);
        all.extend(future);
        all.truncate(MAX_KEPT);
        (count, all)
    }

    fn note(&self, page: BadPage, start: Lsn) {
        let (list, counted) = if page.lsn >= start { (&self.doubtful, false) } else { (&self.kept, true) };
        if counted {
            self.bad.fetch_add(1, Ordering::Relaxed);
        }
        if let Ok(mut list) = list.lock()
            && list.len() < MAX_KEPT
        {
            list.push(page);
        } else if !counted {
            // No room to remember it: counted as bad, which is the safe side.
            self.bad.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Reads one file.
pub struct CheckedFile<'a> {
    file: File,
    path: &'a RelPath,
    at: u64,
    block_size: usize,
    /// The number of the file's first page within the relation.
    first_block: u32,
    start: Lsn,
    findings: &'a Findings,
    /// For a reader that asks for less than a page.
    spare: Vec<u8>,
}

impl<'a> CheckedFile<'a> {
    /// Reads `file`, which is segment `segment` of its relation, of a backup that began at `start`.
    #[must_use]
    pub fn new(
        file: File,
        path: &'a RelPath,
        block_size: u32,
        segment_pages: u32,
        segment: u32,
        start: Lsn,
        findings: &'a Findings,
    ) -> Self {
        let first_block = segment.wrapping_mul(segment_pages);
        Self { file, path, at: 0, block_size: block_size as usize, first_block, start, findings, spare: Vec::new() }
    }

    /// Fills `buffer` as far as the file goes, then judges its pages.
    fn read_pages(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() {
            let room = buffer.get_mut(filled..).unwrap_or_default();
            match self.file.read_at(room, self.at + filled as u64) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        let pages = buffer.get_mut(..filled).unwrap_or_default();
        let first = self.at / self.block_size as u64;
        for (block, page) in (first..).zip(pages.chunks_exact_mut(self.block_size)) {
            let number = self.first_block.wrapping_add(u32::try_from(block).unwrap_or(u32::MAX));
            if page::judge(page, number) != Verdict::Good {
                self.read_again(page, block, number)?;
            }
        }
        self.at += filled as u64;
        Ok(filled)
    }

    fn read_again(&self, page: &mut [u8], block: u64, number: u32) -> io::Result<()> {
        let mut again = vec![0; page.len()];
        for _ in 0..TRIES {
            std::thread::sleep(PAUSE);
            match self.file.read_exact_at(&mut again, block * self.block_size as u64) {
                Ok(()) => page.copy_from_slice(&again),
                // Cut off meanwhile: recovery cuts it again.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
                Err(error) => return Err(error),
            }
            if page::judge(page, number) == Verdict::Good {
                return Ok(());
            }
        }
        let lsn = page::lsn(page).unwrap_or_default();
        self.findings.note(BadPage { path: self.path.clone(), block, lsn }, self.start);
        Ok(())
    }
}

impl Read for CheckedFile<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.spare.is_empty() {
            let whole = buffer.len() - buffer.len() % self.block_size;
            if whole > 0 {
                return self.read_pages(buffer.get_mut(..whole).unwrap_or_default());
            }
            let mut page = vec![0; self.block_size];
            let read = self.read_pages(&mut page)?;
            page.truncate(read);
            self.spare = page;
        }
        let taken = self.spare.len().min(buffer.len());
        for (to, from) in buffer.iter_mut().zip(self.spare.drain(..taken)) {
            *to = from;
        }
        Ok(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: usize = 8192;

    fn page(number: u32, lsn: u64) -> Vec<u8> {
        let mut page: Vec<u8> = (0..SIZE).map(|i| (i as u8).wrapping_mul(7)).collect();
        page[0..4].copy_from_slice(&u32::try_from(lsn >> 32).unwrap().to_le_bytes());
        page[4..8].copy_from_slice(&(lsn as u32).to_le_bytes());
        page[14] = 1;
        let sum = page::checksum(&page, number);
        page[8..10].copy_from_slice(&sum.to_le_bytes());
        page
    }

    fn read(bytes: &[u8], segment: u32, chunk: usize) -> (Vec<u8>, Findings) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("16384");
        std::fs::write(&path, bytes).unwrap();
        let name = RelPath::new(*b"base/5/16384").unwrap();
        let findings = Findings::default();
        let mut file = CheckedFile::new(File::open(&path).unwrap(), &name, SIZE as u32, 4, segment, Lsn(1000), &findings);
        let mut all = Vec::new();
        let mut buffer = vec![0; chunk];
        loop {
            let read = file.read(&mut buffer).unwrap();
            if read == 0 {
                break;
            }
            all.extend_from_slice(&buffer[..read]);
        }
        drop(file);
        (all, findings)
    }

    #[test]
    fn good_pages_pass_in_every_segment_and_with_any_buffer() {
        let bytes = [page(8, 1), page(9, 1), page(10, 1), vec![0; SIZE], vec![1; 100]].concat();
        for chunk in [1 << 20, SIZE, SIZE + 5, 100] {
            let (read, findings) = read(&bytes, 2, chunk);
            assert!(read == bytes && findings.judge(Lsn(u64::MAX)).0 == 0, "{chunk}");
        }
    }

    #[test]
    fn bad_pages_are_named_torn_ones_are_recoverys_and_ones_from_the_future_are_bad() {
        let mut bytes = [page(0, 1), page(1, 2_000), page(2, 9_000)].concat();
        for at in [500, SIZE + 500, 2 * SIZE + 500] {
            bytes[at] ^= 1;
        }
        let (read, findings) = read(&bytes, 0, 1 << 20);
        assert_eq!(read, bytes);
        let (count, named) = findings.judge(Lsn(5_000));
        assert_eq!((count, named.iter().map(|page| page.block).collect::<Vec<_>>()), (2, vec![0, 2]));
    }
}
