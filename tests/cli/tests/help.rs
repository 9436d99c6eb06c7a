//! The whole `--help` tree, one snapshot per command of the first level. After a change of the command line,
//! `INSTA_UPDATE=always cargo nextest run -p peerup-cli-tests --test help` writes it anew.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

use std::{
    collections::BTreeSet,
    fs,
    path::Path,
    process::{Command, Stdio},
};

use peerup_cli_tests::peerup;

#[test]
fn every_command_explains_itself_as_the_snapshots_say() {
    let mut names = BTreeSet::from(["help@peerup.snap".to_owned()]);
    insta::with_settings!({prepend_module_to_snapshot => false, omit_expression => true}, {
        insta::assert_snapshot!("help@peerup", page(&[]));
        for command in subcommands(&page(&[])) {
            let name = format!("help@{command}");
            names.insert(format!("{name}.snap"));
            insta::assert_snapshot!(name, tree(&[&command]));
        }
    });
    assert_eq!(kept(), names, "a snapshot in tests/cli/tests/snapshots is of no command");
}

/// The page of a command and those of all commands below it.
fn tree(path: &[&str]) -> String {
    let page = page(path);
    let below = subcommands(&page);
    let mut text = format!("$ peerup {} --help\n{page}\n", path.join(" "));
    for command in below {
        text.push_str(&tree(&[path, &[&command]].concat()));
    }
    text
}

fn page(path: &[&str]) -> String {
    let mut command = Command::new(peerup());
    command.args(path).arg("--help").env("COLUMNS", "100").env("NO_COLOR", "1").stdin(Stdio::null());
    let output = command.output().unwrap();
    assert!(output.status.success(), "{path:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// The names below `Commands:`, without `help` itself.
fn subcommands(page: &str) -> Vec<String> {
    let list = page.lines().skip_while(|line| *line != "Commands:").skip(1);
    let entries = list.take_while(|line| line.starts_with("  "));
    // A description that goes on in the next line is indented further.
    let names =
        entries.filter(|line| !line.starts_with("   ")).filter_map(|line| line.split_whitespace().next());
    names.filter(|name| *name != "help").map(str::to_owned).collect()
}

fn kept() -> BTreeSet<String> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/snapshots");
    let files = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    files.filter(|name| name.starts_with("help@") && name.ends_with(".snap")).collect()
}
