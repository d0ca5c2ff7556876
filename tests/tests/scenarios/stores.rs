//! Repositories that misbehave: buckets that throttle, fail, fall silent and lose replies; disks that are full.

use anyhow::{Result, ensure};
use muster_testbed::account::RunAs;
use muster_testbed::s3::fault::{Fault, Kind};
use muster_testbed::s3::server::S3;
use muster_testbed::scenario::scenario;
use muster_testbed::two_sites::TwoSites;
use muster_testbed::world::World;

/// Two sites and a folder of some megabytes, kept in a bucket.
async fn bucket_world(world: &World, count: u32) -> Result<(TwoSites, S3)> {
    let sites = TwoSites::start(world).await?;
    let server = S3::start(world, "backups").await?;
    sites.bucket_repository(&server).await?;
    let folder = files(world, count)?;
    sites.files_component("notes", &folder).await?;
    Ok((sites, server))
}

/// Files of a megabyte that do not compress.
fn files(world: &World, count: u32) -> Result<std::path::PathBuf> {
    let folder = world.folder("notes", RunAs::Postgres)?;
    let mut state = 7_u64;
    for number in 0..count {
        let text: String = (0..1_000_000)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                char::from(b'!' + u8::try_from(state >> 58).unwrap_or(0))
            })
            .collect();
        world.file(&format!("notes/{number}"), &text, RunAs::Postgres, 0o644)?;
    }
    Ok(folder)
}

fn backup_survives(kind: Kind, method: &'static str) {
    scenario(async |world| {
        // How long silence is borne follows from the size: a store is waited for 30 s and what sending takes.
        let (times, count) = if kind == Kind::Silence { (1, 1) } else { (2, 20) };
        let (sites, server) = bucket_world(&world, count).await?;
        let before = server.faults().struck();
        server.faults().add(Fault { after: 1, ..Fault::on(kind, method, times) })?;
        sites.operator.says(&["backup", "notes"]).await?;
        ensure!(server.faults().struck() > before, "no request was harmed");
        server.faults().clear()?;
        ensure!(sites.points("notes").await?.len() == 1, "not exactly one point");
        let checked = sites.operator.says(&["check", "notes"]).await;
        checked.map(|_| ())
    });
}

#[test]
fn a_backup_passes_through_throttling() {
    backup_survives(Kind::Throttle, "PUT");
}

#[test]
fn a_backup_passes_through_internal_errors() {
    backup_survives(Kind::Error, "PUT");
}

#[test]
fn a_backup_passes_through_lost_replies() {
    backup_survives(Kind::LostReply, "PUT");
}

#[test]
fn a_backup_passes_through_silence() {
    backup_survives(Kind::Silence, "PUT");
}

#[test]
fn a_full_repository_fails_the_backup_and_leaves_the_older_points_good() {
    scenario(async |world| {
        let sites = TwoSites::start(&world).await?;
        world.folder("repository", RunAs::Postgres)?;
        world.small_disk("repository/primary", 12 << 20).await?;
        sites.folder_repository().await?;
        let folder = world.folder("notes", RunAs::Postgres)?;
        world.file("notes/small", "small\n", RunAs::Postgres, 0o644)?;
        sites.files_component("notes", &folder).await?;
        sites.operator.says(&["backup", "notes"]).await?;
        files(&world, 20)?;
        let answer = sites.operator.runs(&["backup", "notes"]).await?;
        ensure!(!answer.status.success(), "20 MB fitted into 12: {}", answer.stdout);
        let told = format!("{}{}", answer.stdout, answer.stderr).to_lowercase();
        ensure!(told.contains("space") || told.contains("full"), "the reason is not told: {told}");
        ensure!(sites.points("notes").await?.len() == 1, "a point that is not whole is listed, or a whole one is not");
        sites.operator.says(&["check", "notes"]).await.map(|_| ())
    });
}
