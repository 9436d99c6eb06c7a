//! The daemon where one runs, else a node in this process for as long as the command takes. "Runs" means that it
//! answers: what a crashed daemon left behind counts as none.

use peerup_control::{Client, ClientError, Runtime};

use super::down::wait_until_gone;
use crate::{
    backend,
    failure::{Exit, Failure},
    place::NodeFiles,
};

/// What a node in this process is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// It connects to nobody but the machine it pairs with.
    Pair,
    /// It connects to peers as the daemon would, without an interface, and offers them nothing.
    Visit,
}

pub async fn with_runtime<T>(
    node: &NodeFiles,
    purpose: Purpose,
    work: impl AsyncFnOnce(&dyn Runtime) -> Result<T, Failure>,
) -> Result<T, Failure> {
    match Client::connect(&node.state.socket, &node.state.cookie).await {
        Ok(client) => work(&client).await,
        Err(ClientError::NotRunning { .. }) => {
            let temporary = match purpose {
                Purpose::Pair => backend::temporary(node.file.clone()).await?,
                Purpose::Visit => backend::visitor(node.file.clone()).await?,
            };
            let outcome = work(&*temporary).await;
            drop(temporary);
            // Its last words to peer and relay are said by then; one that hangs does not change the outcome.
            let _ = wait_until_gone(&node.state).await;
            // A node in this process stops early only by a signal.
            let cancelled = |failure: &Failure| failure.exit == Exit::NotRunning;
            outcome.map_err(|failure| if cancelled(&failure) { Failure::new("cancelled") } else { failure })
        }
        Err(error) => Err(error.into()),
    }
}
