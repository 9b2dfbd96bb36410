//! A changed mapping while the agent runs.

use super::{Agent, AgentError, AgentPlant, check_names, identity};
use crate::ingest::NewRules;
use crate::links::{self, Running};
use crate::reload::{self, Difference, Load, Refused};
use crate::watch::fingerprints;
use std::sync::Arc;
use tally_model::DeviceSpec;
use tokio::sync::{mpsc, oneshot, watch};

impl Agent {
    /// A changed mapping: nothing is touched before everything is known to be well.
    pub(super) async fn reload(
        &mut self,
        load: Option<&Load>,
        running: &mut Running,
        rules: &mpsc::Sender<NewRules>,
        devices: &watch::Sender<Arc<Vec<DeviceSpec>>>,
    ) -> Result<serde_json::Value, Refused> {
        let answer = self.apply(load, running, rules, devices).await;
        match &answer {
            Ok(report) => tracing::info!(%report, "the mapping was loaded anew"),
            Err(refused) => {
                tracing::error!("the mapping cannot be loaded anew, everything goes on as before: {}", refused.text)
            }
        }
        answer
    }

    async fn apply(
        &mut self,
        load: Option<&Load>,
        running: &mut Running,
        rules: &mpsc::Sender<NewRules>,
        devices: &watch::Sender<Arc<Vec<DeviceSpec>>>,
    ) -> Result<serde_json::Value, Refused> {
        let load = load.ok_or_else(|| Refused::because("this agent was started without a mapping file"))?.clone();
        let loaded = tokio::task::spawn_blocking(move || load()).await;
        let loaded = loaded.map_err(|fault| Refused::because(format!("loading the mapping failed: {fault}")))??;
        let plant = &loaded.plant;
        if plant.name != self.plant.name {
            let (old, new) = (&self.plant.name, &plant.name);
            let text =
                format!("the plant is called `{new}` now and was `{old}`: its topics change, so restart the agent");
            return Err(Refused::because(text));
        }
        check_names(&self.config, plant)?;
        let before = Arc::clone(&devices.borrow());
        let made = links::make(&plant.devices, &identity(&self.config), |devices| running.has(devices, &before));
        let made = made.map_err(AgentError::from)?;
        // From here on nothing is refused any more.
        for gone in running.keep_only(&plant.devices, &before).await {
            if plant.devices.iter().all(|device| device.id != gone) {
                self.status.forget(&gone);
            }
        }
        let (done, in_force) = oneshot::channel();
        let sent = rules
            .send(NewRules { rules: plant.rules.clone(), mappings: fingerprints(&plant.devices), done })
            .await
            .is_ok();
        if !sent || in_force.await.is_err() {
            return Err(Refused::because("the thread that keeps readings died; the agent is restarting"));
        }
        self.status.expect(&plant.devices);
        devices.send_replace(Arc::new(plant.devices.clone()));
        let reconnected: Vec<_> = made.iter().flat_map(|made| made.devices.iter().map(|d| d.id.to_string())).collect();
        running.start(made);
        let difference = Difference::of_devices(&before, &plant.devices);
        let rules = Difference::of_rules(&self.plant.rules, &plant.rules);
        let report = reload::report(&difference, &rules, &reconnected, &loaded);
        self.plant = AgentPlant { devices: Vec::new(), ..loaded.plant };
        Ok(report)
    }
}
