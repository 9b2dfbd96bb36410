//! Files with keys and passwords that a mapping names: what others may read is refused before anything runs.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::os::unix::fs::PermissionsExt;
use tally_mappings::load;

#[test]
fn what_others_may_read_is_refused_with_its_file_and_mode() {
    let folder = tempfile::tempdir().unwrap();
    let (plant, secret) = (folder.path().join("plant.yaml"), folder.path().join("secret"));
    std::fs::write(folder.path().join("own.pem"), "a certificate").unwrap();
    std::fs::write(&secret, "hunter2\n").unwrap();
    let tls = "{ca: own.pem, certificate: own.pem, key: secret}";
    let point = "{id: load, at: \"ns=2;s=L\", unit: kW}";
    for (connect, security, point, key) in [
        ("opc.tcp://cnc", "{user: op, password: file:secret}", point, "security.password"),
        ("opc.tcp://cnc", "{user_certificate: own.pem, user_key: secret}", point, "security.user_key"),
        ("modbus+tls://cnc", tls, "{id: load, at: \"holding:1\", type: u16, unit: \"1\"}", "security.key"),
        ("mqtts://cnc", tls, "{id: load, at: \"a/b\", unit: \"1\"}", "security.key"),
    ] {
        let text = format!(
            "plant: x\ndevices:\n  - id: cnc\n    connect: {connect}\n    security: {security}\n    points: [{point}]\n"
        );
        std::fs::write(&plant, text).unwrap();
        let loaded = |mode: u32| {
            std::fs::set_permissions(&secret, PermissionsExt::from_mode(mode)).unwrap();
            load(&plant, &|_| None)
        };
        for mode in [0o640, 0o604, 0o660] {
            let faults = loaded(mode).expect_err("others may read it");
            assert_eq!(faults.iter().count(), 1, "{faults}");
            let fault = faults.iter().next().unwrap();
            assert_eq!((fault.line, fault.key.as_str()), (5, format!("devices[0].{key}").as_str()), "{faults}");
            let shown = secret.display();
            assert_eq!(fault.found.clone().unwrap(), format!("`{shown}`, mode {mode:04o}"));
            assert_eq!(fault.hint.clone().unwrap(), format!("`chmod 600 {shown}`"));
            assert!(!faults.to_string().contains("hunter2"), "{faults}");
        }
        let plant = loaded(0o600).unwrap_or_else(|faults| panic!("{connect}: {faults}"));
        let password = plant.devices[0].security.password.as_ref().map(tally_model::Secret::reveal);
        assert_eq!(password, security.contains("password").then_some("hunter2"), "{connect}");
    }
}
