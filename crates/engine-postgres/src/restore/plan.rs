//! What a restore means to do, and what stands in its way. Looks at the machine, changes nothing.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use muster_common::fault::{ErrorKind, Fault};
use muster_common::size::Size;
use muster_engine::request::{RestorePlan, RestoreRequest, RestoreTarget};
use muster_repository::entry::Group;
use muster_repository::reading::Point;

use crate::backup::listing;
use crate::config::PostgresConfig;
use crate::data_directory::{self, Postmaster};
use crate::point::{PostgresPoint, Tablespace};
use crate::restore::folders;
use crate::restore::note::Swap;

/// Space that is left free besides what is written, as a part of it: one in so many.
const MARGIN: u64 = 50;
/// Bytes a second, where no restore was measured here yet.
const GUESS: u64 = 200 << 20;

/// Where one tablespace goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Its OID.
    pub oid: u32,
    /// The folder that its link points at.
    pub location: PathBuf,
    /// The swap of its version folder.
    pub swap: Swap,
    /// The version folder's name.
    pub version_folder: String,
}

/// The whole layout.
#[derive(Clone, Debug)]
pub struct Layout {
    /// The data directory in the end, real path.
    pub data: PathBuf,
    /// Its swap; absent where it is built in its place.
    pub data_swap: Option<Swap>,
    /// The tablespaces.
    pub tablespaces: Vec<Place>,
}

impl Layout {
    /// Where the data directory is built.
    #[must_use]
    pub fn building(&self) -> &Path {
        self.data_swap.as_ref().map_or(&self.data, |swap| &swap.new)
    }
}

/// A plan, and all that speaks against it; empty: it can be done.
#[derive(Debug)]
pub struct Judged {
    /// The layout.
    pub layout: Layout,
    /// In the outcome's terms.
    pub plan: RestorePlan,
    /// Refusals, the weightiest first.
    pub refusals: Vec<Fault>,
    /// Bytes that are moved aside.
    pub old_bytes: u64,
}

/// The real path of a folder that may not exist yet.
#[must_use]
pub fn real(path: &Path) -> PathBuf {
    if let Ok(real) = path.canonicalize() {
        return real;
    }
    match (path.parent().and_then(|parent| parent.canonicalize().ok()), path.file_name()) {
        (Some(parent), Some(name)) => parent.join(name),
        _ => path.to_owned(),
    }
}

/// `data` with `ending` behind its name.
#[must_use]
pub fn beside(data: &Path, ending: &str) -> PathBuf {
    let mut name = data.file_name().unwrap_or_default().to_owned();
    name.push(ending);
    data.with_file_name(name)
}

/// Lays a restore out.
#[must_use]
pub fn lay_out(config: &PostgresConfig, point: &PostgresPoint, request: &RestoreRequest, command: &str) -> Layout {
    let (data, in_place) = match &request.target {
        // Into a database: of a dump only, which makes no data directory.
        RestoreTarget::Empty | RestoreTarget::Database { .. } => (real(&config.data_directory), false),
        RestoreTarget::InPlace => (real(&config.data_directory), true),
        RestoreTarget::Beside { directory, .. } => (real(directory), false),
    };
    let occupied = in_place && !folders::is_free(&data).unwrap_or(false);
    let data_swap = occupied.then(|| Swap {
        current: data.clone(),
        new: beside(&data, ".muster-restore"),
        old: Some(beside(&data, &format!(".muster-old-{command}"))),
    });
    let present: BTreeMap<u32, PathBuf> = listing::tablespaces(&data).unwrap_or_default().into_iter().collect();
    let tablespaces = point.tablespaces.iter().map(|tablespace| place(tablespace, point, request, &data, &present, command)).collect();
    Layout { data, data_swap, tablespaces }
}

fn place(
    tablespace: &Tablespace,
    point: &PostgresPoint,
    request: &RestoreRequest,
    data: &Path,
    present: &BTreeMap<u32, PathBuf>,
    command: &str,
) -> Place {
    let own = beside(data, &format!(".tablespace-{}", tablespace.oid));
    let original = PathBuf::from(&tablespace.location);
    // Where it stood: only on the machine and for the instance that it was taken from.
    let same = data == real(Path::new(&point.data_directory)) && original.is_dir();
    let by_default = match &request.target {
        RestoreTarget::Beside { .. } => own,
        RestoreTarget::InPlace => present.get(&tablespace.oid).cloned().unwrap_or(if same { original } else { own }),
        RestoreTarget::Empty | RestoreTarget::Database { .. } => {
            if same {
                original
            } else {
                own
            }
        }
    };
    let location = real(&request.tablespaces.get(&tablespace.oid).cloned().unwrap_or(by_default));
    let current = location.join(&tablespace.version_folder);
    let in_place = matches!(request.target, RestoreTarget::InPlace);
    let swap = Swap {
        new: location.join(format!("{}.muster-restore", tablespace.version_folder)),
        old: (in_place && current.exists()).then(|| location.join(format!("{}.muster-old-{command}", tablespace.version_folder))),
        current,
    };
    Place { oid: tablespace.oid, location, swap, version_folder: tablespace.version_folder.clone() }
}

/// Judges a restore: what it writes, what it replaces, what refuses it.
#[must_use]
pub fn judge(
    config: &PostgresConfig,
    point: &Point,
    known: &PostgresPoint,
    request: &RestoreRequest,
    layout: Layout,
    rate: Option<f64>,
) -> Judged {
    let mut refusals = Vec::new();
    let bytes = point.files.iter().map(|file| file.size).sum::<u64>();
    let mut plan =
        RestorePlan { bytes, files: point.files.len() as u64, free_bytes: folders::free(layout.building()).1, ..RestorePlan::default() };
    let speed = rate.unwrap_or(GUESS as f64).max(1.0);
    plan.predicted_seconds = (bytes as f64 / speed).ceil() as u64 + 1;
    if rate.is_none() {
        plan.notes.push(format!("the time is a guess ({} a second): no restore was measured here yet", Size(GUESS)));
    }
    let old_bytes = judge_target(config, known, request, &layout, &mut plan, &mut refusals);
    judge_tablespaces(request, &layout, &mut plan, &mut refusals);
    judge_space(point, &layout, &mut refusals);
    tell_settings(point, request, &mut plan);
    plan.notes.extend(refusals.iter().map(|refusal| format!("would be refused: {refusal}")));
    Judged { layout, plan, refusals, old_bytes }
}

fn refuse(message: String, hint: impl Into<String>) -> Fault {
    Fault::refused(ErrorKind::FailedPrecondition, message).hint(hint)
}

fn judge_target(
    config: &PostgresConfig,
    known: &PostgresPoint,
    request: &RestoreRequest,
    layout: &Layout,
    plan: &mut RestorePlan,
    refusals: &mut Vec<Fault>,
) -> u64 {
    let data = &layout.data;
    let shown = data.display();
    let free = folders::is_free(data).unwrap_or_else(|fault| {
        refusals.push(fault);
        false
    });
    let server = data_directory::postmaster(data).unwrap_or(Postmaster::Absent);
    match (&request.target, &layout.data_swap) {
        (RestoreTarget::Empty, _) if !free => refusals.push(refuse(
            format!("restore {}: {shown} is not empty", config.name),
            "restore in place (what is there is kept aside), or beside it into another folder",
        )),
        (RestoreTarget::Beside { directory, .. }, _) if !free => {
            refusals.push(refuse(
                format!("restore beside {}: {} is not empty", config.name, directory.display()),
                "choose an empty or absent folder",
            ));
        }
        (RestoreTarget::Beside { directory, port }, _) => judge_beside(config, directory, *port, refusals),
        (RestoreTarget::InPlace, Some(swap)) => return judge_in_place(config, known, request, data, swap, &server, plan, refusals),
        (RestoreTarget::InPlace | RestoreTarget::Empty | RestoreTarget::Database { .. }, _) => {}
    }
    0
}

fn judge_beside(config: &PostgresConfig, directory: &Path, port: u16, refusals: &mut Vec<Fault>) {
    if !directory.is_absolute() || directory.to_str().is_none_or(|text| text.contains(['\n', '\'', '"', '$', '`', '\\', '%'])) {
        refusals.push(refuse(format!("{} is no absolute path without quotes", directory.display()), "name an absolute path"));
    }
    let (real_target, own) = (real(directory), real(&config.data_directory));
    // The same folder is fine: it is free, and a restore without an instance has no other one.
    if real_target != own && (real_target.starts_with(&own) || own.starts_with(&real_target)) {
        refusals.push(refuse(
            format!("{} and the data directory {} contain each other", directory.display(), own.display()),
            "choose a folder beside it",
        ));
    }
    if port != 0 && std::net::TcpListener::bind(("127.0.0.1", port)).is_err() {
        refusals.push(refuse(format!("port {port} is taken on this machine"), "choose another port, or 0 to leave the server stopped"));
    }
}

#[expect(clippy::too_many_arguments, reason = "one call; what is found goes to plan and refusals")]
fn judge_in_place(
    config: &PostgresConfig,
    known: &PostgresPoint,
    request: &RestoreRequest,
    data: &Path,
    swap: &Swap,
    server: &Postmaster,
    plan: &mut RestorePlan,
    refusals: &mut Vec<Fault>,
) -> u64 {
    let bytes = folders::size(data);
    let shown = data.display();
    let state = match server {
        Postmaster::Alive { pid, .. } => format!("its server (process {pid}) is stopped"),
        Postmaster::Absent | Postmaster::Dead { .. } => "no server runs there".into(),
    };
    if let Some(old) = &swap.old {
        plan.replaces.push(format!("{shown} ({}) is moved to {}; {state}", Size(bytes), old.display()));
    }
    if !request.consent {
        refusals.push(refuse(
            format!("restore {} in place: {shown} holds {} and nobody agreed that it is replaced", config.name, Size(bytes)),
            "repeat it with --yes; what is there is kept aside",
        ));
    }
    match data_directory::control_file(data) {
        Ok(control) if control.system_id != known.system_id => refusals.push(refuse(
            format!("restore {} in place: {shown} holds cluster {}, the point is of cluster {}", config.name, control.system_id, known.system_id),
            "correct the instance's dataDirectory; to replace another cluster on purpose, move it away by hand and restore into the empty place",
        )),
        Ok(_) => {}
        Err(error) => plan.notes.push(format!("what is there cannot be told to be this cluster: {error}")),
    }
    let parent = data.parent().unwrap_or(data);
    let device = |path: &Path| fs::metadata(path).map(|meta| meta.dev()).ok();
    if device(parent) != device(data) {
        refusals.push(refuse(
            format!("restore {} in place: {shown} is a mount point and cannot be moved aside", config.name),
            "restore beside it, or keep the data directory one level below the mount point",
        ));
    } else if rustix::fs::access(parent, rustix::fs::Access::WRITE_OK).is_err() {
        refusals.push(refuse(
            format!("restore {} in place: this user cannot write in {}", config.name, parent.display()),
            format!("let it: chown the folder {} to the server's user", parent.display()),
        ));
    }
    let owner = fs::metadata(data).map(|meta| meta.uid()).ok();
    if owner.is_some_and(|owner| owner != rustix::process::geteuid().as_raw()) {
        refusals.push(refuse(
            format!("restore {} in place: {shown} belongs to another user", config.name),
            "run the agent as the owner of the data directory",
        ));
    }
    if swap.new.exists() && folders::marked_by(&swap.new).is_none() {
        refusals.push(refuse(format!("{} exists and is not Muster's", swap.new.display()), "move it away"));
    }
    bytes
}

fn judge_tablespaces(request: &RestoreRequest, layout: &Layout, plan: &mut RestorePlan, refusals: &mut Vec<Fault>) {
    for place in &layout.tablespaces {
        plan.notes.push(format!("tablespace {} goes to {}", place.oid, place.location.display()));
        let current = &place.swap.current;
        match &place.swap.old {
            Some(old) => {
                plan.replaces.push(format!("{} ({}) is moved to {}", current.display(), Size(folders::size(current)), old.display()))
            }
            None if current.exists() => refusals.push(refuse(
                format!("tablespace {}: {} exists", place.oid, current.display()),
                format!("map it elsewhere: --tablespace {}=FOLDER", place.oid),
            )),
            None => {}
        }
        if rustix::fs::access(folders::existing(&place.location), rustix::fs::Access::WRITE_OK).is_err() {
            refusals.push(refuse(
                format!("tablespace {}: this user cannot write at {}", place.oid, place.location.display()),
                format!("make the folder for it, or map it elsewhere: --tablespace {}=FOLDER", place.oid),
            ));
        }
        if place.location.starts_with(&layout.data) {
            refusals.push(refuse(format!("tablespace {} would lie inside of the data directory", place.oid), "map it elsewhere"));
        }
    }
    for oid in request.tablespaces.keys() {
        if !layout.tablespaces.iter().any(|place| place.oid == *oid) {
            let known: Vec<_> = layout.tablespaces.iter().map(|place| place.oid.to_string()).collect();
            refusals.push(refuse(
                format!("the point has no tablespace {oid}"),
                format!("it has: {}", if known.is_empty() { "none".to_owned() } else { known.join(", ") }),
            ));
        }
    }
}

/// What is written must fit, on each file system with a margin.
fn judge_space(point: &Point, layout: &Layout, refusals: &mut Vec<Fault>) {
    let mut places: BTreeMap<&Path, u64> = BTreeMap::new();
    for file in &point.files {
        let at = match file.entry.group {
            Group::Tablespace(oid) => {
                layout.tablespaces.iter().find(|place| place.oid == oid).map_or(layout.building(), |place| &place.location)
            }
            Group::Data | Group::Config | Group::Wal => layout.building(),
        };
        *places.entry(at).or_default() += file.size;
    }
    let mut devices: BTreeMap<u64, (u64, u64, &Path)> = BTreeMap::new();
    for (path, bytes) in places {
        let (device, free) = folders::free(path);
        devices.entry(device).or_insert((0, free, path)).0 += bytes;
    }
    for (bytes, free, path) in devices.values() {
        let wanted = bytes.saturating_add(bytes / MARGIN);
        if *free < wanted {
            refusals.push(
                Fault::refused(
                    ErrorKind::ResourceExhausted,
                    format!("{} has {} free; the restore needs {}", folders::existing(path).display(), Size(*free), Size(wanted)),
                )
                .hint("free space there (muster discard removes what earlier restores kept), or restore elsewhere"),
            );
        }
    }
}

fn tell_settings(point: &Point, request: &RestoreRequest, plan: &mut RestorePlan) {
    let settings = &point.summary.details.settings;
    plan.notes.push("dropped: primary_conninfo, primary_slot_name, replication slots, earlier recovery settings".into());
    if let Some(names) = settings.get("synchronous_standby_names").filter(|names| !names.is_empty()) {
        plan.notes.push(format!(
            "synchronous_standby_names ({names}) is emptied in postgresql.auto.conf: ALTER SYSTEM RESET it when the standbys are back"
        ));
    }
    if matches!(request.target, RestoreTarget::Beside { .. }) {
        plan.notes.push("the copy beside archives nothing, runs no subscriptions and listens on 127.0.0.1 only".into());
    }
    if !request.start {
        plan.notes.push("the server is left stopped: it recovers when it is started first; its helper must be there then".into());
    }
    let damaged = point.summary.details.damaged.len();
    if damaged > 0 {
        plan.notes.push(format!("the point has {damaged} pages whose checksum was wrong when it was taken: see the point"));
    }
}
