//! `tally demo`: the whole path with real processes. This file is the order of events; the actors are beside it.

mod ledger;
mod operator;
mod scada;
mod screen;
mod technician;

use crate::answer::{Answer, Context, Fault};
use crate::child::Child;
use crate::commands::evidence;
use crate::shutdown::{on_signal, runtime};
use crate::site::{self, Site};
use clap::Args;
use ledger::{Ledger, Step};
use scada::Scada;
use screen::Screen;
use std::path::PathBuf;
use std::time::Duration;
use tally_simulator::Broker;
use tally_verifier::{Report, verify};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

/// Arguments of `demo`.
#[derive(Debug, Args)]
#[command(after_help = "\
The demo starts three child processes (sim, node, agent) and a broker on loopback, and needs no network beyond that.
Its files stay in --dir: look at the mapping, the logs and the evidence file afterwards.")]
pub struct DemoArgs {
    /// Stop after the first paid order; exit code 0 only if it was paid, totals are conserved and the evidence holds
    #[arg(long)]
    pub once: bool,
    /// Use this MQTT broker instead of an embedded one
    #[arg(long, value_name = "mqtt://HOST:PORT")]
    pub broker: Option<String>,
    /// Where its files go; made new, must not hold an earlier demo
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
}

/// `--once` must end, whatever goes wrong. An order is paid within half a minute on a small computer.
const ONCE_MAX: Duration = Duration::from_secs(300);

pub fn run(args: DemoArgs, json: bool) -> Result<Answer, Fault> {
    runtime()?.block_on(async {
        let stop = on_signal()?;
        let screen = Screen::new(json);
        let mut demo = Demo::start(args, &screen, stop).await?;
        let told = demo.tell(&screen).await;
        demo.stop(&screen).await;
        told
    })
}

struct Demo {
    once: bool,
    began: Instant,
    site: Site,
    sim: Child,
    node: Child,
    agent: Child,
    scada: Scada,
    ledger: Ledger,
    stop: CancellationToken,
    /// Kept alive as long as the demo; stopped when dropped.
    _broker: Option<Broker>,
}

impl Demo {
    /// Writes a site and starts broker, simulator, node and agent as a site would have them.
    async fn start(args: DemoArgs, screen: &Screen, stop: CancellationToken) -> Result<Self, Fault> {
        let began = Instant::now();
        let dir = demo_dir(args.dir)?;
        let (press_port, cnc_port) = (crate::ports::free()?, crate::ports::free()?);
        let (broker, broker_url) = match args.broker {
            Some(url) => (None, url),
            None => start_broker()?,
        };
        let broker_port = broker_url.rsplit(':').next().unwrap_or("1883").to_owned();
        let environment = vec![
            ("PRESS_PORT".to_owned(), press_port.to_string()),
            ("CNC_PORT".to_owned(), cnc_port.to_string()),
            ("BROKER_PORT".to_owned(), broker_port),
            ("CNC_PASSWORD".to_owned(), hex::encode(password()?)),
        ];
        let options = site::Options {
            broker: broker_url.clone(),
            variables: environment.clone(),
            // Enough for days of failing bearings.
            money: 1000 * site::MONEY,
            ..site::Options::press_line()
        };
        let site = Site::create(&dir, &options)?;
        screen.say("demo", &format!("its files are in {}", dir.display()));
        let mut sim = Child::start("sim", &["sim".as_ref(), site.sim.as_os_str()], &dir, &environment)?;
        sim.wait_for_line("ready", Duration::from_secs(60)).await?;
        screen.say(
            "plant",
            &format!(
                "simulated: press-01 speaks Modbus TCP on {press_port}, cnc-02 OPC UA on {cnc_port}, hall-climate MQTT"
            ),
        );
        let mut node = Child::start("node", &["node".as_ref(), "--config".as_ref(), site.node.as_os_str()], &dir, &[])?;
        let ledger = Ledger::connect(&site, &mut node).await?;
        screen
            .say("ledger", "the node is up; acme has money, fixit has technicians, agent-01 may speak for the devices");
        let mut agent = Child::start(
            "agent",
            &["agent".as_ref(), "--config".as_ref(), site.agent.as_os_str()],
            &dir,
            &environment,
        )?;
        let scada = Scada::listen(&broker_url, &stop)?;
        operator::trust_new_certificates(site.pki.clone(), screen.clone(), stop.clone());
        agent.must_still_run()?;
        Ok(Self { once: args.once, began, site, sim, node, agent, scada, ledger, stop, _broker: broker })
    }

    /// Shows the story, once or until Ctrl-C.
    async fn tell(&mut self, screen: &Screen) -> Result<Answer, Fault> {
        loop {
            let deadline = if self.once { self.began + ONCE_MAX } else { Instant::now() + Duration::from_secs(86_400) };
            let order = match timeout_at(deadline, self.one_order(screen)).await {
                Ok(order) => order?,
                Err(_) => return Err(self.too_late()),
            };
            let Some(order) = order else { return Ok(Answer::Yes) };
            let well = self.settle(&order, screen).await?;
            if self.once || !well {
                return Ok(well.into());
            }
        }
    }

    fn too_late(&self) -> Fault {
        let logs = self.site.dir.display();
        format!("no order was paid within {} s; the logs in {logs} tell why", ONCE_MAX.as_secs()).into()
    }

    /// From the first reading to the payment; `None` when stopped on the way.
    async fn one_order(&mut self, screen: &Screen) -> Result<Option<String>, Fault> {
        loop {
            tokio::select! {
                () = self.stop.cancelled() => return Ok(None),
                message = self.scada.next() => screen.show_message(&message?),
                step = self.ledger.next() => match step? {
                    Step::Told(line) => screen.say("ledger", &line),
                    Step::Dispatched { order, technician } => {
                        screen.say("ledger", &format!("{order} goes to {technician}"));
                        let wrench = self.sim.commands();
                        technician::go(&self.site, order, technician, wrench, screen.clone());
                    }
                    Step::Paid { order, line } => {
                        screen.say("ledger", &line);
                        return Ok(Some(order));
                    }
                },
                gone = self.sim.ended() => return Err(gone),
                gone = self.node.ended() => return Err(gone),
                gone = self.agent.ended() => return Err(gone),
            }
        }
    }

    /// Balances, evidence, verification: the three questions behind `--once`'s exit code.
    async fn settle(&self, order: &str, screen: &Screen) -> Result<bool, Fault> {
        let conserved = self.ledger.show_balances(screen).await?;
        let agent = tally_ledger_client::Client::new(self.site.agent_address.clone());
        let bytes = evidence::collect(order, self.ledger.client(), &agent).await?;
        let file = self.site.dir.join(format!("{order}.tally"));
        evidence::write_whole(&file, &bytes)?;
        let report = verify(&bytes, Some(&self.site.ledger_key));
        screen.say("auditor", &verdict(&report));
        screen.say("auditor", &format!("check it yourself, offline:  tally verify {}", file.display()));
        screen.finish(order, conserved, &report, &file, self.began.elapsed());
        Ok(conserved && report.all_hold())
    }

    /// Sources first, so that nothing is lost on the way down.
    async fn stop(mut self, screen: &Screen) {
        self.stop.cancel();
        for child in [&mut self.agent, &mut self.node, &mut self.sim] {
            if let Err(fault) = child.stop(Duration::from_secs(8)).await {
                screen.say("demo", &fault.to_string());
            }
        }
    }
}

/// The simulated CNC's password for this run.
fn password() -> Result<[u8; 12], Fault> {
    let mut password = [0; 12];
    getrandom::fill(&mut password).map_err(|_| tally_evidence::KeyFault::Randomness)?;
    Ok(password)
}

fn verdict(report: &Report) -> String {
    match report.first_broken() {
        None => format!("the evidence file holds: all {} links", report.links.len()),
        Some(link) => format!("the evidence file DOES NOT HOLD: {} of {}: {}", link.step, link.about, link.detail),
    }
}

fn start_broker() -> Result<(Option<Broker>, String), Fault> {
    let broker = tally_simulator::start_broker(0).context("starting the embedded MQTT broker")?;
    let url = format!("mqtt://127.0.0.1:{}", broker.port());
    Ok((Some(broker), url))
}

/// A new folder for this run: given, or `tallystick-demo/<time>` here.
fn demo_dir(given: Option<PathBuf>) -> Result<PathBuf, Fault> {
    let dir = given.unwrap_or_else(|| PathBuf::from("tallystick-demo").join(site::utc_stamp()));
    if dir.exists() && std::fs::read_dir(&dir).context(dir.display())?.next().is_some() {
        return Err(format!("{} is not empty; name a new folder with --dir", dir.display()).into());
    }
    std::fs::create_dir_all(&dir).context(format_args!("making {}", dir.display()))?;
    dir.canonicalize().context(dir.display())
}
