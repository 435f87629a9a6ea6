//! Commits whose answer is lost: a store that stores and says nothing, or says nothing and stores, or stores later.
use std::ops::Range;
use std::sync::{Arc, Mutex};

use arrow_array::{Int64Array, RecordBatch};
use arrow_schema::DataType;
use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use lakeward_core::{
    Admission, ChangeBatch, Column, ColumnId, CommitMark, CommitOutcome, Op, Position, SinkTable,
    Slot, Staged, TableId, TableIdentity, TableSchema, admit,
};
use lakeward_files::{IndexFolders, Store};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

use crate::commit::Committer;
use crate::schema::Growth;
use crate::table::DeltaTable;

#[derive(Debug, Clone, Copy, PartialEq)]
enum Answers {
    Come,
    LostAfterwards,
    LostBefore,
    /// The request is still on its way.
    Late,
}

#[derive(Debug)]
struct Flaky {
    inner: InMemory,
    answers: Mutex<Answers>,
    late: Mutex<Vec<(Path, PutPayload, PutOptions)>>,
}

impl std::fmt::Display for Flaky {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("flaky")
    }
}

impl Flaky {
    fn answers(&self, answers: Answers) {
        *self.answers.lock().unwrap() = answers;
    }

    /// What was on its way arrives. Whether it was taken.
    async fn arrive(&self) -> Vec<bool> {
        let late = std::mem::take(&mut *self.late.lock().unwrap());
        let mut taken = Vec::new();
        for (path, payload, options) in late {
            taken.push(self.inner.put_opts(&path, payload, options).await.is_ok());
        }
        taken
    }
}

#[async_trait]
impl ObjectStore for Flaky {
    async fn put_opts(
        &self,
        path: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
        let answers = *self.answers.lock().unwrap();
        if answers == Answers::Come || !path.as_ref().ends_with(".json") {
            return self.inner.put_opts(path, payload, options).await;
        }
        if answers == Answers::LostAfterwards {
            self.inner.put_opts(path, payload, options).await?;
        } else if answers == Answers::Late {
            self.late.lock().unwrap().push((path.clone(), payload, options));
        }
        Err(object_store::Error::Generic { store: "flaky", source: "the line broke".into() })
    }

    async fn put_multipart_opts(
        &self,
        path: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(path, options).await
    }

    async fn get_opts(&self, path: &Path, options: GetOptions) -> Result<GetResult> {
        self.inner.get_opts(path, options).await
    }

    async fn get_ranges(&self, path: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.inner.get_ranges(path, ranges).await
    }

    fn delete_stream(
        &self,
        paths: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(paths)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

struct World {
    objects: Arc<Flaky>,
    store: Store,
    schema: Arc<TableSchema>,
}

impl World {
    fn new() -> Self {
        let objects = Arc::new(Flaky {
            inner: InMemory::new(),
            answers: Mutex::new(Answers::Come),
            late: Mutex::default(),
        });
        let column = Column {
            id: ColumnId(1),
            name: "id".into(),
            data_type: DataType::Int64,
            declared: String::new(),
            nullable: false,
        };
        let (table, identity) = (TableId::new("public", "t"), TableIdentity("1".into()));
        let schema = TableSchema::new(table, identity, vec![column], vec![0], String::new());
        let store = Store::remote(Arc::clone(&objects) as Arc<dyn ObjectStore>, "memory://lake");
        Self { objects, store, schema: Arc::new(schema) }
    }

    async fn open(&self, writer: &str) -> DeltaTable {
        let committer = Committer {
            store: self.store.clone(),
            table: self.schema.table.clone(),
            folder: "public/t".into(),
            owner: "shop/lake".into(),
            writer: writer.into(),
            checkpoint_interval: 10,
            growth: Growth::Reload,
            index: IndexFolders::default(),
        };
        DeltaTable::open(committer, &self.schema, Slot::Visible, 1 << 20).await.unwrap()
    }

    fn rows(&self, op: Op, ids: &[i64]) -> ChangeBatch {
        let rows = Arc::new(Int64Array::from(ids.to_vec()));
        ChangeBatch {
            schema: Arc::clone(&self.schema),
            ops: vec![op; ids.len()],
            rows: RecordBatch::try_new(self.schema.arrow(), vec![rows]).unwrap(),
            before: None,
            absent: None,
            origin: None,
            runs: Vec::new(),
        }
    }

    async fn commit(&self, table: &mut DeltaTable, epoch: u64, staged: Staged) -> CommitOutcome {
        let position = Position { at: [1].into(), resume: [1].into() };
        let mark = CommitMark {
            pipeline: "shop".into(),
            sink: "lake".into(),
            writer: "w".into(),
            table: self.schema.table.clone(),
            identity: self.schema.identity.clone(),
            generation: 1,
            epoch,
            after: None,
            through: position,
            schema_version: self.schema.version,
            load: None,
        };
        match admit(None, mark, false) {
            Admission::Go(permit) => table.commit(staged, permit).await,
            other => panic!("{other:?}"),
        }
    }

    async fn land(&self, table: &mut DeltaTable, epoch: u64, ids: &[i64]) {
        table.write(self.rows(Op::Insert, ids)).await.unwrap();
        let staged = table.stage().await.unwrap();
        let outcome = self.commit(table, epoch, staged).await;
        assert!(matches!(outcome, CommitOutcome::Committed(_)));
    }

    /// A table of rows 1, 2 and 3, and staged work that deletes 1 and adds 4.
    async fn staged(&self) -> (DeltaTable, Staged) {
        let mut table = self.open("one").await;
        self.land(&mut table, 1, &[1, 2, 3]).await;
        table.write(self.rows(Op::Delete, &[1])).await.unwrap();
        table.write(self.rows(Op::Insert, &[4])).await.unwrap();
        let staged = table.stage().await.unwrap();
        (table, staged)
    }

    async fn lose(&self, table: &mut DeltaTable, staged: Staged, how: Answers) -> Staged {
        self.objects.answers(how);
        let outcome = self.commit(table, 2, staged).await;
        self.objects.answers(Answers::Come);
        match outcome {
            CommitOutcome::Unknown { staged, .. } => staged,
            _ => panic!("the answer was not lost"),
        }
    }

    /// Live rows and data files as a new handle finds them.
    async fn found(&self) -> (u64, usize) {
        let rows = self.open("look").await.content.live_rows();
        (rows, self.store.list("public/t/data").await.unwrap().len())
    }
}

async fn epoch(table: &mut DeltaTable) -> u64 {
    table.last_commit().await.unwrap().unwrap().epoch
}

#[tokio::test]
async fn a_lost_answer_of_a_commit_that_stands_is_found_by_its_mark() {
    let world = World::new();
    let (mut table, staged) = world.staged().await;
    let staged = world.lose(&mut table, staged, Answers::LostAfterwards).await;
    assert_eq!(epoch(&mut table).await, 2);
    // A retry without looking must collide, and giving the work up must not take its files away.
    let CommitOutcome::Conflict { staged, .. } = world.commit(&mut table, 3, staged).await else {
        panic!("the same work was committed twice")
    };
    table.abandon(staged).await.unwrap();
    world.land(&mut table, 3, &[5]).await;
    assert_eq!(world.found().await, (4, 3));
}

#[tokio::test]
async fn a_lost_answer_of_a_commit_that_does_not_stand_is_committed_again() {
    let world = World::new();
    let (mut table, staged) = world.staged().await;
    let staged = world.lose(&mut table, staged, Answers::LostBefore).await;
    assert_eq!(epoch(&mut table).await, 1);
    let staged = table.rebase(staged).await.unwrap();
    assert!(matches!(world.commit(&mut table, 2, staged).await, CommitOutcome::Committed(_)));
    assert_eq!(world.found().await, (3, 2));
}

#[tokio::test]
async fn a_request_that_arrives_late_collides_with_the_next_attempt() {
    let world = World::new();
    let (mut table, staged) = world.staged().await;
    let staged = world.lose(&mut table, staged, Answers::Late).await;
    assert_eq!(epoch(&mut table).await, 1);
    let staged = table.rebase(staged).await.unwrap();
    assert!(matches!(world.commit(&mut table, 2, staged).await, CommitOutcome::Committed(_)));
    assert_eq!(world.objects.arrive().await, [false]);
    assert_eq!(world.found().await, (3, 2));

    // The other way round: it arrives before the next attempt, which then finds its own epoch there.
    table.write(world.rows(Op::Insert, &[9])).await.unwrap();
    let staged = table.stage().await.unwrap();
    let staged = world.lose(&mut table, staged, Answers::Late).await;
    assert_eq!(epoch(&mut table).await, 2);
    assert_eq!(world.objects.arrive().await, [true]);
    let staged = table.rebase(staged).await.unwrap();
    table.abandon(staged).await.unwrap();
    assert_eq!(world.found().await, (4, 3));
}

#[tokio::test]
async fn files_of_a_lost_commit_go_only_when_it_can_no_longer_land() {
    let world = World::new();
    let (mut table, staged) = world.staged().await;
    let staged = world.lose(&mut table, staged, Answers::Late).await;
    table.abandon(staged).await.unwrap();
    assert_eq!(world.found().await, (3, 2), "it may still land");
    // The version that it wanted is another's now.
    world.land(&mut table, 2, &[7]).await;
    assert_eq!(world.found().await, (4, 2));
    assert_eq!(world.objects.arrive().await, [false]);
    let mut other = world.open("two").await;
    world.land(&mut other, 3, &[8]).await;
    assert_eq!(epoch(&mut table).await, 3);
    assert_eq!(world.found().await, (5, 3));
}
