//! A tar archive in memory (POSIX.1-1988 `ustar`): a few small files for a support bundle. It knows nothing of what is in them.

/// One block; headers and contents are filled up to it.
const BLOCK: usize = 512;
/// Where the header's checksum stands, and how long it is.
const CHECKSUM: std::ops::Range<usize> = 148..156;

/// An archive that grows.
#[derive(Clone, Debug, Default)]
pub struct Tar {
    bytes: Vec<u8>,
    modified: u64,
}

impl Tar {
    /// An empty one, whose files were modified so many seconds after 1970.
    #[must_use]
    pub fn new(modified: u64) -> Self {
        Self { bytes: Vec::new(), modified }
    }

    /// Adds a file; its name has 100 bytes at most, the rest is cut off.
    pub fn add(&mut self, name: &str, content: &[u8]) {
        let mut header = [0_u8; BLOCK];
        let name = name.as_bytes();
        put(&mut header, 0, name.get(..name.len().min(100)).unwrap_or_default());
        put(&mut header, 100, b"0000600\0");
        put(&mut header, 108, b"0000000\0");
        put(&mut header, 116, b"0000000\0");
        put(&mut header, 124, format!("{:011o}\0", content.len()).as_bytes());
        put(&mut header, 136, format!("{:011o}\0", self.modified).as_bytes());
        // The checksum is counted with spaces in its place.
        put(&mut header, CHECKSUM.start, b"        ");
        put(&mut header, 156, b"0");
        put(&mut header, 257, b"ustar\x0000");
        let sum: u32 = header.iter().copied().map(u32::from).sum();
        put(&mut header, CHECKSUM.start, format!("{sum:06o}\0 ").as_bytes());
        self.bytes.extend(header);
        self.bytes.extend(content);
        self.fill();
    }

    /// The whole archive.
    #[must_use]
    pub fn finish(mut self) -> Vec<u8> {
        self.bytes.extend([0; 2 * BLOCK]);
        self.bytes
    }

    fn fill(&mut self) {
        let over = self.bytes.len() % BLOCK;
        if over > 0 {
            self.bytes.extend(std::iter::repeat_n(0, BLOCK - over));
        }
    }
}

fn put(header: &mut [u8; BLOCK], at: usize, bytes: &[u8]) {
    for (to, from) in header.iter_mut().skip(at).zip(bytes) {
        *to = *from;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_systems_tar_reads_it() {
        let mut tar = Tar::new(1_764_000_000);
        tar.add("muster/a.txt", b"first\n");
        tar.add("muster/empty", b"");
        tar.add("muster/b.json", "x".repeat(1_500).as_bytes());
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("x.tar");
        std::fs::write(&file, tar.finish()).unwrap();
        let done = std::process::Command::new("tar").arg("-xf").arg(&file).arg("-C").arg(folder.path()).status().unwrap();
        assert!(done.success());
        let read = |name: &str| std::fs::read_to_string(folder.path().join("muster").join(name)).unwrap();
        assert_eq!((read("a.txt").as_str(), read("empty").len(), read("b.json").len()), ("first\n", 0, 1_500));
    }
}
