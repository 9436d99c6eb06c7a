//! The workspace as cargo resolves it.

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

use crate::Tree;

/// All packages of the lock file that build on this platform, and which of them are ours.
pub struct Workspace {
    packages: BTreeMap<String, Package>,
    members: BTreeSet<String>,
}

/// One package with the normal dependencies cargo resolved for it (no build or test dependencies).
pub struct Package {
    pub name: String,
    pub manifest: PathBuf,
    pub targets: Vec<Target>,
    dependencies: BTreeSet<String>,
}

/// A library or program of a package, and the file it starts in.
pub struct Target {
    pub kind: String,
    pub root: PathBuf,
}

impl Workspace {
    /// Asks cargo, for the platform these tests run on.
    pub fn load() -> Self {
        let metadata = cargo_metadata();
        let mut packages: BTreeMap<String, Package> =
            list(&metadata["packages"]).iter().map(|p| (text(&p["id"]), package(p))).collect();
        for node in list(&metadata["resolve"]["nodes"]) {
            let dependencies = list(&node["deps"]).iter().filter(|d| is_normal(d)).map(|d| text(&d["pkg"]));
            let package = packages.get_mut(&text(&node["id"])).expect("every resolved node is a package");
            package.dependencies = dependencies.collect();
        }
        let members = list(&metadata["workspace_members"]).iter().map(text).collect();
        Self { packages, members }
    }

    /// Our own packages, by name.
    pub fn members(&self) -> BTreeMap<&str, &Package> {
        self.members.iter().map(|id| &self.packages[id]).map(|p| (p.name.as_str(), p)).collect()
    }

    /// Names of the packages that `package` names itself.
    pub fn direct_dependencies(&self, package: &Package) -> BTreeSet<&str> {
        package.dependencies.iter().map(|id| self.packages[id].name.as_str()).collect()
    }

    /// For every package reachable from `package`: its name and the chain of names that leads there.
    pub fn reachable(&self, package: &Package) -> BTreeMap<&str, Vec<&str>> {
        let mut found: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        let mut open: Vec<(&Package, Vec<&str>)> = vec![(package, Vec::new())];
        while let Some((current, chain)) = open.pop() {
            for id in &current.dependencies {
                let next = &self.packages[id];
                if found.contains_key(next.name.as_str()) {
                    continue;
                }
                let chain: Vec<&str> = chain.iter().copied().chain([next.name.as_str()]).collect();
                found.insert(&next.name, chain.clone());
                open.push((next, chain));
            }
        }
        found
    }
}

fn cargo_metadata() -> Value {
    let output = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["metadata", "--locked", "--format-version", "1", "--filter-platform", &host_platform()])
        .current_dir(Tree::root())
        .output()
        .expect("cargo is installed where its tests run");
    assert!(output.status.success(), "cargo metadata failed: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("cargo metadata writes JSON")
}

fn host_platform() -> String {
    let output = Command::new("rustc").arg("-vV").output().expect("rustc is installed where tests are built");
    let version = String::from_utf8_lossy(&output.stdout);
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    host.expect("rustc -vV names its host").to_owned()
}

fn package(value: &Value) -> Package {
    Package {
        name: text(&value["name"]),
        manifest: PathBuf::from(text(&value["manifest_path"])),
        targets: list(&value["targets"]).iter().map(target).collect(),
        dependencies: BTreeSet::new(),
    }
}

fn target(value: &Value) -> Target {
    Target { kind: text(&value["kind"][0]), root: PathBuf::from(text(&value["src_path"])) }
}

fn is_normal(dependency: &Value) -> bool {
    list(&dependency["dep_kinds"]).iter().any(|kind| kind["kind"].is_null())
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn text(value: &Value) -> String {
    value.as_str().expect("cargo metadata has a string here").to_owned()
}
