//! What comes from outside is refused or understood, and never ends the process.

use base64::Engine;
use muster_identity::certificate::{self, PeerCertificate, Serial};
use muster_identity::csr::Csr;
use muster_identity::endpoint::Endpoint;
use muster_identity::identity::{Identity, TrustDomain};
use muster_identity::key::KeyPair;
use muster_identity::token::{JoinSecret, JoinToken};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::world::Ca;

fn pem(label: &str, der: &[u8]) -> String {
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", base64::engine::general_purpose::STANDARD.encode(der))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn any_text_is_refused_or_read(text in "\\PC{0,200}") {
        let _ = text.parse::<Serial>();
        let _ = text.parse::<TrustDomain>();
        let _ = Identity::from_uri(&text, &TrustDomain::default());
        let _ = Csr::parse(&text);
        prop_assert!(KeyPair::from_pem(&text, "test").is_err());
        prop_assert!(text.parse::<JoinToken>().is_err());
        if let Ok(endpoint) = text.parse::<Endpoint>() {
            prop_assert_eq!(endpoint.to_string().parse::<Endpoint>().unwrap(), endpoint);
        }
    }

    #[test]
    fn any_bytes_are_refused_as_requests_certificates_and_tokens(bytes in vec(any::<u8>(), 0..400)) {
        prop_assert!(Csr::parse(&pem("CERTIFICATE REQUEST", &bytes)).is_err());
        prop_assert!(PeerCertificate::from_der(&bytes, &TrustDomain::default()).is_err());
        prop_assert!(certificate::trust_domain_of(&bytes).is_err());
        let token = format!("muster1.{}", base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(&bytes));
        prop_assert!(token.parse::<JoinToken>().is_err());
    }

    #[test]
    fn tokens_are_read_back(hosts in vec("[a-z][a-z0-9]{0,20}(\\.[a-z][a-z0-9]{0,10}){0,2}", 1..5), port in 1_u16.., ca in any::<[u8; 32]>()) {
        let endpoints: Vec<Endpoint> = hosts.into_iter().map(|host| Endpoint { host, port }).collect();
        let secret = JoinSecret::generate();
        let token = JoinToken { endpoints, authority: muster_identity::fingerprint::Fingerprint::of(&ca), secret };
        let read: JoinToken = token.reveal().parse().unwrap();
        prop_assert_eq!(read.endpoints, token.endpoints);
        prop_assert_eq!(read.secret.reveal(), token.secret.reveal());
    }
}

#[test]
fn a_certificate_with_any_byte_changed_is_refused_or_read_and_never_ends_the_process() {
    let ca = Ca::new();
    let leaf = ca.agent("db1").chain()[0].to_vec();
    for at in 0..leaf.len() {
        for flip in [0x01, 0x80, 0xff] {
            let mut changed = leaf.clone();
            changed[at] ^= flip;
            let _ = PeerCertificate::from_der(&changed, &TrustDomain::default());
            let _ = certificate::not_after_of(&changed);
            let _ = certificate::trust_domain_of(&changed);
            let _ = Csr::parse(&pem("CERTIFICATE REQUEST", &changed));
        }
    }
}
