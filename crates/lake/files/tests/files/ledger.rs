//! The ledger's storage.
use lakeward_core::LedgerStore;
use lakeward_files::{Store, StoreLedger};

#[tokio::test]
async fn ledger_objects_are_created_once_and_listed_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::local(folder.path()).unwrap();
    let ledger = StoreLedger::new(store.clone(), "_lakeward/p/s");
    assert!(ledger.list().await.unwrap().is_empty());
    assert!(ledger.create("00000002", b"two".to_vec()).await.unwrap());
    assert!(ledger.create("00000001", b"one".to_vec()).await.unwrap());
    assert!(!ledger.create("00000001", b"other".to_vec()).await.unwrap());
    let other = StoreLedger::new(store, "_lakeward/p/s2");
    assert!(other.list().await.unwrap().is_empty());
    assert_eq!(ledger.list().await.unwrap(), ["00000001", "00000002"]);
    assert_eq!(ledger.read("00000001").await.unwrap(), Some(b"one".to_vec()));
    ledger.delete("00000001").await.unwrap();
    ledger.delete("00000001").await.unwrap();
    assert_eq!(ledger.read("00000001").await.unwrap(), None);
    assert_eq!(ledger.list().await.unwrap(), ["00000002"]);
}
