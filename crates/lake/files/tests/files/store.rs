//! Durable objects on a local disk: created once, replaced whole, refused with a remedy.
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use lakeward_core::ErrorKind;
use lakeward_files::Store;
use object_store::memory::InMemory;

fn local() -> (tempfile::TempDir, Store) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::local(folder.path()).unwrap();
    (folder, store)
}

async fn behaves(store: &Store) {
    assert_eq!(store.get("a/b/one").await.unwrap(), None);
    assert_eq!(store.size("a/b/one").await.unwrap(), None);
    assert!(store.list("a").await.unwrap().is_empty());
    assert!(store.create("a/b/one", "1".into()).await.unwrap());
    assert!(!store.create("a/b/one", "2".into()).await.unwrap());
    assert_eq!(store.get("a/b/one").await.unwrap(), Some("1".into()));
    store.put("a/b/one", "three".into()).await.unwrap();
    assert_eq!(store.size("a/b/one").await.unwrap(), Some(5));
    let parts = store.get_ranges("a/b/one", &[3..5, 0..2]).await.unwrap();
    assert_eq!(parts, [Bytes::from("ee"), Bytes::from("th")]);
    assert_eq!(store.get_ranges("no", &[0..1, 2..3]).await.unwrap_err().kind(), ErrorKind::Corrupt);
    store.put("a/two", "".into()).await.unwrap();
    assert_eq!(store.list("a").await.unwrap(), ["a/b/one", "a/two"]);
    let mut writer = store.writer("a/big").await.unwrap();
    for _ in 0..3 {
        writer.write(vec![7; 3 << 20].into()).await.unwrap();
    }
    assert_eq!(store.size("a/big").await.unwrap(), None);
    assert_eq!(writer.finish().await.unwrap(), 9 << 20);
    assert_eq!(store.size("a/big").await.unwrap(), Some(9 << 20));
    drop(store.writer("a/dropped").await.unwrap());
    store.delete("a/two").await.unwrap();
    store.delete("a/two").await.unwrap();
    assert_eq!(store.list("a").await.unwrap(), ["a/b/one", "a/big"]);
    store.delete_all("a").await.unwrap();
    store.delete_all("a").await.unwrap();
    assert!(store.list("a").await.unwrap().is_empty());
}

#[tokio::test]
async fn a_local_store_keeps_its_contract() {
    let (folder, store) = local();
    behaves(&store).await;
    let left = std::fs::read_dir(folder.path().join(".lakeward-staging")).unwrap().count();
    assert_eq!(left, 0, "temporary files are left");
}

#[tokio::test]
async fn a_remote_store_keeps_the_same_contract() {
    behaves(&Store::remote(Arc::new(InMemory::new()), "memory://bucket")).await;
}

#[tokio::test]
async fn of_many_creators_exactly_one_wins() {
    let (_folder, store) = local();
    let creators: Vec<_> = (0..32)
        .map(|n| {
            let store = store.clone();
            tokio::spawn(
                async move { store.create("race/x", format!("{n}").into()).await.unwrap() },
            )
        })
        .collect();
    let mut winners = Vec::new();
    for (n, creator) in creators.into_iter().enumerate() {
        if creator.await.unwrap() {
            winners.push(n);
        }
    }
    assert_eq!(winners.len(), 1);
    let content = store.get("race/x").await.unwrap().unwrap();
    assert_eq!(content, format!("{}", winners[0]));
}

#[tokio::test]
async fn a_writer_never_replaces_an_object() {
    let (_folder, store) = local();
    let writer = store.writer("x").await.unwrap();
    store.put("x", "first".into()).await.unwrap();
    assert_eq!(writer.finish().await.unwrap_err().kind(), ErrorKind::Conflict);
    assert_eq!(store.get("x").await.unwrap(), Some("first".into()));
}

#[test]
fn urls_and_paths_are_two_names_of_one_thing() {
    let (folder, store) = local();
    let root = folder.path().canonicalize().unwrap();
    assert_eq!(store.url("t/x"), format!("file://{}/t/x", root.display()));
    assert_eq!(store.path_of(&store.url("t/x")), Some("t/x".into()));
    assert_eq!(store.path_of(&format!("file:{}/t/x", root.display())), Some("t/x".into()));
    assert_eq!(store.path_of("file:///elsewhere/t/x"), None);
    assert_eq!(store.path_of(&format!("file://{}x/t", root.display())), None);
}

#[tokio::test]
async fn a_path_cannot_leave_the_root() {
    let (_folder, store) = local();
    for path in ["", "/x", "../x", "a/../x", "a//x", "a/./x", "a b", "ä", "a/"] {
        assert_eq!(store.get(path).await.unwrap_err().kind(), ErrorKind::Bug, "{path}");
        assert_eq!(store.put(path, "".into()).await.unwrap_err().kind(), ErrorKind::Bug, "{path}");
    }
}

#[tokio::test]
async fn a_read_only_warehouse_is_a_configuration_error_with_its_path() {
    let (folder, store) = local();
    if running_as_root(folder.path()) {
        println!("SKIPPED read_only_warehouse: nothing is read-only for root");
        return;
    }
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o555)).unwrap();
    let error = store.put("t/x", "".into()).await.unwrap_err();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    assert!(error.remedy().contains("write"), "{}", error.remedy());
}

fn running_as_root(folder: &Path) -> bool {
    std::os::unix::fs::MetadataExt::uid(&std::fs::metadata(folder).unwrap()) == 0
}

#[tokio::test]
async fn a_warehouse_below_a_file_is_a_configuration_error() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("file"), "").unwrap();
    let error = Store::local(&folder.path().join("file/warehouse")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
}
