//! The bugs that `scripts/mutants.sh` plants change the code as it is now.

use peerup_tidy::{Tree, assert_none};

const FOLDER: &str = "tests/sim/mutations/";

#[test]
fn every_planted_bug_replaces_lines_that_are_there() {
    let tree = Tree::read();
    let patches = || tree.files().filter(|(path, _)| path.starts_with(FOLDER) && path.ends_with(".patch"));
    assert!(patches().count() >= 10, "the patches are not where this looks for them");
    let offences: Vec<String> = patches()
        .flat_map(|(path, patch)| {
            missing(&tree, patch).into_iter().map(move |what| format!("{path}: {what}"))
        })
        .collect();
    assert_none("planted bugs that do not apply", &offences);
}

/// What a patch replaces and is not there exactly once.
fn missing(tree: &Tree, patch: &str) -> Vec<String> {
    let mut missing = Vec::new();
    if !patch.contains("\n@@") || !patch.contains("--- a/") {
        missing.push("it changes nothing".to_owned());
    }
    for file in patch.split("--- a/").skip(1) {
        let path = file.lines().next().unwrap_or_default();
        let text = tree.text(path).unwrap_or_default();
        for hunk in file.split("\n@@").skip(1) {
            let before: String = hunk
                .lines()
                .skip(1)
                .filter_map(|line| line.strip_prefix([' ', '-']))
                .map(|line| format!("{line}\n"))
                .collect();
            if text.matches(&before).count() != 1 {
                missing.push(format!("{path} has not once\n{before}"));
            }
        }
    }
    missing
}
