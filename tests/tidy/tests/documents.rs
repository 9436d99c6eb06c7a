//! Links lead somewhere, and the decision records are complete.

use std::collections::{BTreeMap, BTreeSet};

use peerup_tidy::{Markdown, Tree, assert_none};

const ADR_FOLDER: &str = "docs/adr/";
const ADR_INDEX: &str = "docs/adr/README.md";
const ADR_TEMPLATE: &str = "docs/adr/0000-template.md";
const ADR_SECTIONS: &[&str] = &["Status", "Context", "Decision", "Consequences", "Learn more"];
const ADR_CONSEQUENCES: &[&str] = &["**Good:**", "**Trade-offs:**", "**Unexpected:**"];

/// The decisions of the Go original's engineering journal: each is kept or overturned by exactly one record.
const JOURNAL: &[&str] = &[
    "001", "002", "003", "004", "005", "006", "007", "008", "A01", "A02", "A03", "A04", "B01", "B02", "B03",
    "B04", "C01", "C02", "C03", "D01", "D02", "D03", "D04", "E01", "E02", "F01", "F02", "F03", "F04", "G01",
    "G02", "G03", "G04", "H01", "H02", "H03", "I01", "I02", "I03", "I04", "I05", "I06", "Ia01", "Ia02",
    "Ib01", "Ib02", "Ic01", "DT01", "DT02",
];

#[test]
fn every_link_inside_the_repository_leads_somewhere() {
    let tree = Tree::read();
    let mut offences = Vec::new();
    for document in tree.markdown() {
        for (path, anchor) in document.links() {
            if !tree.exists(&path) {
                offences.push(format!("{}: {path}", document.path));
            } else if let Some(anchor) = anchor
                && !has_anchor(&tree, &path, anchor)
            {
                offences.push(format!("{}: {path} has no heading #{anchor}", document.path));
            }
        }
    }
    assert_none("broken links", &offences);
}

#[test]
fn every_decision_record_has_its_sections_in_order() {
    let tree = Tree::read();
    let mut offences = Vec::new();
    for record in records(&tree) {
        if record.headings(2).collect::<Vec<_>>() != ADR_SECTIONS {
            offences.push(format!("{}: sections are not {ADR_SECTIONS:?}", record.path));
        }
        for kind in ADR_CONSEQUENCES {
            if !record.prose().any(|line| line.contains(kind)) {
                offences.push(format!("{}: no {kind} under Consequences", record.path));
            }
        }
    }
    assert_none("incomplete decision records", &offences);
}

#[test]
fn the_index_links_every_decision_record() {
    let tree = Tree::read();
    let index = tree.document(ADR_INDEX).expect("the index of decisions exists");
    let linked: BTreeSet<String> = index.links().into_iter().map(|(path, _)| path).collect();
    let missing: Vec<String> =
        records(&tree).map(|r| r.path.to_owned()).filter(|path| !linked.contains(path)).collect();
    assert_none("records missing from docs/adr/README.md", &missing);
}

#[test]
fn numbers_of_decision_records_have_no_twins() {
    let tree = Tree::read();
    let mut numbers: Vec<String> = records(&tree).map(|r| number(&r).to_owned()).collect();
    let all = numbers.len();
    numbers.sort();
    numbers.dedup();
    assert_eq!(numbers.len(), all, "{numbers:?}");
}

#[test]
fn each_journal_decision_belongs_to_exactly_one_record_and_the_index_agrees() {
    let tree = Tree::read();
    let mut claimed: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for record in records(&tree).filter(|record| record.path != ADR_TEMPLATE) {
        for id in inherited(&record) {
            claimed.entry(id).or_default().push(number(&record));
        }
    }
    let mut offences = Vec::new();
    for id in JOURNAL {
        match claimed.remove(id).as_deref() {
            None => offences.push(format!("journal {id} is in no record")),
            Some([only]) if !is_indexed(&tree, id, only) => {
                offences.push(format!("journal {id} is not with {only} in the index"));
            }
            Some([_]) => {}
            Some(several) => offences.push(format!("journal {id} is in {several:?}")),
        }
    }
    offences.extend(claimed.keys().map(|id| format!("{id} is no journal decision")));
    assert_none("journal decisions", &offences);
}

fn has_anchor(tree: &Tree, path: &str, anchor: &str) -> bool {
    tree.document(path).is_none_or(|document| document.anchors().iter().any(|a| a == anchor))
}

fn records(tree: &Tree) -> impl Iterator<Item = Markdown<'_>> {
    tree.markdown().filter(|document| document.path.starts_with(ADR_FOLDER) && document.path != ADR_INDEX)
}

fn number<'a>(record: &Markdown<'a>) -> &'a str {
    record.path.strip_prefix(ADR_FOLDER).and_then(|name| name.get(..4)).unwrap_or_default()
}

/// The identifiers of the line `Journal: 003 (kept), Ic01 (kept)` under Status.
fn inherited<'a>(record: &Markdown<'a>) -> Vec<&'a str> {
    let line = record.prose().find_map(|line| line.strip_prefix("Journal: "));
    line.into_iter()
        .flat_map(|ids| ids.split(", "))
        .map(|id| id.split(' ').next().unwrap_or_default())
        .filter(|id| *id != "none")
        .collect()
}

/// The index has a row `| 003 | [0017](…) | kept |`.
fn is_indexed(tree: &Tree, id: &str, record: &str) -> bool {
    let index = tree.text(ADR_INDEX).unwrap_or_default();
    let begin = format!("| {id} |");
    index.lines().filter(|line| line.starts_with(&begin)).any(|line| line.contains(&format!("[{record}](")))
}
