//! A manifest names what the code uses, and nothing else.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use peerup_tidy::{Workspace, assert_none};

#[test]
fn every_declared_dependency_is_named_in_the_code() {
    let workspace = Workspace::load();
    let mut offences = Vec::new();
    for (name, package) in workspace.members() {
        let folder = package.manifest.parent().expect("a manifest lies in a folder");
        let words = words(folder);
        for dependency in workspace.direct_dependencies(package) {
            if !words.contains(&dependency.replace('-', "_")) {
                offences.push(format!("{name}: {dependency}"));
            }
        }
    }
    assert_none("dependencies that no source file names", &offences);
}

/// Every identifier of the package's Rust files.
fn words(folder: &Path) -> BTreeSet<String> {
    let mut words = BTreeSet::new();
    let mut open = vec![folder.to_owned()];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(&folder).expect("packages are readable").flatten() {
            let path = entry.path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).expect("source files are text");
                words.extend(text.split(|c: char| !c.is_alphanumeric() && c != '_').map(str::to_owned));
            }
        }
    }
    words
}
