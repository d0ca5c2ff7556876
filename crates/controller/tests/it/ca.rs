//! The CA of the program itself: its key sealed by a passphrase, a CA that was given.

use std::path::Path;
use std::process::{Command, Output};

const PROGRAM: &str = env!("CARGO_BIN_EXE_muster-controller");

struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let place = Self { folder: tempfile::tempdir().unwrap() };
        place.write("first", "correct horse battery\n");
        place.write("second", "another horse battery\n");
        place
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    fn run_with(&self, arguments: &[&str], variables: &[(&str, &str)]) -> Output {
        let mut command = Command::new(PROGRAM);
        command.args(arguments).args(["--state-directory", &self.path("state")]);
        command.envs(variables.iter().copied()).env_remove("CREDENTIALS_DIRECTORY");
        for (name, value) in variables {
            command.env(name, value);
        }
        command.output().unwrap()
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.run_with(arguments, &[])
    }

    fn key(&self) -> String {
        std::fs::read_to_string(self.path("state/ca/ca.key")).unwrap()
    }
}

fn told(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn admin_cert<'a>(out: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    [&["admin-cert", "--out", out], more].concat()
}

#[test]
fn a_sealed_key_opens_with_its_passphrase_only_and_is_resealed_in_place() {
    let place = Place::new();
    let (first, second) = (place.path("first"), place.path("second"));
    let made = place.run(&["init", "--ca-passphrase-file", &first]);
    assert!(made.status.success(), "{}", told(&made));
    assert!(place.key().starts_with("-----BEGIN MUSTER SEALED KEY-----") && !place.key().contains("PRIVATE"));

    let refused = place.run(&["run"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(told(&refused).contains("caPassphraseFile") && told(&refused).contains("muster-ca-passphrase"), "{}", told(&refused));
    let wrong = place.run(&admin_cert(&place.path("a.yaml"), &["--ca-passphrase-file", &second]));
    assert!(!wrong.status.success() && told(&wrong).contains("HINT"), "{}", told(&wrong));
    assert!(!told(&wrong).contains("horse"), "a passphrase is never shown");

    let opened = place.run(&admin_cert(&place.path("a.yaml"), &["--ca-passphrase-file", &first]));
    assert!(opened.status.success(), "{}", told(&opened));
    // As systemd hands it over.
    std::fs::create_dir(place.path("credentials")).unwrap();
    std::fs::copy(&first, place.path("credentials/muster-ca-passphrase")).unwrap();
    let opened = place.run_with(&admin_cert(&place.path("b.yaml"), &[]), &[("CREDENTIALS_DIRECTORY", &place.path("credentials"))]);
    assert!(opened.status.success(), "{}", told(&opened));

    // Killed before the new one is in its place, the old one is whole.
    let before = place.key();
    let encrypt = ["ca", "encrypt", "--ca-passphrase-file", &first, "--new-passphrase-file", &second];
    let killed = place.run_with(&encrypt, &[("MUSTER_FAILPOINTS", "controller.ca.reseal=kill")]);
    assert!(!killed.status.success(), "{}", told(&killed));
    assert_eq!(place.key(), before);
    for _ in 0..2 {
        // Told twice, it finds that it is done.
        let done = place.run(&encrypt);
        assert!(done.status.success(), "{}", told(&done));
    }
    assert!(!place.run(&admin_cert(&place.path("c.yaml"), &["--ca-passphrase-file", &first])).status.success());
    let opened = place.run(&admin_cert(&place.path("c.yaml"), &["--ca-passphrase-file", &second]));
    assert!(opened.status.success(), "{}", told(&opened));
}

#[test]
fn a_plain_key_is_sealed_in_place_and_a_killed_init_is_gone_on_with() {
    let place = Place::new();
    let killed = place.run_with(&["init"], &[("MUSTER_FAILPOINTS", "controller.ca.key_written=kill")]);
    assert!(!killed.status.success() && !Path::new(&place.path("state/ca/ca.pem")).exists(), "{}", told(&killed));
    let made = place.run(&["init"]);
    assert!(made.status.success(), "{}", told(&made));
    assert!(place.key().contains("PRIVATE KEY"));
    let sealed = place.run(&["ca", "encrypt", "--new-passphrase-file", &place.path("first")]);
    assert!(sealed.status.success(), "{}", told(&sealed));
    assert!(!place.key().contains("PRIVATE"));
    place.write("short", "horse");
    let short = place.run(&["ca", "encrypt", "--ca-passphrase-file", &place.path("first"), "--new-passphrase-file", &place.path("short")]);
    assert!(!short.status.success() && told(&short).contains("12 bytes"), "{}", told(&short));
}

#[test]
fn a_given_intermediate_serves_and_openssl_is_content_with_the_root_alone() {
    let place = Place::new();
    let script = "
        set -e
        openssl ecparam -name prime256v1 -genkey -noout -out root.ec
        openssl req -x509 -new -key root.ec -subj '/CN=Company Root' -days 3650 -out root.pem
        openssl ecparam -name prime256v1 -genkey -noout -out ca.ec
        openssl pkcs8 -topk8 -nocrypt -in ca.ec -out ca.key && chmod 600 ca.key
        openssl req -new -key ca.key -subj '/CN=Company Muster CA' -out ca.csr
        printf 'basicConstraints=critical,CA:TRUE,pathlen:0\\nkeyUsage=critical,keyCertSign,cRLSign\\nsubjectAltName=URI:spiffe://muster\\n' > ext
        openssl x509 -req -in ca.csr -CA root.pem -CAkey root.ec -CAcreateserial -days 1000 -extfile ext -out ca.pem
        cat ca.pem root.pem > chain.pem";
    let made = Command::new("bash").args(["-c", script]).current_dir(place.folder.path()).output().unwrap();
    assert!(made.status.success(), "{}", told(&made));
    let chain = place.path("chain.pem");
    let ec = place.run(&["init", "--ca-certificate", &chain, "--ca-key", &place.path("ca.ec")]);
    assert!(!ec.status.success(), "{}", told(&ec));
    let rootless = place.run(&["init", "--ca-certificate", &place.path("ca.pem"), "--ca-key", &place.path("ca.key")]);
    assert!(!rootless.status.success() && told(&rootless).contains("append the root"), "{}", told(&rootless));
    let init = ["init", "--ca-certificate", &chain, "--ca-key", &place.path("ca.key"), "--ca-passphrase-file", &place.path("first")];
    let done = place.run(&init);
    assert!(done.status.success(), "{}", told(&done));
    assert!(!place.key().contains("PRIVATE"), "the copy is sealed");
    let again = place.run(&init);
    assert!(!again.status.success() && told(&again).contains("has a CA already"), "{}", told(&again));
    let verify =
        ["verify", "-CAfile", &place.path("root.pem"), "-purpose", "sslserver", "-untrusted", &place.path("state/identity/cert.pem")];
    let verified = Command::new("openssl").args(verify).arg(place.path("state/identity/cert.pem")).output().unwrap();
    assert!(verified.status.success(), "{}", told(&verified));
}
