//! `GET /v1/config`: the configuration that the running node follows.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ConfigReport {
    pub file: String,
    /// Why the file as it stands on disk is not followed.
    pub problem: Option<String>,
    /// Every key with its value, defaults filled in.
    pub config: serde_json::Value,
}
