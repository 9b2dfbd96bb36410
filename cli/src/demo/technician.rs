//! The technician: accepts the order, changes the bearing, reports it done. Sealed calls, like everybody's.

use super::screen::Screen;
use crate::answer::Fault;
use crate::commands::call::{Wish, submit};
use crate::commands::keys::open_key;
use crate::site::Site;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;
use tally_ledger_client::Client;
use tally_model::{AgreementId, PartyId};
use tokio::sync::mpsc;

/// Time to read the order, and time to change a bearing in a demo.
const READING: Duration = Duration::from_millis(1200);
const REPAIRING: Duration = Duration::from_millis(2500);

/// Sends the technician on the way; he works while the story goes on.
pub fn go(site: &Site, order: String, technician: String, wrench: mpsc::Sender<String>, screen: Screen) {
    let (client, key) = (Client::new(site.node_address.clone()), site.key_of(&technician));
    tokio::spawn(async move {
        if let Err(fault) = work(&client, &key, &order, &technician, wrench, &screen).await {
            screen.say(&technician, &format!("cannot go on with {order}: {fault}"));
        }
    });
}

async fn work(
    client: &Client,
    key: &Path,
    order: &str,
    technician: &str,
    wrench: mpsc::Sender<String>,
    screen: &Screen,
) -> Result<(), Fault> {
    let signer = (PartyId::try_new(technician)?, open_key(key)?);
    let wish = |action| {
        let agreement = AgreementId::try_new(order).ok();
        Wish { contract: "maintenance-order", action, agreement, arguments: BTreeMap::new() }
    };
    tokio::time::sleep(READING).await;
    let accepted = submit(client, &signer, wish("accept")).await?;
    screen.call(technician, "accepts", order, &accepted);
    tokio::time::sleep(REPAIRING).await;
    wrench.send("repair press-01".to_owned()).await?;
    screen.say(technician, "has changed the bearing of press-01");
    let done = submit(client, &signer, wish("done")).await?;
    screen.call(technician, "reports done", order, &done);
    Ok(())
}
