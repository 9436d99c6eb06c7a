//! Every kept input, replayed; and the corpus is complete.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use peerup_replay::{TARGETS, joins, proves};

/// An input that is worth keeping is worth being made small first.
const LARGEST: usize = 4096;

#[test]
fn no_kept_input_breaks_its_target() {
    for (name, entry) in TARGETS {
        for (path, bytes) in inputs(name) {
            println!("{}", path.display());
            entry(&bytes);
        }
    }
}

#[test]
fn every_target_has_a_program_and_small_inputs() {
    let manifest = fs::read_to_string(fuzz().join("Cargo.toml")).unwrap();
    for (name, _) in TARGETS {
        let program = fs::read_to_string(fuzz().join(format!("targets/{name}.rs"))).unwrap_or_default();
        assert!(program.contains(&format!("run(\"{name}\", bytes)")), "{name} has no program");
        assert!(manifest.contains(&format!("path = \"targets/{name}.rs\"")), "{name} is not in the manifest");
        let inputs = inputs(name);
        assert!(!inputs.is_empty(), "{name} has no inputs");
        for (path, bytes) in inputs {
            assert!(bytes.len() <= LARGEST, "{}: {} bytes", path.display(), bytes.len());
        }
    }
}

#[test]
fn programs_and_folders_belong_to_a_target() {
    let targets: BTreeSet<String> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    for folder in ["targets", "corpus"] {
        let found: BTreeSet<String> = entries(&fuzz().join(folder)).iter().map(|path| stem(path)).collect();
        assert_eq!(found, targets, "{folder}");
    }
}

/// The handshake is encrypted: damage to anything but a complete one would not reach what lies behind.
#[test]
fn the_kept_handshakes_are_complete() {
    let read = |name| fs::read(fuzz().join("corpus").join(name)).unwrap();
    assert!(proves(&read("inviter/complete")));
    assert!(joins(&read("joiner/complete")).unwrap().grant.is_some());
}

fn inputs(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let read = |path: PathBuf| fs::read(&path).map(|bytes| (path, bytes)).expect("inputs are files");
    entries(&fuzz().join("corpus").join(target)).into_iter().map(read).collect()
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    entries.map(|entry| entry.expect("folders are readable").path()).collect()
}

fn stem(path: &Path) -> String {
    path.file_stem().expect("it has a name").to_string_lossy().into_owned()
}

fn fuzz() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz")
}
