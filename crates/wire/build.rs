//! Compiles `proto/` with protox: whoever builds Muster needs no protoc.

use std::path::{Path, PathBuf};

use prost::Message;

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let root = Path::new("../../proto");
    let mut files = Vec::new();
    for package in ["muster/v1", "muster/agent/v1"] {
        for entry in std::fs::read_dir(root.join(package))? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "proto") {
                files.push(path);
            }
        }
    }
    files.sort();
    println!("cargo:rerun-if-changed={}", root.display());
    let descriptors = protox::compile(&files, [root])?;
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(out.join("descriptors.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure().build_transport(true).codec_path("crate::codec::SmallBuffers").compile_fds(descriptors)?;
    Ok(())
}
