//! A node that appears while the link is up: told once as missing, then read. Inside the crate, because the link looks
//! again every minute and here every 300 ms.

use crate::plan::tests::{device, point};
use crate::{Settings, link};
use opcua::server::address_space::VariableBuilder;
use opcua::server::diagnostics::NamespaceMetadata;
use opcua::server::node_manager::memory::{SimpleNodeManager, simple_node_manager};
use opcua::server::{ANONYMOUS_USER_TOKEN_ID, ServerBuilder, ServerEndpoint, ServerHandle};
use opcua::types::{DataTypeId, NodeId, ObjectId};
use std::sync::Arc;
use std::time::Duration;
use tally_connector_api::{Batch, LinkContext, StatusReporter, SystemClock};
use tally_model::{Encoding, Endpoint, NoValue, OpcUaPolicy, Outcome, Value};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

const NAMESPACE: &str = "urn:late";

async fn server(pki: &std::path::Path) -> (ServerHandle, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let metadata = NamespaceMetadata { namespace_uri: NAMESPACE.into(), ..Default::default() };
    let (server, handle) = ServerBuilder::new()
        .application_name("late")
        .application_uri("urn:late:server")
        .product_uri("urn:late")
        .pki_dir(pki)
        .port(port)
        .discovery_urls(vec!["/".into()])
        .add_endpoint("none", ServerEndpoint::new_none("/", &[ANONYMOUS_USER_TOKEN_ID.to_owned()]))
        .with_node_manager(simple_node_manager(metadata, NAMESPACE))
        .build()
        .unwrap();
    tokio::spawn(server.run_with(listener));
    (handle, port)
}

fn add(handle: &ServerHandle, name: &str) {
    let index = handle.get_namespace_index(NAMESPACE).unwrap();
    let manager = handle.node_managers().get_by_name::<SimpleNodeManager>(NAMESPACE).unwrap();
    let mut space = manager.address_space().write();
    let made = VariableBuilder::new(&NodeId::new(index, name), name, name)
        .data_type(DataTypeId::Double)
        .value(4.5_f64)
        .organized_by(ObjectId::ObjectsFolder)
        .insert(&mut *space);
    assert!(made);
}

async fn next(batches: &mut mpsc::Receiver<Batch>) -> Vec<(String, Outcome)> {
    let batch = tokio::time::timeout(Duration::from_secs(30), batches.recv()).await.unwrap().unwrap();
    batch.samples.into_iter().map(|sample| (sample.point.to_string(), sample.outcome)).collect()
}

#[tokio::test]
async fn a_node_that_appears_later_is_found() {
    let (pki, server_pki) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (handle, port) = server(server_pki.path()).await;
    let points = ["late", "never"].map(|name| point(name, &format!("nsu={NAMESPACE};s={name}"), Encoding::Auto));
    let mut device = device(points.to_vec());
    device.endpoint = Endpoint::parse(&format!("opc.tcp://127.0.0.1:{port}")).unwrap();
    device.security.policy = OpcUaPolicy::None;
    let settings = Settings {
        pki: pki.path().to_owned(),
        application_name: "test".into(),
        application_uri: "urn:test".into(),
        trust_any: false,
    };
    let (sink, mut batches) = mpsc::channel(10);
    let (status, _listener) = StatusReporter::new("late");
    let stop = CancellationToken::new();
    let context =
        LinkContext { sink, status, clock: Arc::new(SystemClock::default()), stop: stop.clone(), history: None };
    let running = tokio::spawn(link(vec![device], settings).unwrap().run(context));

    let missing = |name: &str| (name.to_owned(), Err(NoValue::NoSuchAddress));
    let mut told = next(&mut batches).await;
    told.sort_by(|a, b| a.0.cmp(&b.0));
    assert_eq!(told, [missing("late"), missing("never")]);
    // Looked for at least twice in vain, and told only once.
    assert!(tokio::time::timeout(Duration::from_millis(700), batches.recv()).await.is_err());
    add(&handle, "late");
    assert_eq!(next(&mut batches).await, [("late".to_owned(), Ok(Value::Float(4.5)))]);

    stop.cancel();
    running.await.unwrap();
    handle.cancel();
}
