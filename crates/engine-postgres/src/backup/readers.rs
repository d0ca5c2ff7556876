//! The threads that read the data directory into the point. The largest files come first, so that none of them is what
//! everybody waits for at the end.

use std::fs::File;
use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;

use crossbeam_channel::Receiver;
use muster_common::fault::{ErrorKind, Fault};
use muster_common::position::Lsn;
use muster_repository::counters::Counters;
use muster_repository::error::Error;
use muster_repository::writing::PointWriter;

use crate::backup::checked::{CheckedFile, Findings};
use crate::backup::listing::Source;
use crate::control_file::ControlFile;

/// Threads that read.
pub struct Readers {
    threads: Vec<JoinHandle<Result<(), Error>>>,
}

/// What each of them needs.
#[derive(Clone)]
struct Reader {
    queue: Receiver<Source>,
    /// Set where pages have checksums: where the backup began.
    checks: Option<Lsn>,
    block_size: u32,
    segment_pages: u32,
    writer: Arc<PointWriter>,
    counters: Arc<Counters>,
    findings: Arc<Findings>,
}

impl Readers {
    /// Starts `threads` readers over `files`.
    ///
    /// # Errors
    /// Where no thread can be started.
    pub fn start(
        files: Vec<Source>,
        threads: usize,
        checks: Option<Lsn>,
        control: &ControlFile,
        writer: &Arc<PointWriter>,
        counters: &Arc<Counters>,
        findings: &Arc<Findings>,
    ) -> Result<Self, Fault> {
        // As long as the list, which exists already.
        let (put, queue) = crossbeam_channel::bounded(files.len().max(1));
        for file in files {
            if put.send(file).is_err() {
                break;
            }
        }
        let reader = Reader {
            queue,
            checks,
            block_size: control.block_size,
            segment_pages: control.segment_pages,
            writer: writer.clone(),
            counters: counters.clone(),
            findings: findings.clone(),
        };
        let start = |number: usize| {
            let reader = reader.clone();
            std::thread::Builder::new().name(format!("backup-{number}")).spawn(move || reader.run())
        };
        let threads = (0..threads.clamp(1, 64)).map(start).collect::<io::Result<_>>().map_err(|error| {
            Fault::failed(ErrorKind::ResourceExhausted, format!("start a thread: {error}")).hint("raise the agent's limit of threads")
        })?;
        Ok(Self { threads })
    }

    /// Waits until all files are read.
    ///
    /// # Errors
    /// The first failure; the others end soon after it, since it ends the writer.
    pub async fn join(self) -> Result<(), Fault> {
        let joined = tokio::task::spawn_blocking(move || {
            let ended: Vec<_> = self.threads.into_iter().map(JoinHandle::join).collect();
            let mut result = Ok(());
            for one in ended {
                let one = one.unwrap_or_else(|_| Err(Error::Defect("a reader panicked".into())));
                // A cancellation is what the first failure made of the others.
                if matches!(result, Ok(()) | Err(Error::Cancelled)) && one.is_err() {
                    result = one;
                }
            }
            result
        });
        let joined = joined.await.unwrap_or_else(|ended| Err(Error::Defect(format!("a thread ended: {ended}"))));
        joined.map_err(|error| error.fault())
    }
}

impl Reader {
    fn run(self) -> Result<(), Error> {
        while let Ok(source) = self.queue.try_recv() {
            match self.read(&source) {
                Ok(()) => {}
                Err(Error::Source { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
                Err(error) => {
                    // Nobody takes another file.
                    while self.queue.try_recv().is_ok() {}
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    fn read(&self, source: &Source) -> Result<(), Error> {
        let failed = |error| Error::Source { path: source.path.display().to_string(), source: Arc::new(error) };
        let mut file = File::open(&source.path).map_err(failed)?;
        let entry = source.entry.clone();
        match (self.checks, source.relation) {
            (Some(start), Some(relation)) => {
                let mut checked = CheckedFile::new(
                    file,
                    &source.entry.path,
                    self.block_size,
                    self.segment_pages,
                    relation.segment,
                    start,
                    &self.findings,
                );
                self.writer.write_file(entry, &mut checked, &self.counters)?;
            }
            _ => {
                self.writer.write_file(entry, &mut file, &self.counters)?;
            }
        }
        Ok(())
    }
}
