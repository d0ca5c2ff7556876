//! What the CA signs, read back from the bytes.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use muster_common::time::Timestamp;
use muster_identity::authority::{self, AGENT_LIFE, Authority, AuthorityError};
use muster_identity::certificate::{PeerCertificate, Serial, chain_from_pem, trust_domain_of};
use muster_identity::context::{ContextError, Contexts, OperatorContext};
use muster_identity::credentials::{CredentialFolder, Credentials, CredentialsError};
use muster_identity::csr::Csr;
use muster_identity::identity::{Identity, TrustDomain};
use muster_identity::key::KeyPair;
use muster_identity::receipt::{self, ReceiptError};
use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, KeyUsagePurpose, SanType};
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::world::{Ca, ago, ahead, name, now};

const DAY: Duration = Duration::from_secs(86_400);

/// The extensions of a leaf, each as one word, sorted.
fn shape(der: &[u8]) -> Vec<String> {
    let (_, certificate) = X509Certificate::from_der(der).unwrap();
    let mut words: Vec<String> = certificate
        .extensions()
        .iter()
        .flat_map(|extension| match extension.parsed_extension() {
            ParsedExtension::SubjectAlternativeName(names) => names.general_names.iter().map(general_name).collect(),
            ParsedExtension::ExtendedKeyUsage(usage) => vec![format!(
                "usage client={} server={} any={} other={}",
                usage.client_auth,
                usage.server_auth,
                usage.any,
                usage.code_signing || usage.email_protection || usage.time_stamping || usage.ocsp_signing || !usage.other.is_empty()
            )],
            ParsedExtension::BasicConstraints(basic) => vec![format!("ca={} pathlen={:?}", basic.ca, basic.path_len_constraint)],
            ParsedExtension::KeyUsage(usage) => vec![format!("key: {usage}")],
            ParsedExtension::AuthorityKeyIdentifier(_) => vec!["issuer key".to_owned()],
            ParsedExtension::SubjectKeyIdentifier(_) => vec!["subject key".to_owned()],
            other => vec![format!("unexpected {other:?}")],
        })
        .collect();
    words.sort();
    words
}

fn general_name(name: &GeneralName<'_>) -> String {
    match name {
        GeneralName::URI(uri) => format!("uri {uri}"),
        GeneralName::DNSName(dns) => format!("dns {dns}"),
        GeneralName::IPAddress(bytes) => format!("ip {bytes:?}"),
        other => format!("unexpected {other:?}"),
    }
}

fn common_names(der: &[u8]) -> (String, String) {
    let (_, certificate) = X509Certificate::from_der(der).unwrap();
    (certificate.subject().to_string(), certificate.issuer().to_string())
}

#[test]
fn nothing_of_a_request_but_its_key_is_believed() {
    let ca = Ca::new();
    let key = KeyPair::generate().unwrap();
    let mut greedy = CertificateParams::default();
    greedy.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    greedy.not_after = rcgen::date_time_ymd(4096, 1, 1);
    greedy.subject_alt_names = vec![
        SanType::URI("spiffe://muster/operator/admin".try_into().unwrap()),
        SanType::URI("spiffe://muster/agent/ankara/other".try_into().unwrap()),
        SanType::DnsName("controller.example.org".try_into().unwrap()),
    ];
    greedy.extended_key_usages = vec![ExtendedKeyUsagePurpose::Any, ExtendedKeyUsagePurpose::CodeSigning];
    greedy.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let signer = rcgen::KeyPair::from_pem(&key.to_pem()).unwrap();
    let csr = Csr::parse(&greedy.serialize_request(&signer).unwrap().pem().unwrap()).unwrap();

    let issued = ca.authority.issue_agent(&csr, &name("istanbul"), &name("db1"), now(), AGENT_LIFE).unwrap();
    let chain = chain_from_pem(&issued.pem).unwrap();
    assert_eq!(chain.len(), 1);
    assert_eq!(
        shape(&chain[0]),
        [
            "ca=false pathlen=None",
            "issuer key",
            "key: Digital Signature",
            "subject key",
            "uri spiffe://muster/agent/istanbul/db1",
            "usage client=true server=true any=false other=false",
        ]
    );
    let read = PeerCertificate::from_der(&chain[0], ca.authority.trust_domain()).unwrap();
    assert_eq!(read.identity, Identity::Agent { site: name("istanbul"), agent: name("db1") });
    assert_eq!(read.key_fingerprint, key.fingerprint());
    assert!(read.not_after < ahead(31 * DAY), "the year 4096 was not believed");
}

#[test]
fn each_kind_of_certificate_has_its_usages_and_nothing_more() {
    let ca = Ca::new();
    let operator = ca.operator("ayse");
    assert!(shape(&operator.chain()[0]).contains(&"usage client=true server=false any=false other=false".to_owned()));
    let controller = ca.controller();
    let words = shape(&controller.chain()[0]);
    for word in [
        "usage client=false server=true any=false other=false",
        "dns localhost",
        "ip [127, 0, 0, 1]",
        "uri spiffe://muster/controller",
        "ca=false pathlen=None",
    ] {
        assert!(words.contains(&word.to_owned()), "{word} in {words:?}");
    }
    assert_eq!(controller.chain()[1], *ca.authority.certificate(), "the controller's chain includes the CA");
    assert!(shape(ca.authority.certificate()).contains(&"ca=true pathlen=Some(0)".to_owned()));
    assert_eq!(trust_domain_of(ca.authority.certificate()).unwrap(), TrustDomain::default());
}

#[test]
fn a_ca_and_its_leaves_never_share_a_common_name() {
    let ca = Ca::new();
    let (ca_name, _) = common_names(ca.authority.certificate());
    for credentials in [ca.controller(), ca.operator("muster-ca"), ca.agent("muster")] {
        let (subject, issuer) = common_names(&credentials.chain()[0]);
        assert_eq!(issuer, ca_name);
        assert_ne!(subject, issuer);
    }
}

#[test]
fn serial_numbers_are_sixteen_positive_bytes_and_differ() {
    let ca = Ca::new();
    let mut seen = std::collections::BTreeSet::<Serial>::new();
    for _ in 0..50 {
        let credentials = ca.operator("ayse");
        let (_, certificate) = X509Certificate::from_der(&credentials.chain()[0]).unwrap();
        assert_eq!(certificate.raw_serial().len(), 16, "{:?}", certificate.raw_serial());
        assert!(certificate.raw_serial()[0] < 0x80);
        assert_eq!(credentials.own().serial.as_str().len(), 32);
        assert!(seen.insert(credentials.own().serial.clone()));
    }
}

#[test]
fn certificates_begin_five_minutes_ago_and_are_due_when_a_third_has_passed() {
    let ca = Ca::new();
    let issued_at = now();
    let agent = ca.agent("db1");
    let own = agent.own();
    let begins = issued_at.since(own.not_before);
    assert!(begins >= Duration::from_secs(7_200) && begins < Duration::from_secs(7_210), "{begins:?}");
    assert_eq!(own.not_after.since(own.not_before).as_secs() / 60, 30 * 24 * 60 + 120);
    assert!(!agent.are_due(issued_at.plus(10 * DAY - Duration::from_secs(60))));
    assert!(agent.are_due(issued_at.plus(10 * DAY + Duration::from_secs(60))));
}

#[test]
fn nothing_outlives_its_ca_and_an_ended_ca_signs_nothing() {
    let ca = Ca::new();
    let end = now().plus(authority::AUTHORITY_LIFE);
    let late = Timestamp(end.0 - 86_400_000_000);
    let short = ca.credentials(|ca, csr| ca.issue_operator(csr, &name("ayse"), late, 90 * DAY).unwrap());
    assert!(short.own().not_after <= end);
    let csr = Csr::parse(&Csr::request(&KeyPair::generate().unwrap()).unwrap()).unwrap();
    let refused = ca.authority.issue_operator(&csr, &name("ayse"), end.plus(DAY), DAY);
    assert!(matches!(refused, Err(AuthorityError::Expired(_))));
}

#[test]
fn a_ca_is_made_once_kept_private_and_read_back() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("ca");
    let domain: TrustDomain = "example.org".parse().unwrap();
    let made = Authority::create(&place, &domain, now()).unwrap();
    let mode = |path: &str| std::fs::metadata(place.join(path)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("ca.key"), mode("ca.pem"), mode("")), (0o600, 0o644, 0o700));
    let read = Authority::load(&place).unwrap();
    assert_eq!(read.fingerprint(), made.fingerprint());
    assert_eq!(read.trust_domain(), &domain);
    assert!(matches!(Authority::create(&place, &domain, now()), Err(AuthorityError::Exists(_))));
    assert_eq!(Authority::load(&place).unwrap().fingerprint(), made.fingerprint());
    assert!(!format!("{made:?}").contains("PRIVATE"));
}

#[test]
fn an_init_that_was_killed_between_key_and_certificate_is_gone_on_with() {
    let folder = tempfile::tempdir().unwrap();
    Authority::create(folder.path(), &TrustDomain::default(), now()).unwrap();
    let key = std::fs::read(folder.path().join("ca.key")).unwrap();
    std::fs::remove_file(folder.path().join("ca.pem")).unwrap();
    assert!(Authority::load(folder.path()).is_err());
    Authority::create(folder.path(), &TrustDomain::default(), now()).unwrap();
    assert_eq!(std::fs::read(folder.path().join("ca.key")).unwrap(), key);
}

#[test]
fn a_ca_whose_key_is_anothers_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (one, other) = (folder.path().join("one"), folder.path().join("other"));
    Authority::create(&one, &TrustDomain::default(), now()).unwrap();
    Authority::create(&other, &TrustDomain::default(), now()).unwrap();
    std::fs::copy(other.join("ca.key"), one.join("ca.key")).unwrap();
    assert!(matches!(Authority::load(&one), Err(AuthorityError::Mismatch(_))));
}

#[test]
fn a_name_that_is_none_is_refused_in_the_controllers_certificate() {
    let ca = Ca::new();
    let csr = Csr::parse(&Csr::request(&KeyPair::generate().unwrap()).unwrap()).unwrap();
    for bad in ["", "a b", "https://x", "spiffe://muster/operator/admin"] {
        let refused = ca.authority.issue_controller(&csr, &[bad.to_owned()], now(), DAY);
        assert!(matches!(refused, Err(AuthorityError::BadName(_))), "{bad:?}");
    }
}

#[test]
fn an_agents_folder_keeps_its_key_over_renewals_and_refuses_what_is_not_for_it() {
    let ca = Ca::new();
    let root = tempfile::tempdir().unwrap();
    let folder = CredentialFolder::at(root.path().join("identity"));
    assert!(!folder.is_enrolled());
    let key = folder.key().unwrap();
    let sign = || {
        let csr = Csr::parse(&Csr::request(&folder.key().unwrap()).unwrap()).unwrap();
        ca.authority.issue_agent(&csr, &name("istanbul"), &name("db1"), now(), AGENT_LIFE).unwrap()
    };
    folder.store(ca.authority.pem(), &sign().pem).unwrap();
    assert!(folder.is_enrolled());
    let first = folder.load().unwrap();
    folder.renew(ca.authority.pem(), &sign().pem).unwrap();
    let second = folder.load().unwrap();
    assert_eq!(second.own().key_fingerprint, key.fingerprint());
    assert_eq!(first.own().key_fingerprint, second.own().key_fingerprint);
    assert_ne!(first.own().serial, second.own().serial);

    let csr = Csr::parse(&Csr::request(&KeyPair::generate().unwrap()).unwrap()).unwrap();
    let anothers = ca.authority.issue_agent(&csr, &name("istanbul"), &name("db2"), now(), AGENT_LIFE).unwrap();
    assert!(matches!(folder.renew(ca.authority.pem(), &anothers.pem), Err(CredentialsError::Mismatch { .. })));
    assert_eq!(folder.load().unwrap().own().serial, second.own().serial, "the good certificate stands");
}

#[test]
fn a_receipt_is_judged_as_of_its_signing() {
    let ca = Ca::at(ago(100 * DAY));
    let signed_at = ago(40 * DAY);
    let agent = ca.credentials(|ca, csr| ca.issue_agent(csr, &name("istanbul"), &name("db1"), signed_at, 30 * DAY).unwrap());
    let signature = receipt::sign(agent.key(), b"fenced at epoch 3").unwrap();
    let verify =
        |at, statement: &[u8], signature: &[u8]| receipt::verify(ca.authority.certificate(), agent.chain(), at, statement, signature);

    let signer = verify(signed_at, b"fenced at epoch 3", &signature).unwrap();
    assert_eq!(signer.identity, agent.own().identity);
    assert!(matches!(verify(now(), b"fenced at epoch 3", &signature), Err(ReceiptError::Chain(_))), "expired by now");
    assert!(matches!(verify(signed_at, b"fenced at epoch 4", &signature), Err(ReceiptError::Signature(_))));
    assert!(matches!(verify(signed_at, b"fenced at epoch 3", b""), Err(ReceiptError::Signature(_))));
    let foreign = Ca::at(ago(100 * DAY));
    let judged = receipt::verify(foreign.authority.certificate(), agent.chain(), signed_at, b"fenced at epoch 3", &signature);
    assert!(matches!(judged, Err(ReceiptError::Chain(_))));
    let controller = ca.credentials(|ca, csr| ca.issue_controller(csr, &[], signed_at, 30 * DAY).unwrap());
    let by_server = receipt::sign(controller.key(), b"x").unwrap();
    let judged = receipt::verify(ca.authority.certificate(), controller.chain(), signed_at, b"x", &by_server);
    assert!(matches!(judged, Err(ReceiptError::Chain(_))), "a certificate for servers signs no receipts");
}

fn context(ca: &Ca, called: &str) -> OperatorContext {
    let key = KeyPair::generate().unwrap();
    let csr = Csr::parse(&Csr::request(&key).unwrap()).unwrap();
    let issued = ca.authority.issue_operator(&csr, &name("ayse"), now(), DAY).unwrap();
    OperatorContext {
        name: name(called),
        endpoints: vec!["127.0.0.1:7400".parse().unwrap(), "[::1]:7400".parse().unwrap()],
        authority: ca.authority.pem().to_owned(),
        certificate: issued.pem,
        key: key.to_pem(),
    }
}

#[test]
fn contexts_are_imported_used_and_removed() {
    let ca = Ca::new();
    let root = tempfile::tempdir().unwrap();
    let handed_out = root.path().join("ayse.yaml");
    Contexts::single(context(&ca, "prod")).store(&handed_out).unwrap();
    let mine = root.path().join("config/muster/contexts.yaml");

    let mut contexts = Contexts::load(&mine).unwrap();
    assert!(matches!(contexts.find(None), Err(ContextError::NoneCurrent)));
    assert_eq!(contexts.import(Contexts::load(&handed_out).unwrap()).unwrap(), [name("prod")]);
    contexts.import(Contexts::single(context(&ca, "test"))).unwrap();
    contexts.store(&mine).unwrap();
    assert_eq!(std::fs::metadata(&mine).unwrap().permissions().mode() & 0o777, 0o600);

    let mut read = Contexts::load(&mine).unwrap();
    assert_eq!(read.find(None).unwrap().name, name("test"));
    read.use_context(&name("prod")).unwrap();
    let credentials: Credentials = read.find(None).unwrap().credentials().unwrap();
    assert_eq!(credentials.own().identity, Identity::Operator { name: name("ayse") });
    let unknown = read.find(Some(&name("prd"))).unwrap_err().to_string();
    assert!(unknown.contains("prod, test"), "{unknown}");
    read.remove(&name("prod")).unwrap();
    assert!(matches!(read.find(None), Err(ContextError::NoneCurrent)));
}

#[test]
fn an_import_replaces_the_same_operator_and_never_loses_another_ones_key() {
    let (ca, elsewhere) = (Ca::new(), Ca::new());
    let of = |ca: &Ca, operator: &str| {
        let key = KeyPair::generate().unwrap();
        let csr = Csr::parse(&Csr::request(&key).unwrap()).unwrap();
        let issued = ca.authority.issue_operator(&csr, &name(operator), now(), DAY).unwrap();
        OperatorContext { certificate: issued.pem, key: key.to_pem(), ..context(ca, "prod") }
    };
    let mut mine = Contexts::single(of(&ca, "admin"));
    let admins_key = mine.find(None).unwrap().key.clone();
    let mut import = |context: OperatorContext| mine.import(Contexts::single(context)).unwrap();
    assert_eq!(import(of(&ca, "ayse")), [name("prod-ayse")]);
    assert_eq!(import(of(&ca, "ayse")), [name("prod-ayse")], "her new certificate");
    assert_eq!(import(of(&elsewhere, "ayse")), [name("prod-ayse-2")]);
    assert_eq!(import(of(&elsewhere, "admin")), [name("prod-admin")]);
    assert_eq!(mine.find(Some(&name("prod"))).unwrap().key, admins_key);
    assert_eq!(mine.find(None).unwrap().name, name("prod-admin"));
    let mut renew = |context: OperatorContext| mine.import(Contexts::single(context)).unwrap();
    assert_eq!(renew(of(&ca, "admin")), [name("prod")]);
    assert_ne!(mine.find(None).unwrap().key, admins_key);
    assert_eq!(mine.contexts.len(), 4);
    mine.put(of(&elsewhere, "admin"));
    assert_eq!((mine.contexts.len(), &mine.find(None).unwrap().name), (4, &name("prod")));
}

#[test]
fn a_context_file_that_others_may_read_or_that_is_something_else_is_refused() {
    let ca = Ca::new();
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("contexts.yaml");
    Contexts::single(context(&ca, "prod")).store(&path).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    assert!(matches!(Contexts::load(&path), Err(ContextError::Readable { mode: 0o644, .. })));
    for (text, expected) in
        [("version: 2\ncontexts: []\n", "version 2"), ("version: 1\ncontexts: []\nx: 1\n", ":3:1"), ("[", "contexts.yaml")]
    {
        muster_service::files::write_atomically(&path, text.as_bytes(), 0o600).unwrap();
        let error = Contexts::load(&path).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    let mixed = OperatorContext { key: KeyPair::generate().unwrap().to_pem(), ..context(&ca, "prod") };
    assert!(matches!(mixed.credentials(), Err(ContextError::Credentials { .. })));
    assert!(!format!("{mixed:?}").contains("PRIVATE"));
}
