//! Reading in cycles, for servers that know no subscriptions.

use crate::facts::value_of;
use crate::outlet::Outlet;
use crate::plan::Plan;
use crate::session::Connection;
use opcua::types::{NodeId, TimestampsToReturn};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tally_connector_api::LinkFault;
use tally_model::NoValue;

/// A device that is read in cycles.
pub(crate) struct Poll {
    pub(crate) device: usize,
    every: Duration,
    /// Point places and their nodes on this server.
    nodes: Vec<(usize, NodeId)>,
    /// Points whose namespace the server does not know.
    pub(crate) unknown: Vec<usize>,
    next: Instant,
}

impl Connection {
    /// Reads this device in cycles from now on.
    pub(crate) fn start_polling(&mut self, device: usize, plan: &Plan, outlet: &mut Outlet) {
        let mut poll = Poll { device, every: plan.every, nodes: Vec::new(), unknown: Vec::new(), next: Instant::now() };
        poll.resolve(plan, &self.facts.namespaces);
        let unknown = poll.unknown.iter().map(|place| (device, *place, NoValue::NoSuchAddress));
        // Without subscriptions there are no events either.
        let alarms = plan.alarms.iter().map(|alarm| (device, alarm.place, NoValue::Refused));
        outlet.hand_refused(unknown.chain(alarms).collect());
        self.polls.push(poll);
    }

    /// When the next cycle is due.
    pub(crate) fn next_poll(&self) -> Option<Instant> {
        self.polls.iter().map(|poll| poll.next).min()
    }

    /// Reads every device whose cycle is due.
    pub(crate) async fn poll(&mut self, outlet: &mut Outlet) -> Result<(), LinkFault> {
        for place in 0..self.polls.len() {
            if self.polls[place].next <= Instant::now() {
                self.read_cycle(place, outlet).await?;
                let poll = &mut self.polls[place];
                // A cycle that took longer than its period is followed by the next at once, and none is made up for.
                poll.next = (poll.next + poll.every).max(Instant::now());
            }
        }
        Ok(())
    }

    async fn read_cycle(&mut self, poll: usize, outlet: &mut Outlet) -> Result<(), LinkFault> {
        let (device, nodes) = (self.polls[poll].device, self.polls[poll].nodes.clone());
        for chunk in nodes.chunks(self.facts.read_chunk()) {
            let questions: Vec<_> = chunk.iter().map(|(_, node)| value_of(node.clone())).collect();
            let session = Arc::clone(&self.session);
            let read = async move { session.read(&questions, TimestampsToReturn::Both, 0.0).await };
            let answers = self.drive(outlet, "read values", read).await?;
            if answers.len() != chunk.len() {
                return Err(LinkFault::Nonsense("read values: fewer answers than questions".into()));
            }
            let received = outlet.clock().now();
            let values = chunk.iter().zip(answers).map(|((place, _), value)| (*place, value));
            outlet.hand_values(device, values.collect(), received);
            outlet.flush().await;
        }
        Ok(())
    }
}

impl Poll {
    /// Looks up the nodes under the namespaces of now.
    pub(crate) fn resolve(&mut self, plan: &Plan, namespaces: &[String]) {
        (self.nodes, self.unknown) = (Vec::new(), Vec::new());
        for item in plan.items() {
            match item.node_id(namespaces) {
                Some(node) => self.nodes.push((item.place, node)),
                None => self.unknown.push(item.place),
            }
        }
    }
}
