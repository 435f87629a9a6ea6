//! The ledger against a store in memory that can lose answers.
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use async_trait::async_trait;
use lakeward_core::Intent;

use super::*;

#[derive(Default)]
struct MemoryStore {
    objects: Mutex<BTreeMap<String, Vec<u8>>>,
    /// The next so many creates are done, and their answers lost.
    lost_answers: AtomicU32,
}

#[async_trait]
impl LedgerStore for MemoryStore {
    async fn create(&self, name: &str, content: Vec<u8>) -> Result<bool> {
        let mut objects = self.objects.lock().unwrap();
        let created = !objects.contains_key(name);
        objects.entry(name.to_owned()).or_insert(content);
        let lost = |n: u32| n.checked_sub(1);
        if self.lost_answers.fetch_update(Ordering::SeqCst, Ordering::SeqCst, lost).is_ok() {
            return Err(Error::new(ErrorKind::OutcomeUnknown, "the answer was lost"));
        }
        Ok(created)
    }

    async fn read(&self, name: &str) -> Result<Option<Vec<u8>>> {
        Ok(self.objects.lock().unwrap().get(name).cloned())
    }

    async fn list(&self) -> Result<Vec<String>> {
        Ok(self.objects.lock().unwrap().keys().cloned().collect())
    }

    async fn delete(&self, name: &str) -> Result<()> {
        self.objects.lock().unwrap().remove(name);
        Ok(())
    }
}

fn entrance(writer: &str) -> Entrance {
    Entrance {
        writer: writer.into(),
        lock: writer.into(),
        predecessor_lock: None,
        take_over: true,
        commit_interval: Duration::from_millis(1),
    }
}

fn at(n: u64) -> Position {
    Position { at: n.to_be_bytes().into(), resume: n.to_be_bytes().into() }
}

async fn enter(store: &Arc<MemoryStore>, writer: &str) -> Ledger {
    Ledger::enter(store.clone(), &entrance(writer)).await.unwrap()
}

async fn begin(ledger: &mut Ledger) {
    ledger.complete(&State::default(), at(0)).await.unwrap();
}

async fn epoch(ledger: &mut Ledger) -> Result<()> {
    let epoch = ledger.state().epoch + 1;
    let after = ledger.state().position.clone();
    let intent =
        Intent { epoch, after, through: at(epoch), tables: vec![], routing: String::new() };
    ledger.intend(intent).await?;
    let mut next = ledger.state().clone();
    next.epoch = epoch;
    ledger.complete(&next, at(epoch)).await
}

#[tokio::test]
async fn a_newcomer_fences_the_older_writer() {
    let store = Arc::new(MemoryStore::default());
    let mut old = enter(&store, "old").await;
    begin(&mut old).await;
    epoch(&mut old).await.unwrap();
    let mut new = enter(&store, "new").await;
    assert_eq!(new.state().epoch, 1);
    assert_eq!(epoch(&mut old).await.unwrap_err().kind(), ErrorKind::Fenced);
    epoch(&mut new).await.unwrap();
}

#[tokio::test]
async fn a_lost_answer_is_settled_by_reading() {
    let store = Arc::new(MemoryStore::default());
    let mut ledger = enter(&store, "w").await;
    begin(&mut ledger).await;
    for lost in 0..3 {
        store.lost_answers.store(lost, Ordering::SeqCst);
        epoch(&mut ledger).await.unwrap();
    }
    store.lost_answers.store(0, Ordering::SeqCst);
    assert_eq!(read_state(store.as_ref()).await.unwrap().epoch, 3);
}

#[tokio::test]
async fn a_torn_epoch_is_seen_by_the_successor() {
    let store = Arc::new(MemoryStore::default());
    let mut ledger = enter(&store, "w").await;
    begin(&mut ledger).await;
    let intent = Intent {
        epoch: 1,
        after: Some(at(0)),
        through: at(1),
        tables: vec![],
        routing: String::new(),
    };
    ledger.intend(intent.clone()).await.unwrap();
    let next = enter(&store, "next").await;
    assert_eq!(next.state().torn, Some(intent));
    assert_eq!(next.state().position, Some(at(0)));
}

#[tokio::test]
async fn old_entries_go_and_points_stay() {
    let store = Arc::new(MemoryStore::default());
    let mut ledger = enter(&store, "w").await;
    begin(&mut ledger).await;
    for _ in 0..500 {
        epoch(&mut ledger).await.unwrap();
    }
    let left = store.objects.lock().unwrap().len() as u64;
    assert!(left <= 4 * FULL_EVERY + 4, "{left} objects are left");
    let points = read_points(store.as_ref()).await.unwrap();
    assert!(points.len() as u64 >= FULL_EVERY);
    assert_eq!(points.last().unwrap().epoch, 500);
    assert_eq!(enter(&store, "next").await.state().epoch, 500);
}

#[tokio::test]
async fn damage_names_the_object() {
    let store = Arc::new(MemoryStore::default());
    let mut ledger = enter(&store, "w").await;
    begin(&mut ledger).await;
    epoch(&mut ledger).await.unwrap();
    store.objects.lock().unwrap().insert(object(3), b"{".to_vec());
    let error = Ledger::enter(store.clone(), &entrance("x")).await.err().unwrap();
    assert_eq!((error.kind(), error.context("object")), (ErrorKind::Corrupt, Some(&*object(3))));
    store.objects.lock().unwrap().remove(&object(3));
    let error = Ledger::enter(store.clone(), &entrance("x")).await.err().unwrap();
    assert_eq!((error.kind(), error.context("object")), (ErrorKind::Corrupt, Some(&*object(3))));
}

#[tokio::test]
async fn a_newcomer_waits_for_quiet_and_refuses_a_living_writer() {
    let store = Arc::new(MemoryStore::default());
    let mut old = enter(&store, "old").await;
    begin(&mut old).await;
    let polite = Entrance { take_over: false, ..entrance("new") };
    let joining = {
        let (store, polite) = (store.clone(), polite.clone());
        tokio::spawn(async move { Ledger::enter(store, &polite).await.map(|_| ()) })
    };
    // The older writer shows that it lives while the newcomer waits.
    tokio::time::sleep(Duration::from_millis(200)).await;
    epoch(&mut old).await.unwrap();
    assert_eq!(joining.await.unwrap().unwrap_err().kind(), ErrorKind::Fenced);
    let lock = Entrance { predecessor_lock: Some("old".into()), ..polite.clone() };
    let taken = Ledger::enter(store.clone(), &lock).await.unwrap();
    assert_eq!(taken.state().epoch, 1, "who holds the dead writer's lock need not wait");
    drop(taken);
    let mut released = enter(&store, "r").await;
    released.release().await.unwrap();
    Ledger::enter(store, &polite).await.unwrap();
}
