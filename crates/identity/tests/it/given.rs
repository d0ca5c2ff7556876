//! A CA that somebody else made: what is taken, and what is refused with which words.

use std::path::Path;
use std::time::Duration;

use muster_identity::authority::Authority;
use muster_identity::certificate::chain_from_pem;
use muster_identity::csr::Csr;
use muster_identity::given::{GivenError, judge};
use muster_identity::identity::TrustDomain;
use muster_identity::key::KeyPair;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyUsagePurpose, SanType};
use time::OffsetDateTime;

use crate::world::{name, now};

struct Company {
    root_key: rcgen::KeyPair,
    root: CertificateParams,
    root_pem: String,
}

fn params(common_name: &str, days: i64) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.not_before = OffsetDateTime::now_utc() - time::Duration::days(1);
    params.not_after = OffsetDateTime::now_utc() + time::Duration::days(days);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params
}

impl Company {
    fn new() -> Self {
        let root_key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
        let root = params("Company Root", 3_650);
        let root_pem = root.self_signed(&root_key).unwrap().pem();
        Self { root_key, root, root_pem }
    }

    /// An intermediate for `spiffe://muster`, changed, with its key.
    fn intermediate(&self, change: impl FnOnce(&mut CertificateParams)) -> (String, KeyPair) {
        let inner = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
        let mut wanted = params("Company Muster CA", 730);
        wanted.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        wanted.subject_alt_names.push(SanType::URI("spiffe://muster".try_into().unwrap()));
        change(&mut wanted);
        let pem = wanted.signed_by(&inner, &Issuer::from_params(&self.root, &self.root_key)).unwrap().pem();
        (pem, KeyPair::from_pem(&inner.serialize_pem(), "test").unwrap())
    }
}

fn judged(chain: &str, key: KeyPair) -> Result<Authority, GivenError> {
    judge(chain, key, &TrustDomain::default(), Path::new("chain.pem"), now())
}

#[test]
fn an_intermediate_is_taken_and_its_leaves_carry_it_and_not_the_root() {
    let company = Company::new();
    let (pem, key) = company.intermediate(|_| {});
    let authority = judged(&format!("{pem}{}", company.root_pem), key).unwrap();
    let csr = Csr::parse(&Csr::request(&KeyPair::generate().unwrap()).unwrap()).unwrap();
    let hour = Duration::from_secs(3_600);
    let agent = authority.issue_agent(&csr, &name("istanbul"), &name("db1"), now(), hour).unwrap();
    let chain = chain_from_pem(&agent.pem).unwrap();
    assert_eq!((chain.len(), &chain[1]), (2, authority.certificate()));
    let served = chain_from_pem(&authority.issue_controller(&csr, &[], now(), hour).unwrap().pem).unwrap();
    assert_eq!(served.len(), 3, "foreign clients and join tokens find the CA and its root");
    // Its own root is a CA that can be given as well.
    let inner = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let mut own = params("Own", 730);
    own.subject_alt_names.push(SanType::URI("spiffe://muster".try_into().unwrap()));
    let pem = own.self_signed(&inner).unwrap().pem();
    let authority = judged(&pem, KeyPair::from_pem(&inner.serialize_pem(), "test").unwrap()).unwrap();
    let agent = authority.issue_agent(&csr, &name("istanbul"), &name("db1"), now(), hour).unwrap();
    assert_eq!(chain_from_pem(&agent.pem).unwrap().len(), 1);
}

#[test]
fn what_is_not_fit_is_refused_before_anything_is_signed() {
    let company = Company::new();
    let with_root = |(pem, key): (String, KeyPair)| judged(&format!("{pem}{}", company.root_pem), key);
    let refused = |made: (String, KeyPair)| with_root(made).unwrap_err();
    assert!(matches!(refused(company.intermediate(|wanted| wanted.is_ca = IsCa::ExplicitNoCa)), GivenError::NotAuthority(1)));
    let no_signing = |wanted: &mut CertificateParams| wanted.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    assert!(matches!(refused(company.intermediate(no_signing)), GivenError::NotAuthority(1)));
    let short = |wanted: &mut CertificateParams| wanted.not_after = OffsetDateTime::now_utc() + time::Duration::days(30);
    assert!(matches!(refused(company.intermediate(short)), GivenError::Life { which: 1, days: 29 | 30 }));
    let later = |wanted: &mut CertificateParams| wanted.not_before = OffsetDateTime::now_utc() + time::Duration::days(1);
    assert!(matches!(refused(company.intermediate(later)), GivenError::Life { which: 1, days: 0 }));
    let other = |wanted: &mut CertificateParams| wanted.subject_alt_names = vec![SanType::URI("spiffe://other".try_into().unwrap())];
    assert!(matches!(refused(company.intermediate(other)), GivenError::TrustDomain { .. }));
    let unnamed = |wanted: &mut CertificateParams| wanted.subject_alt_names.clear();
    assert!(refused(company.intermediate(unnamed)).to_string().contains("subjectAltName"));
    let (pem, _) = company.intermediate(|_| {});
    let (_, foreign) = company.intermediate(|_| {});
    assert!(matches!(refused((pem.clone(), foreign)), GivenError::Authority(_)), "another key");
    let (alone, key) = company.intermediate(|_| {});
    assert!(matches!(judged(&alone, key), Err(GivenError::NoRoot)));
    let (pem, key) = company.intermediate(|_| {});
    let stranger = Company { root: params("Another Root", 3_650), ..Company::new() };
    let strange = stranger.root.self_signed(&stranger.root_key).unwrap().pem();
    assert!(matches!(judged(&format!("{pem}{strange}"), key), Err(GivenError::Order(1))));
    // The right name and another key: the signature does not fit.
    let (pem, key) = company.intermediate(|_| {});
    assert!(matches!(judged(&format!("{pem}{}", Company::new().root_pem), key), Err(GivenError::Trial { whom: "the root", .. })));
}

#[test]
fn a_root_that_allows_no_ca_below_it_is_found_by_the_trial() {
    let mut company = Company::new();
    // The CA under it may sign CAs, but the one above it may not sign a CA that signs.
    company.root.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    company.root_pem = company.root.self_signed(&company.root_key).unwrap().pem();
    let middle_key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let mut middle = params("Middle", 3_000);
    middle.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    let middle_pem = middle.signed_by(&middle_key, &Issuer::from_params(&company.root, &company.root_key)).unwrap().pem();
    let under = Company { root_key: middle_key, root: middle, root_pem: String::new() };
    let (pem, key) = under.intermediate(|_| {});
    let refused = judged(&format!("{pem}{middle_pem}{}", company.root_pem), key).unwrap_err();
    assert!(matches!(refused, GivenError::Trial { whom: "the root", .. }), "{refused}");
}
