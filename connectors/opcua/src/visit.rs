//! A session for somebody who wants something once: to browse, to write, to call. Apart from the link, so that nothing of
//! it slows the readings down, and nothing of the link can write.

use crate::Settings;
use crate::connect::Connector;
use crate::error::link_fault;
use crate::facts::{ServerFacts, questions};
use futures_util::StreamExt;
use opcua::client::{Session, SessionPollResult};
use opcua::types::{DataValue, Error, NodeId, ReadValueId, TimestampsToReturn};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tally_connector_api::{Clock, LinkFault, SystemClock};
use tally_model::{OpcUaLimits, Security};
use tokio::task::JoinHandle;

/// How long a polite end may take.
const CLOSE_TIME: Duration = Duration::from_secs(1);

/// An activated session, driven by a task of its own. Dropped, it is cut; [`Visit::close`] is polite.
pub struct Visit {
    pub(crate) session: Arc<Session>,
    pub(crate) facts: ServerFacts,
    timeout: Duration,
    driver: JoinHandle<()>,
}

impl Visit {
    /// Opens a session with the endpoint choice, trust and logins of a link.
    ///
    /// # Errors
    /// [`LinkFault`], as a link would say it.
    pub async fn open(
        url: &str,
        security: &Security,
        settings: &Settings,
        limits: &OpcUaLimits,
        timeout: Duration,
    ) -> Result<Self, LinkFault> {
        let mut connector = Connector::new(settings.clone(), timeout);
        let connection = connector.connect(url, security, SystemClock::default().now()).await?;
        let (session, mut events) = connection.into_parts();
        let driver = tokio::spawn(async move {
            while let Some(Ok(event)) = events.next().await {
                if matches!(event, SessionPollResult::ConnectionLost(_) | SessionPollResult::ReconnectFailed(_)) {
                    break;
                }
            }
        });
        let mut visit = Self { session, facts: ServerFacts::default(), timeout, driver };
        let answers = visit.read(&questions()).await?;
        let facts = ServerFacts::from_answers(answers)
            .ok_or_else(|| LinkFault::Nonsense("read the namespace array: the server sent no array".into()))?;
        visit.facts = facts.within(limits);
        Ok(visit)
    }

    /// One request, sorted faults, bounded in time.
    pub(crate) async fn ask<T>(
        &self,
        asked: &str,
        request: impl Future<Output = Result<T, Error>> + Send,
    ) -> Result<T, LinkFault> {
        match tokio::time::timeout(self.timeout, request).await {
            Ok(answer) => answer.map_err(|fault| link_fault(asked, fault.status(), "")),
            Err(_) => Err(LinkFault::Line(format!("{asked}: no answer within {:?}", self.timeout))),
        }
    }

    /// Patience with one request.
    pub(crate) const fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Reads attributes, as many at a time as the server takes.
    pub(crate) async fn read(&self, questions: &[ReadValueId]) -> Result<Vec<DataValue>, LinkFault> {
        let mut answers = Vec::with_capacity(questions.len());
        for chunk in questions.chunks(self.facts.read_chunk()) {
            let read = self.session.read(chunk, TimestampsToReturn::Neither, 0.0);
            let some = self.ask("read attributes", read).await?;
            if some.len() != chunk.len() {
                return Err(LinkFault::Nonsense("read attributes: fewer answers than questions".into()));
            }
            answers.extend(some);
        }
        Ok(answers)
    }

    /// The node as a mapping writes it: with its namespace's URI, because indexes move.
    pub(crate) fn address_of(&self, node: &NodeId) -> String {
        let namespace = usize::from(node.namespace);
        match self.facts.namespaces.get(namespace).filter(|uri| namespace > 0 && !uri.is_empty() && !uri.contains(';'))
        {
            Some(uri) => format!("nsu={uri};{}", node.identifier),
            None if namespace == 0 => node.identifier.to_string(),
            None => node.to_string(),
        }
    }

    /// Closes the session, if the server plays along in time.
    pub async fn close(self) {
        if tokio::time::timeout(CLOSE_TIME, self.session.disconnect()).await.is_err() {
            tracing::debug!("the session was not closed in order; the server forgets it by itself");
        }
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        self.driver.abort();
    }
}
