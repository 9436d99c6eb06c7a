//! The bench measures and reports. How fast anything is, `scripts/bench.sh` says on a machine with nothing else to do.

use std::path::Path;
use std::process::Command;

use peerup_lab::beside_this_program;
use serde_json::Value;

#[test]
fn the_bench_measures_the_link_and_peerup_in_turns_and_reports_both() {
    let out = Path::new(env!("CARGO_TARGET_TMPDIR")).join("bench");
    let words = "run --subjects raw,peerup --profiles cable --figures tcp1 --rounds 1 --seconds 2 --out";
    let said = bench(&words.split(' ').chain([out.to_str().unwrap()]).collect::<Vec<_>>());
    let run: Value = serde_json::from_str(&read(&out.join("run.json"))).unwrap();
    assert_eq!(run["failures"], Value::Array(Vec::new()), "{said}");
    for (subject, metric) in
        [("raw", "tcp1"), ("peerup", "tcp1"), ("peerup", "daemon-cpu"), ("peerup", "loaded-p99")]
    {
        assert!(value(&run, subject, metric) > 0.0, "{metric} of {subject}: {said}");
    }
    assert_eq!(run["carriers"]["peerup"].as_str().unwrap().split(' ').next(), Some("direct"));
    let table = read(&out.join("table.md"));
    assert!(table.contains("\n| CPU s/GB, both daemons | cable | peerup | ≤ 1.5 | "), "{table}");
    assert!(table.contains("\n| cable | raw | cubic |  |\n"), "{table}");
    let chart = read(&out.join("chart.svg"));
    assert!(chart.contains("cable: TCP ×1, Mbit/s"), "{chart}");

    // The table of a run that was kept is the table of the run.
    let (json, again) = (out.join("run.json"), out.join("again"));
    bench(&["report", json.to_str().unwrap(), "--out", again.to_str().unwrap()]);
    assert_eq!(read(&again.join("table.md")), table);
}

fn bench(words: &[&str]) -> String {
    let output = Command::new(beside_this_program("peerup-bench").unwrap()).args(words).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    assert!(output.status.success(), "{said}");
    said
}

fn value(run: &Value, subject: &str, metric: &str) -> f64 {
    let mut records = run["records"].as_array().unwrap().iter();
    let found = records.find(|record| record["subject"] == subject && record["metric"] == metric);
    found.map_or(0.0, |record| record["value"].as_f64().unwrap())
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap()
}
