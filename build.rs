//! Packs the prompts into one file that goes into the binary: every WAV as the A-law bytes that
//! are sent, every `grammar.toml` as it is.
//!
//! The masters are 30 MB, the pack is 8: the daemon stays small and starts at once. The folder may
//! still be replaced at run time (`prompts.dir`). A WAV that the daemon would refuse stops the
//! build with the same words.
//!
//! The pack: for each file its name (`de/welcome.wav`) and its content, each behind its length as
//! four bytes, least significant first.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

#[expect(dead_code, reason = "the build encodes and never decodes")]
#[path = "src/media/codec/pcma.rs"]
mod pcma;
#[path = "src/driver/prompts/wav.rs"]
mod wav;

fn main() -> ExitCode {
    println!("cargo::rerun-if-changed=prompts");
    println!("cargo::rerun-if-changed=src/driver/prompts/wav.rs");
    println!("cargo::rerun-if-changed=src/media/codec/pcma.rs");
    match write_pack() {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            println!("cargo::error={why}");
            ExitCode::FAILURE
        }
    }
}

fn write_pack() -> Result<(), String> {
    let out = std::env::var("OUT_DIR").map_err(|_| "OUT_DIR is not set; build with cargo")?;
    let mut pack = Vec::new();
    for language in sorted(Path::new("prompts"))?.iter().filter(|path| path.is_dir()) {
        for file in sorted(language)? {
            let bytes = fs::read(&file).map_err(|fault| format!("{}: {fault}", file.display()))?;
            let content = match file.extension().and_then(|extension| extension.to_str()) {
                Some("wav") => {
                    let samples = wav::read(&bytes).map_err(|fault| format!("{} {fault}", file.display()))?;
                    samples.into_iter().map(pcma::encode).collect()
                }
                Some("toml") if file.file_name().is_some_and(|name| name == "grammar.toml") => bytes,
                _ => continue,
            };
            let below = file.strip_prefix("prompts").unwrap_or(&file);
            append(&mut pack, below.to_string_lossy().replace('\\', "/").as_bytes())?;
            append(&mut pack, &content)?;
        }
    }
    let path = Path::new(&out).join("prompts.pack");
    fs::write(&path, pack).map_err(|fault| format!("{}: {fault}", path.display()))
}

fn append(pack: &mut Vec<u8>, part: &[u8]) -> Result<(), String> {
    let length = u32::try_from(part.len()).map_err(|_| "a prompt of more than 4 GB")?;
    pack.extend(length.to_le_bytes());
    pack.extend(part);
    Ok(())
}

fn sorted(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let fault = |fault: std::io::Error| format!("{}: {fault}", folder.display());
    let entries: Result<Vec<PathBuf>, _> = fs::read_dir(folder)
        .map_err(fault)?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect();
    let mut paths = entries.map_err(fault)?;
    paths.sort();
    Ok(paths)
}
