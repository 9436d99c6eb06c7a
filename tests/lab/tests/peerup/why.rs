//! `peerup why` and `peerup paths`: what the daemon says of its choice, and that another process comes to the same.

use peerup_lab::peerup::{JOINER, Pair};
use peerup_lab::tools::ping::pings;
use serde_json::Value;

#[test]
fn the_choice_of_a_path_explains_itself_and_can_be_replayed() {
    let pair = Pair::direct("why", crate::homes).unwrap();
    pings(pair.a.host(), JOINER, 30, std::time::Duration::from_millis(100)).unwrap().all_answered().unwrap();
    let said: Value = serde_json::from_str(&pair.a.peerup(["why", "b", "--json"]).unwrap().stdout).unwrap();
    let paths = said["paths"].as_array().unwrap();
    assert_eq!((paths[0]["class"].as_str(), paths[0]["chosen"].as_bool()), (Some("direct"), Some(true)));
    assert_eq!(said["blocking_reason"], Value::Null);
    let relayed = paths.iter().find(|path| path["class"] == "relay").expect("a relay stands by");
    assert_eq!(relayed["rule"], "direct-is-alive");
    assert!(!said["history"].as_array().unwrap().is_empty());

    let shown = pair.a.peerup(["paths", "b"]).unwrap().stdout;
    assert!(shown.contains("> ") && shown.contains("a relay never replaces a live direct path"), "{shown}");

    let file = pair.a.dir().join("journal").display().to_string();
    pair.a.peerup(["why", "b", "--export", &file]).unwrap();
    let again = pair.a.peerup(["why", "--replay", &file, "--json"]).unwrap().stdout;
    let replayed: Value = serde_json::from_str(&again).unwrap();
    // Twins that lost may have closed between the question and the journal; the chosen path stays.
    let choice = |report: &Value| {
        let paths = report["paths"].as_array().unwrap().iter();
        paths.filter(|path| path["chosen"] == true).map(|path| path["id"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(choice(&replayed), choice(&said));
    let reasons = |report: &Value| {
        let history = report["history"].as_array().unwrap();
        history.iter().map(|change| (change["to"].clone(), change["reason"].clone())).collect::<Vec<_>>()
    };
    assert_eq!(reasons(&replayed), reasons(&said));
}
