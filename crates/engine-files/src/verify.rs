//! Proving a point of a folder good: it is restored into the work's scratch folder, every byte compared with its hash on the
//! way, what lies there then held against the point's list, and removed.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Instant;

use muster_common::fault::{Effect, ErrorKind, Fault};
use muster_common::size::Size;
use muster_engine::request::{Checked, VerifyCheck, VerifyOutcome, VerifyRequest};
use muster_engine::work::Work;
use muster_repository::reading::Point;

use crate::backup::{KIND, below};
use crate::engine::blocking;
use crate::restore;

/// What differs is told up to so many lines.
const MAX_TOLD: usize = 100;
/// Free space that has to be left.
const SPARE: u64 = 64 << 20;

/// Proves a point good.
pub async fn verify(name: &str, work: &Work, request: &VerifyRequest) -> Result<VerifyOutcome, Fault> {
    if !request.assertions.is_empty() {
        return Err(Fault::refused(ErrorKind::NotAvailable, format!("verify {name}: a folder of files answers no assertions"))
            .hint("take `verify.assertions` out of the component's spec"));
    }
    let place = work.scratch().join("copy");
    let proved = prove(name, work, request, &place).await;
    let gone = place.clone();
    let removed = blocking(move || restore::remove(&gone)).await?.map_err(|error| {
        Fault::failed(ErrorKind::FailedPrecondition, format!("remove the copy {}: {error}", place.display()))
            .hint("the agent tries again when it starts")
    });
    match (proved, removed) {
        (Ok(outcome), Ok(())) => Ok(outcome),
        (Err(fault), Ok(())) => Err(fault.effect(Effect::None)),
        (Ok(_), Err(left)) => Err(left),
        (Err(fault), Err(left)) => Err(fault.evidence(left.to_string())),
    }
}

async fn prove(name: &str, work: &Work, request: &VerifyRequest, place: &Path) -> Result<VerifyOutcome, Fault> {
    let open = work.repository()?;
    work.tell(|progress| progress.phase = "reading the point".to_owned());
    let point = tokio::select! {
        point = open.repository.read_point(&open.keys, request.component, request.point) => point.map_err(|error| error.fault())?,
        () = work.cancel.cancelled() => return Err(Fault::refused(ErrorKind::Cancelled, format!("verify {name}: stopped"))),
    };
    if point.summary.details.kind != KIND {
        let message = format!("verify {name}: point {} is of kind {}, not {KIND}", request.point, point.summary.details.kind);
        return Err(Fault::refused(ErrorKind::InvalidArgument, message).hint("choose a point of this component: `muster points`"));
    }
    let (bytes, files) = (point.summary.bytes, point.summary.files);
    let free = rustix::fs::statvfs(work.scratch()).map_or(0, |space| space.f_bavail.saturating_mul(space.f_frsize));
    if bytes.saturating_add(SPARE) > free {
        let message = format!("verify {name}: {} are needed in {}, {} are free", Size(bytes + SPARE), work.scratch().display(), Size(free));
        return Err(Fault::refused(ErrorKind::ResourceExhausted, message).hint("make room, or set the agent's `scratchDirectory`"));
    }
    let begun = Instant::now();
    let point = restore::fetch(name, place, point, work).await?;
    let fetched = begun.elapsed().as_secs_f64();
    let begun = Instant::now();
    work.tell(|progress| progress.phase = "comparing".to_owned());
    let root = place.to_owned();
    let wrong = blocking(move || compare(&root, &point)).await?;
    let checked = begun.elapsed().as_secs_f64();
    if !wrong.is_empty() {
        let message = format!("verify {name}: point {} is not good: {} entries differ", request.point, wrong.len());
        let fault = Fault::failed(ErrorKind::DataLoss, message).hint("take a new backup, and check the disk of the scratch folder");
        return Err(wrong.into_iter().take(MAX_TOLD).fold(fault, Fault::evidence));
    }
    let hashes = VerifyCheck {
        name: "hashes".to_owned(),
        checked: Checked::Passed,
        detail: format!("{files} files, each byte by its hash as it was read, each file by its length on disk"),
        seconds: checked,
    };
    Ok(VerifyOutcome {
        point: request.point,
        phases: BTreeMap::from([("fetch".to_owned(), fetched), ("checks".to_owned(), checked)]),
        bytes,
        files,
        position: None,
        checks: vec![hashes],
        notes: Vec::new(),
    })
}

/// What does not lie there as the point has it.
fn compare(root: &Path, point: &Point) -> Vec<String> {
    let mut wrong = Vec::new();
    for file in &point.files {
        let path = below(root, &file.entry.path);
        match fs::symlink_metadata(&path) {
            Ok(found) if found.is_file() && found.len() == file.size => {}
            Ok(found) => wrong.push(format!("{}: {} bytes on disk, {} in the point", file.entry.path, found.len(), file.size)),
            Err(error) => wrong.push(format!("{}: {error}", file.entry.path)),
        }
    }
    for link in &point.symlinks {
        let target = fs::read_link(below(root, &link.path));
        if target.is_ok_and(|target| std::os::unix::ffi::OsStrExt::as_bytes(target.as_os_str()) != link.target.as_slice()) {
            wrong.push(format!("{}: the link leads elsewhere", link.path));
        }
    }
    for folder in &point.folders {
        if !below(root, &folder.path).is_dir() {
            wrong.push(format!("{}: no folder", folder.path));
        }
    }
    wrong
}
