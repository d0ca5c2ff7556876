//! Who can open what: agents, the recovery passphrase, nobody else.

use muster_common::id::ComponentId;
use muster_repository::error::{Error, KeyError};
use muster_repository::keys::KdfCost;
use muster_repository::location::Location;
use muster_repository::repository::Repository;
use muster_repository::secret::{AgentSecret, Secret};
use tempfile::TempDir;

use crate::support::{COMPONENT, PAGES, World, agent, files, passphrase, recipient, rows};

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_passphrase_is_told_as_what_it_is() {
    let world = World::new().await;
    let wrong = Secret::new("correct hors");
    for outcome in [
        world.repository.check_passphrase(&wrong).await.unwrap_err(),
        world.repository.grant(COMPONENT, &[], &wrong).await.unwrap_err(),
        world.repository.unlock_with_passphrase(COMPONENT, &wrong).await.unwrap_err(),
        Repository::open_with_passphrase(&world.location, &wrong).await.unwrap_err(),
    ] {
        assert!(matches!(outcome, Error::Key(KeyError::WrongPassphrase)), "{outcome:?}");
        assert!(!outcome.fault().hint.is_empty());
    }
    assert!(!format!("{wrong:?}{:?}", world.keys).contains("correct"));
}

#[tokio::test(flavor = "multi_thread")]
async fn with_all_agents_and_the_pin_gone_the_passphrase_opens_everything() {
    let world = World::new().await;
    let all = files([("a", PAGES, rows(1, 1_000_000))]);
    world.back_up(1, &all).await.unwrap();
    let found = Repository::open_with_passphrase(&world.location, &passphrase()).await.unwrap();
    assert_eq!(*found.pin(), world.pin);
    assert_eq!(found.granted().await.unwrap(), (vec![COMPONENT], vec![]));
    let keys = found.unlock_with_passphrase(COMPONENT, &passphrase()).await.unwrap();
    World { keys, ..world }.assert_restores(1, &all).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_opens_what_it_was_granted_and_nothing_else() {
    let world = World::new().await;
    let (other_agent, other_component) = (AgentSecret::generate([5; 32]), ComponentId::from_bytes([8; 16]));
    for (component, secret) in [(COMPONENT, &other_agent), (other_component, &agent())] {
        let refused = world.repository.unlock(component, secret).await.unwrap_err();
        assert!(matches!(refused, Error::Key(KeyError::NotGranted { .. })), "{refused:?}");
    }
    // A later grant adds the second agent to the same key: what the first wrote, the second reads.
    let all = files([("a", PAGES, rows(1, 1_000_000))]);
    world.back_up(1, &all).await.unwrap();
    let first = world.repository.grant(COMPONENT, &[recipient("one", &agent())], &passphrase()).await.unwrap();
    let objects = world.objects("keys").len();
    let both = [recipient("one", &agent()), recipient("two", &other_agent)];
    let second = world.repository.grant(COMPONENT, &both, &passphrase()).await.unwrap();
    assert_eq!(first, second);
    assert_eq!(world.objects("keys").len(), objects + 1);
    world.repository.grant(COMPONENT, &both, &passphrase()).await.unwrap();
    assert_eq!(world.objects("keys").len(), objects + 1, "granting again what was granted writes nothing");
    let keys = world.repository.unlock(COMPONENT, &other_agent).await.unwrap();
    World { keys, ..world }.assert_restores(1, &all).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_generation_that_was_seen_never_goes_back() {
    let world = World::new().await;
    assert_eq!(world.repository.unlock_from(COMPONENT, &agent(), 1).await.unwrap().generation(), 1);
    let back = world.repository.unlock_from(COMPONENT, &agent(), 2).await.unwrap_err();
    assert!(matches!(back, Error::Key(KeyError::WentBack { found: 1, expected: 2, .. })), "{back:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_place_is_initialised_once_and_told_when_it_holds_nothing() {
    let world = World::new().await;
    let again = Repository::init(&world.location, &passphrase(), KdfCost::WEAK).await;
    assert!(matches!(again, Err(Error::RepositoryExists { .. })), "{again:?}");
    let empty = TempDir::new().unwrap();
    for path in [empty.path().to_owned(), empty.path().join("nothing/here")] {
        let nothing = Repository::open(&Location::Folder { path }, world.pin).await;
        assert!(matches!(nothing, Err(Error::NoRepository { .. })), "{nothing:?}");
    }
    let other = World::new().await;
    let swapped = Repository::open(&other.location, world.pin).await;
    assert!(matches!(swapped, Err(Error::OtherRepository { .. })), "{swapped:?}");
    assert!(Repository::init(&Location::Folder { path: empty.path().join("made") }, &passphrase(), KdfCost::WEAK).await.is_ok());
    let beyond = KdfCost { memory_kib: 2 << 20, passes: 1, lanes: 1 };
    let beyond = Repository::init(&Location::Folder { path: empty.path().join("x") }, &passphrase(), beyond).await;
    assert!(matches!(beyond, Err(Error::Invalid(_))), "{beyond:?}");
}
