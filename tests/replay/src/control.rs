//! Bodies of requests to the local API.

use std::fmt::Debug;

use peerup_control::api::{AuthAdd, InviteRequest, JoinRequest, PingRequest};
use serde::Serialize;
use serde::de::DeserializeOwned;

pub fn request(bytes: &[u8]) {
    read::<AuthAdd>(bytes);
    read::<InviteRequest>(bytes);
    read::<JoinRequest>(bytes);
    if let Some(ping) = read::<PingRequest>(bytes) {
        let ping = ping.normalised();
        assert!(ping.count > 0 && ping.interval_ms > 0);
        assert_eq!(ping.clone().normalised(), ping);
    }
}

fn read<T: DeserializeOwned + Serialize + PartialEq + Debug>(bytes: &[u8]) -> Option<T> {
    let request: T = serde_json::from_slice(bytes).ok()?;
    let again = serde_json::to_vec(&request).expect("requests have string keys only");
    assert_eq!(serde_json::from_slice::<T>(&again).ok().as_ref(), Some(&request));
    Some(request)
}
