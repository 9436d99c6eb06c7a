//! `/metrics`, `/healthz` and the audit log, where the configuration asks for them.
//!
//! The listeners run as tasks and put their questions to the loop, which owns what they ask about. One that is off
//! costs nothing; both may share an address.

use std::{collections::BTreeMap, net::SocketAddr, path::Path, sync::Arc, time::Instant};

use peerup_config::{RelayConfig, RelayStatePaths};
use peerup_service::files::secret_token;
use peerup_swarm::{Decision, PeerSwarm};
use peerup_telemetry::{
    audit::Audit,
    exporter::{Exporter, Page, Pages},
    metrics::{RelayMetrics, RelaySnapshot},
};
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinSet,
};

use super::Relay;
use crate::error::RelayError;

/// Scrapers that wait at once; a further one waits in its own task.
const QUESTIONS: usize = 8;

/// What a listener asks of the loop.
pub enum Question {
    Metrics(oneshot::Sender<Option<String>>),
    Health(oneshot::Sender<Option<String>>),
}

pub struct Observing {
    metrics: Option<RelayMetrics>,
    audit: Option<Audit>,
    allowed: u64,
    started: Instant,
    /// `None` where nobody asks.
    questions: Option<mpsc::Receiver<Question>>,
    _listeners: JoinSet<()>,
}

impl Observing {
    /// Binds the listeners; nobody is answered before the loop runs.
    pub async fn start(
        config: &RelayConfig,
        config_file: &Path,
        version: &str,
        swarm: &mut PeerSwarm,
    ) -> Result<Self, RelayError> {
        let telemetry = &config.telemetry;
        let audit = Audit::new(telemetry.audit.enabled);
        let metrics = telemetry.metrics.enabled.then(|| {
            let mut metrics = RelayMetrics::new(version, peerup_clock::unix());
            swarm.register_metrics(metrics.registry_mut());
            metrics
        });
        if audit.is_some() || metrics.is_some() {
            swarm.observe_decisions();
        }
        let (sender, questions) = mpsc::channel(QUESTIONS);
        let mut listeners = JoinSet::new();
        for (address, pages) in pages(config, config_file, &sender)? {
            tracing::info!(%address, metrics = pages.metrics.is_some(), health = pages.health.is_some(), "answering");
            listeners.spawn(Exporter::bind(address, pages).await?.serve());
        }
        let questions = (!listeners.is_empty()).then_some(questions);
        let started = peerup_clock::now();
        Ok(Self { metrics, audit, allowed: 0, started, questions, _listeners: listeners })
    }

    /// The next question; never where nobody asks.
    pub async fn question(&mut self) -> Question {
        let Some(questions) = &mut self.questions else { return std::future::pending().await };
        match questions.recv().await {
            Some(question) => question,
            // The listeners' senders are gone only when a listener failed, which it has said.
            None => std::future::pending().await,
        }
    }

    pub fn decided(&mut self, decision: Decision) {
        self.allowed += u64::from(decision.allowed);
        if let Some(audit) = self.audit {
            audit.auth_decision(peerup_clock::unix(), &decision.peer.to_string(), decision.allowed);
        }
    }
}

impl Relay {
    pub(super) fn answer_question(&self, question: Question) {
        // Whoever asked may have hung up.
        match question {
            Question::Metrics(reply) => drop(reply.send(self.metrics_page())),
            Question::Health(reply) => drop(reply.send(Some(self.health_page()))),
        }
    }

    fn metrics_page(&self) -> Option<String> {
        let metrics = self.observing.metrics.as_ref()?;
        let counters = &self.counters;
        let active = counters.circuits_opened.saturating_sub(counters.circuits_closed);
        Some(metrics.page(&RelaySnapshot {
            connected_peers: self.connections.peers().len().try_into().unwrap_or(i64::MAX),
            reservations: counters.reservations,
            circuits_opened: counters.circuits_opened,
            circuits_active: active.try_into().unwrap_or(i64::MAX),
            refused: counters.refused,
            auth_allowed: self.observing.allowed,
            auth_denied: self.swarm.refused(),
            swarm_restarts: counters.restarts,
            panics: peerup_telemetry::panics(),
        }))
    }

    /// No peer IDs, no version: what a load balancer needs and nothing else.
    fn health_page(&self) -> String {
        let uptime = self.observing.started.elapsed().as_secs();
        let peers = self.connections.peers().len();
        format!("{{\"status\":\"ok\",\"uptime_seconds\":{uptime},\"connected_peers\":{peers}}}\n")
    }
}

/// What is served where.
fn pages(
    config: &RelayConfig,
    config_file: &Path,
    questions: &mpsc::Sender<Question>,
) -> Result<BTreeMap<SocketAddr, Pages>, RelayError> {
    let mut pages: BTreeMap<SocketAddr, Pages> = BTreeMap::new();
    let (metrics, health) = (&config.telemetry.metrics, &config.health);
    if metrics.enabled {
        let page = pages.entry(metrics.listen_address).or_default();
        page.metrics = Some(ask(questions, Question::Metrics));
        if !metrics.listen_address.ip().is_loopback() {
            let file = RelayStatePaths::beside(config_file).metrics_token;
            page.token = Some(secret_token(&file)?.into());
        }
    }
    if health.enabled {
        pages.entry(health.listen_address).or_default().health = Some(ask(questions, Question::Health));
    }
    Ok(pages)
}

fn ask(
    questions: &mpsc::Sender<Question>,
    question: fn(oneshot::Sender<Option<String>>) -> Question,
) -> Page {
    let questions = questions.clone();
    Arc::new(move || {
        let questions = questions.clone();
        Box::pin(async move {
            let (reply, answer) = oneshot::channel();
            questions.send(question(reply)).await.ok()?;
            answer.await.ok()?
        })
    })
}
