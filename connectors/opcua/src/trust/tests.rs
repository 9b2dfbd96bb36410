use super::*;
use opcua::types::ApplicationDescription;

fn settings(pki: &Path) -> Settings {
    Settings {
        pki: pki.to_owned(),
        application_name: "Tally/test, agent".into(),
        application_uri: "urn:tallystick:test".into(),
        trust_any: false,
    }
}

fn endpoint_of(pki: &Path, uri: &str) -> EndpointDescription {
    let certificate = CertificateStore::read_cert(&pki.join(OWN_CERTIFICATE)).unwrap();
    EndpointDescription {
        server: ApplicationDescription { application_uri: uri.into(), ..Default::default() },
        server_certificate: certificate.as_byte_string(),
        ..Default::default()
    }
}

#[test]
fn our_certificate_is_made_once_and_its_key_is_private() {
    let directory = tempfile::tempdir().unwrap();
    let settings = settings(directory.path());
    ensure_own(&settings).unwrap();
    let read = |name| fs::read(directory.path().join(name)).unwrap();
    let (certificate, key) = (read(OWN_CERTIFICATE), read(OWN_KEY));
    ensure_own(&settings).unwrap();
    assert_eq!((read(OWN_CERTIFICATE), read(OWN_KEY)), (certificate, key));
    assert!(CertificateStore::read_pkey(&directory.path().join(OWN_KEY)).is_ok());
    assert!(!directory.path().join("own/.new").exists());
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = fs::metadata(directory.path().join(OWN_KEY)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
    #[cfg(unix)]
    {
        let mode = |mode| std::os::unix::fs::PermissionsExt::from_mode(mode);
        fs::set_permissions(directory.path().join(OWN_KEY), mode(0o644)).unwrap();
        let fault = ensure_own(&settings).unwrap_err().to_string();
        assert!(fault.contains("private.pem") && fault.contains("mode 0644") && fault.contains("chmod 600"), "{fault}");
    }
    fs::remove_file(directory.path().join(OWN_KEY)).unwrap();
    let fault = ensure_own(&settings).unwrap_err().to_string();
    assert!(fault.contains("private.pem") && fault.contains("restore"), "{fault}");
}

#[test]
fn a_server_is_trusted_when_the_operator_says_so() {
    let directory = tempfile::tempdir().unwrap();
    let settings = settings(directory.path());
    ensure_own(&settings).unwrap();
    // Our own certificate plays the server's.
    let endpoint = endpoint_of(directory.path(), "urn:tallystick:test");
    let LinkFault::Untrusted(text) = judge(&settings, &endpoint).unwrap_err() else { panic!("not untrusted") };
    let rejected = fs::read_dir(directory.path().join("rejected")).unwrap().next().unwrap().unwrap().path();
    assert!(text.contains(rejected.to_str().unwrap()), "{text}");
    // Copied, not moved, and under another name: the operator's will counts, not the file name.
    fs::copy(&rejected, directory.path().join("trusted/cnc.der")).unwrap();
    judge(&settings, &endpoint).unwrap();
    assert!(!rejected.exists());
}

/// A server's certificate signed by `authority`, valid for a year around now, unless `year` says another.
fn issued(authority: &rcgen::Issuer<'_, rcgen::KeyPair>, serial: u8, year: Option<i32>) -> EndpointDescription {
    let mut params = rcgen::CertificateParams::new(Vec::<String>::new()).unwrap();
    params.distinguished_name.push(rcgen::DnType::CommonName, format!("PLC {serial}"));
    params.subject_alt_names.push(rcgen::SanType::URI("urn:plc".try_into().unwrap()));
    params.extended_key_usages.push(rcgen::ExtendedKeyUsagePurpose::ServerAuth);
    params.serial_number = Some(vec![serial].into());
    if let Some(year) = year {
        (params.not_before, params.not_after) = (rcgen::date_time_ymd(year, 1, 1), rcgen::date_time_ymd(year, 12, 31));
    }
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, authority).unwrap();
    EndpointDescription {
        server: ApplicationDescription { application_uri: "urn:plc".into(), ..Default::default() },
        server_certificate: certificate.der().as_ref().into(),
        ..Default::default()
    }
}

fn authority(name: &str) -> (rcgen::Certificate, rcgen::Issuer<'static, rcgen::KeyPair>) {
    let mut params = rcgen::CertificateParams::new(Vec::<String>::new()).unwrap();
    params.distinguished_name.push(rcgen::DnType::CommonName, name);
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign, rcgen::KeyUsagePurpose::CrlSign];
    let key = rcgen::KeyPair::generate().unwrap();
    (params.self_signed(&key).unwrap(), rcgen::Issuer::new(params, key))
}

fn refusal(settings: &Settings, endpoint: &EndpointDescription) -> String {
    let LinkFault::Untrusted(text) = judge(settings, endpoint).unwrap_err() else { panic!("not untrusted") };
    text
}

#[test]
fn an_authority_vouches_for_its_servers_for_as_long_as_it_is_there() {
    let directory = tempfile::tempdir().unwrap();
    let settings = settings(directory.path());
    ensure_own(&settings).unwrap();
    let (certificate, plant) = authority("Plant CA");
    let (server, stranger) = (issued(&plant, 1, None), issued(&authority("Plant CA").1, 2, None));
    assert!(!refusal(&settings, &server).contains("authority"));
    let file = directory.path().join("issuers/plant.der");
    fs::write(&file, certificate.der()).unwrap();
    judge(&settings, &server).unwrap();
    assert!(
        refusal(&settings, &stranger).contains("signed it") || refusal(&settings, &stranger).contains("does not count")
    );
    let trusted = || fs::read_dir(directory.path().join("trusted")).unwrap().count();
    assert_eq!(trusted(), 1, "the library finds it there");
    // The authority is taken away: its servers go, too, unless the operator has put one there himself.
    fs::remove_file(&file).unwrap();
    refusal(&settings, &server);
    assert_eq!(trusted(), 0);
    fs::write(directory.path().join("trusted/mine.der"), server.server_certificate.as_ref()).unwrap();
    judge(&settings, &server).unwrap();
}

#[test]
fn what_is_revoked_withdrawn_or_out_of_date_is_not_vouched_for() {
    let directory = tempfile::tempdir().unwrap();
    let settings = settings(directory.path());
    ensure_own(&settings).unwrap();
    let (certificate, plant) = authority("Plant CA");
    fs::write(directory.path().join("issuers/plant.pem"), certificate.pem()).unwrap();
    for year in [2001, 2101] {
        assert!(refusal(&settings, &issued(&plant, 3, Some(year))).contains("does not count"), "{year}");
    }
    let (one, other) = (issued(&plant, 4, None), issued(&plant, 5, None));
    judge(&settings, &one).unwrap();
    judge(&settings, &other).unwrap();
    let list = rcgen::CertificateRevocationListParams {
        this_update: rcgen::date_time_ymd(2020, 1, 1),
        next_update: rcgen::date_time_ymd(2020, 2, 1),
        crl_number: vec![1].into(),
        issuing_distribution_point: None,
        revoked_certs: vec![rcgen::RevokedCertParams {
            serial_number: vec![4].into(),
            revocation_time: rcgen::date_time_ymd(2020, 1, 1),
            reason_code: None,
            invalidity_date: None,
        }],
        key_identifier_method: rcgen::KeyIdMethod::Sha256,
    };
    fs::write(directory.path().join("issuers/plant.crl"), list.signed_by(&plant).unwrap().pem().unwrap()).unwrap();
    assert!(refusal(&settings, &one).contains("Revoked"), "{}", refusal(&settings, &one));
    judge(&settings, &other).unwrap();
    // The operator's own word stands above the authority's.
    let thumbprint = X509::from_byte_string(&other.server_certificate).unwrap().thumbprint().as_hex_string();
    crate::reject(directory.path(), &thumbprint).unwrap();
    assert!(refusal(&settings, &other).contains("took it back"));
    crate::approve(directory.path(), &thumbprint).unwrap();
    judge(&settings, &other).unwrap();
}

#[test]
fn another_application_uri_is_never_trusted() {
    let directory = tempfile::tempdir().unwrap();
    let mut settings = settings(directory.path());
    ensure_own(&settings).unwrap();
    settings.trust_any = true;
    let fault = judge(&settings, &endpoint_of(directory.path(), "urn:somebody:else")).unwrap_err();
    assert!(matches!(fault, LinkFault::Untrusted(_)), "{fault}");
    assert!(judge(&settings, &endpoint_of(directory.path(), "urn:tallystick:test")).is_ok());
    assert!(matches!(judge(&settings, &EndpointDescription::default()), Err(LinkFault::Nonsense(_))));
}

#[test]
fn rejected_certificates_do_not_fill_the_disk() {
    let directory = tempfile::tempdir().unwrap();
    let settings = settings(directory.path());
    ensure_own(&settings).unwrap();
    for n in 0..REJECTED_FILES_MAX {
        fs::write(directory.path().join(format!("rejected/{n}.der")), b"x").unwrap();
    }
    let fault = judge(&settings, &endpoint_of(directory.path(), "urn:tallystick:test")).unwrap_err().to_string();
    assert!(fault.contains("sort them first"), "{fault}");
    assert_eq!(fs::read_dir(directory.path().join("rejected")).unwrap().count(), REJECTED_FILES_MAX);
}
