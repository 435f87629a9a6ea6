//! Epochs of random changes against a plain model, through real files.
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{Array, ArrayRef, Int32Array, Int64Array, RecordBatch, StringArray};
use arrow_buffer::BooleanBuffer;
use arrow_schema::{DataType, Field, Schema};
use futures::TryStreamExt;
use lakeward_core::{
    AbsentCells, AbsentColumn, BeforeImages, ChangeBatch, Column, ColumnId, Op, TableId,
    TableIdentity, TableSchema,
};

mod loads;

use super::random::Random;
use super::*;
use crate::compact::{Compacted, Compaction, CompactionPolicy, Spent, plan};
use crate::head::Head;
use crate::index::{IndexHome, IndexLimits};
use crate::layout::{FIELD_ID, Identity, TableLayout};
use crate::read::{DataFileReader, RowChoice};
use crate::store::Store;

type Cells = (i64, Option<String>);
type Rows = BTreeMap<i64, Cells>;

const MAPPING: [Option<usize>; 3] = [Some(0), Some(1), Some(2)];

fn field(name: &str, data_type: DataType, id: i32) -> Field {
    Field::new(name, data_type, true)
        .with_metadata(HashMap::from([(FIELD_ID.to_owned(), id.to_string())]))
}

/// `id` bigint, `a` bigint, `t` text.
fn layout(identity: Identity) -> TableLayout {
    let fields = vec![
        field("id", DataType::Int64, 1),
        field("a", DataType::Int64, 2),
        field("t", DataType::Utf8, 3),
    ];
    TableLayout::new("public.t", Arc::new(Schema::new(fields)), identity).unwrap()
}

/// The source's columns: `id` and `a` are narrower than in the lake.
fn source_schema() -> Arc<TableSchema> {
    let column = |id, name: &str, data_type| Column {
        id: ColumnId(id),
        name: name.into(),
        data_type,
        declared: String::new(),
        nullable: true,
    };
    let columns = vec![
        column(1, "id", DataType::Int64),
        column(2, "a", DataType::Int32),
        column(3, "t", DataType::Utf8),
    ];
    Arc::new(TableSchema::new(
        TableId::new("public", "t"),
        TableIdentity("1".into()),
        columns,
        vec![0],
        String::new(),
    ))
}

#[derive(Debug, Clone)]
struct Change {
    op: Op,
    id: i64,
    a: i64,
    /// `None`: missing. `Some(None)`: NULL.
    t: Option<Option<String>>,
    before: Option<(i64, Cells)>,
}

fn batch(changes: &[Change], key_only: bool) -> ChangeBatch {
    let schema = source_schema();
    let columns = |rows: Vec<(i64, i64, Option<String>)>| {
        let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(rows.iter().map(|r| r.0)));
        let a: ArrayRef = Arc::new(Int32Array::from_iter_values(rows.iter().map(|r| r.1 as i32)));
        let t: ArrayRef = Arc::new(StringArray::from_iter(rows.iter().map(|r| r.2.clone())));
        RecordBatch::try_new(schema.arrow(), vec![ids, a, t]).unwrap()
    };
    let rows = changes.iter().map(|c| (c.id, c.a, c.t.clone().flatten())).collect();
    let with_before = || changes.iter().enumerate().filter(|(_, c)| c.before.is_some());
    let before = with_before().next().is_some().then(|| BeforeImages {
        at: with_before().map(|(at, _)| at as u32).collect(),
        rows: columns(
            with_before()
                .filter_map(|(_, c)| c.before.clone())
                .map(|(id, (a, t))| if key_only { (id, 0, None) } else { (id, a, t) })
                .collect(),
        ),
        key_only,
    });
    let missing = BooleanBuffer::collect_bool(changes.len(), |row| changes[row].t.is_none());
    let absent = (missing.count_set_bits() > 0)
        .then(|| AbsentCells { columns: vec![AbsentColumn { column: 2, missing }] });
    ChangeBatch {
        ops: changes.iter().map(|c| c.op).collect(),
        rows: columns(rows),
        before,
        absent,
        origin: None,
        runs: Vec::new(),
        schema,
    }
}

/// All live rows of the lake, sorted.
async fn lake_rows(store: &Store, head: &Head, layout: &TableLayout) -> Vec<(i64, Cells)> {
    let mut found = Vec::new();
    for file in head.files().values() {
        let reader = DataFileReader::open(store, &file.path).await.unwrap();
        let live = RowChoice::Except(file.deleted.clone());
        let mut batches = reader.stream(layout.nullable_schema(), &live).unwrap();
        while let Some(rows) = batches.try_next().await.unwrap() {
            let ids = rows.column(0).as_primitive::<Int64Type>();
            let a = rows.column(1).as_primitive::<Int64Type>();
            let t = rows.column(2).as_string::<i32>();
            for row in 0..rows.num_rows() {
                let text = (!rows.column(2).is_null(row)).then(|| t.value(row).to_owned());
                found.push((ids.value(row), (a.value(row), text)));
            }
        }
    }
    found.sort();
    found
}

fn options(random: &mut Random) -> EpochOptions {
    EpochOptions {
        buffer_bytes: [0, 300, 5_000, 1 << 20][random.below(4) as usize],
        target_file_bytes: [1, 1 << 20][random.below(2) as usize],
        ..EpochOptions::new("t/data", "w-1")
    }
}

/// A model of a keyed table.
#[derive(Debug, Clone, Default, PartialEq)]
struct Model {
    rows: Rows,
    owed: BTreeSet<i64>,
}

impl Model {
    fn apply(&mut self, change: &Change) {
        if change.op == Op::Delete {
            self.rows.remove(&change.id);
            self.owed.remove(&change.id);
            return;
        }
        let old = change.before.as_ref().map_or(change.id, |(id, _)| *id);
        let base = self.rows.get(&old).or_else(|| self.rows.get(&change.id)).cloned();
        self.rows.remove(&old);
        self.owed.remove(&old);
        self.owed.remove(&change.id);
        match (&change.t, base) {
            (Some(t), _) => drop(self.rows.insert(change.id, (change.a, t.clone()))),
            (None, Some((_, t))) => drop(self.rows.insert(change.id, (change.a, t))),
            (None, None) => {
                self.rows.remove(&change.id);
                self.owed.insert(change.id);
            }
        }
    }
}

fn text(random: &mut Random) -> Option<String> {
    (random.below(5) > 0)
        .then(|| format!("{}-{}", random.below(1000), "x".repeat(random.below(30) as usize)))
}

fn change(random: &mut Random, keys: u64) -> Change {
    let id = random.below(keys) as i64;
    let a = random.below(1 << 30) as i64;
    let mut change = Change { op: Op::Update, id, a, t: Some(text(random)), before: None };
    match random.below(10) {
        0 => change.op = Op::Read,
        1 | 2 => change.op = Op::Insert,
        3 => change.op = Op::Delete,
        4 => change.before = Some((random.below(keys) as i64, (0, None))),
        5 => {
            change.before = Some((random.below(keys) as i64, (0, None)));
            change.t = None;
        }
        6 | 7 => change.t = None,
        _ => {}
    }
    change
}

struct Running {
    compacted: Compacted,
}

struct World {
    _folder: tempfile::TempDir,
    store: Store,
    layout: TableLayout,
    head: Head,
    home: IndexHome,
    running: Option<Running>,
}

/// Where a world's key index lives.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Home {
    Memory,
    /// On disk, down to the last few places.
    Disk,
}

impl World {
    async fn new(identity: Identity, home: Home) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::local(&folder.path().join("lake")).unwrap();
        let layout = layout(identity);
        let limits = IndexLimits { memory_places: 40, buffer_facts: 30, few_facts: 10 };
        let home = match home {
            Home::Memory => IndexHome::none(),
            Home::Disk => IndexHome::with_limits(folder.path().join("index"), limits),
        };
        let head = Head::rebuild(&store, &layout, Vec::new(), &home).await.unwrap();
        Self { store, layout, head, home, running: None, _folder: folder }
    }

    /// The index holds a place for each row; on disk also dead ones.
    fn check_index(&self, rows: usize, seed: u64) {
        let (rows, places) = (rows as u64, self.head.index().len());
        match self.home.is_some() {
            true => assert!(places >= rows, "seed {seed}: {places} places for {rows} rows"),
            false => assert_eq!(places, rows, "seed {seed}: index"),
        }
    }

    async fn begin_compaction(&mut self, random: &mut Random) {
        let policy = CompactionPolicy { force: true, ..CompactionPolicy::default() };
        let mut chosen = plan(&self.head.file_states(), &Spent::default(), &policy);
        chosen.truncate(1 + random.below(5) as usize);
        if chosen.is_empty() || self.running.is_some() {
            return;
        }
        let options = EpochOptions {
            target_file_bytes: [1, 1 << 20][random.below(2) as usize],
            ..EpochOptions::new("t/data", "c")
        };
        let work = Compaction::new(&self.head, &chosen, self.layout.clone(), options).unwrap();
        self.running = Some(Running { compacted: work.run(&self.store).await.unwrap() });
    }

    /// Says whether files moved.
    async fn end_compaction(&mut self) -> bool {
        let Some(Running { compacted }) = self.running.take() else { return false };
        let Some(late) = compacted.late_deletes(&self.head) else { return false };
        self.head.publish_compaction(&compacted, &late).await;
        true
    }

    async fn reopen(&mut self) {
        let files = self.head.files().values().cloned().collect();
        self.running = None;
        self.head = Head::rebuild(&self.store, &self.layout, files, &self.home).await.unwrap();
    }

    async fn rows(&self) -> Vec<(i64, Cells)> {
        lake_rows(&self.store, &self.head, &self.layout).await
    }
}

async fn random_epochs(seed: u64, home: Home) {
    let mut random = Random::new(seed);
    let mut world = World::new(Identity::Key(vec![0]), home).await;
    let mut model = Model::default();
    let keys = [3, 20, 200][random.below(3) as usize];
    for _ in 0..12 {
        let mut writer =
            EpochWriter::new(world.store.clone(), world.layout.clone(), options(&mut random));
        let before = model.clone();
        model.owed.clear();
        for _ in 0..random.below(8) {
            if random.below(12) == 0 {
                writer.truncate().await.unwrap();
                model = Model::default();
            }
            let changes: Vec<_> =
                (0..1 + random.below(60)).map(|_| change(&mut random, keys)).collect();
            changes.iter().for_each(|c| model.apply(c));
            writer.write(&batch(&changes, true), &MAPPING, &world.head).await.unwrap();
        }
        let mut epoch = writer.finish(&world.head).await.unwrap();
        assert!(writer.is_empty());
        let owed = epoch.unresolved.as_ref().map(|rows| {
            rows.column(0)
                .as_primitive::<Int64Type>()
                .values()
                .iter()
                .copied()
                .collect::<BTreeSet<_>>()
        });
        assert_eq!(owed.unwrap_or_default(), model.owed, "seed {seed}: unresolved");
        if random.below(3) == 0 && world.end_compaction().await {
            epoch.rebase(&world.head).await.unwrap();
        }
        if random.below(6) == 0 {
            epoch.abandon(&world.store).await.unwrap();
            model = before;
        } else {
            world.head.publish(&epoch).await;
        }
        match random.below(4) {
            0 => world.begin_compaction(&mut random).await,
            1 => drop(world.end_compaction().await),
            2 => world.reopen().await,
            _ => {}
        }
        let expected: Vec<_> = model.rows.clone().into_iter().collect();
        assert_eq!(world.rows().await, expected, "seed {seed}");
        world.check_index(expected.len(), seed);
        assert_eq!(world.head.live_rows(), expected.len() as u64, "seed {seed}: live rows");
    }
}

fn seeds(count: u64) -> impl Iterator<Item = u64> {
    let given = std::env::var("LAKEWARD_SEED").ok().and_then(|s| s.parse().ok());
    let range = given.map_or(0..count, |seed: u64| seed..seed + 1);
    range.inspect(|seed| tracing::trace!(seed, "seed"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_epochs_of_a_keyed_table_equal_the_model() {
    for seed in seeds(60) {
        random_epochs(seed, Home::Memory).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_epochs_equal_the_model_with_the_index_on_disk() {
    for seed in seeds(60) {
        random_epochs(seed, Home::Disk).await;
        random_keyless_epochs(seed, Home::Disk).await;
    }
}

async fn random_keyless_epochs(seed: u64, home: Home) {
    let mut random = Random::new(seed);
    let mut world = World::new(Identity::WholeRow, home).await;
    let mut model: Vec<(i64, Cells)> = Vec::new();
    for _ in 0..12 {
        let mut writer =
            EpochWriter::new(world.store.clone(), world.layout.clone(), options(&mut random));
        let before = model.clone();
        for _ in 0..random.below(6) {
            if random.below(15) == 0 {
                writer.truncate().await.unwrap();
                model.clear();
            }
            let changes: Vec<_> =
                (0..1 + random.below(40)).map(|_| keyless(&mut random, &mut model)).collect();
            writer.write(&batch(&changes, false), &MAPPING, &world.head).await.unwrap();
        }
        let mut epoch = writer.finish(&world.head).await.unwrap();
        if random.below(3) == 0 && world.end_compaction().await {
            epoch.rebase(&world.head).await.unwrap();
        }
        if random.below(6) == 0 {
            epoch.abandon(&world.store).await.unwrap();
            model = before;
        } else {
            world.head.publish(&epoch).await;
        }
        match random.below(4) {
            0 => world.begin_compaction(&mut random).await,
            1 => drop(world.end_compaction().await),
            2 => world.reopen().await,
            _ => {}
        }
        model.sort();
        assert_eq!(world.rows().await, model, "seed {seed}");
        world.check_index(model.len(), seed);
    }
}

/// A change of a table without a key, applied to the model.
fn keyless(random: &mut Random, model: &mut Vec<(i64, Cells)>) -> Change {
    let row =
        (random.below(3) as i64, (random.below(2) as i64, Some(format!("{}", random.below(2)))));
    if model.is_empty() || random.below(5) < 2 {
        model.push(row.clone());
        let (id, (a, t)) = row;
        return Change { op: Op::Insert, id, a, t: Some(t), before: None };
    }
    let old = model.swap_remove(random.below(model.len() as u64) as usize);
    if random.below(2) == 0 {
        let (id, (a, t)) = old.clone();
        return Change { op: Op::Delete, id, a, t: Some(t), before: Some(old) };
    }
    let (id, (a, t)) = row;
    let missing = random.below(2) == 0;
    let new_t = if missing { old.1.1.clone() } else { t.clone() };
    model.push((id, (a, new_t)));
    Change { op: Op::Update, id, a, t: (!missing).then_some(t), before: Some(old) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_epochs_of_a_keyless_table_equal_the_model() {
    for seed in seeds(60) {
        random_keyless_epochs(seed, Home::Memory).await;
    }
}

fn set(id: i64, a: i64, t: &str) -> Change {
    Change { op: Op::Insert, id, a, t: Some(Some(t.to_owned())), before: None }
}

async fn commit(world: &mut World, changes: &[Change]) -> EpochFiles {
    let options = EpochOptions::new("t/data", "w");
    let mut writer = EpochWriter::new(world.store.clone(), world.layout.clone(), options);
    writer.write(&batch(changes, true), &MAPPING, &world.head).await.unwrap();
    let epoch = writer.finish(&world.head).await.unwrap();
    world.head.publish(&epoch).await;
    epoch
}

#[tokio::test]
async fn duplicates_of_another_writer_are_counted_and_all_deleted_on_the_next_change() {
    let mut world = World::new(Identity::Append, Home::Memory).await;
    commit(&mut world, &[set(1, 10, "x"), set(1, 11, "y"), set(2, 20, "z")]).await;
    world.layout = layout(Identity::Key(vec![0]));
    world.reopen().await;
    assert_eq!(world.head.index().duplicates(), 1);
    let epoch = commit(&mut world, &[set(1, 12, "new")]).await;
    assert_eq!(epoch.rows_deleted(), 2);
    assert_eq!(world.head.index().duplicates(), 0);
    let expected = [(1, (12, Some("new".into()))), (2, (20, Some("z".into())))];
    assert_eq!(world.rows().await, expected);
}

#[tokio::test]
async fn an_update_is_refused_where_it_cannot_be_expressed() {
    let mut world = World::new(Identity::Append, Home::Memory).await;
    let mut update = set(1, 1, "x");
    update.op = Op::Update;
    let options = EpochOptions::new("t/data", "w");
    let mut writer = EpochWriter::new(world.store.clone(), world.layout.clone(), options.clone());
    let error =
        writer.write(&batch(&[update.clone()], true), &MAPPING, &world.head).await.unwrap_err();
    assert_eq!(error.kind(), lakeward_core::ErrorKind::Unsupported);
    world.layout = layout(Identity::WholeRow);
    let mut writer = EpochWriter::new(world.store.clone(), world.layout.clone(), options);
    let error = writer.write(&batch(&[update], true), &MAPPING, &world.head).await.unwrap_err();
    assert_eq!(error.kind(), lakeward_core::ErrorKind::Unsupported);
}

#[tokio::test]
async fn a_base_row_in_a_file_that_is_gone_is_a_conflict() {
    let mut world = World::new(Identity::Key(vec![0]), Home::Memory).await;
    let epoch = commit(&mut world, &[set(1, 10, "x")]).await;
    world.store.delete(&epoch.files[0].file.path).await.unwrap();
    let mut change = set(1, 11, "");
    (change.op, change.t) = (Op::Update, None);
    let options = EpochOptions::new("t/data", "w");
    let mut writer = EpochWriter::new(world.store.clone(), world.layout.clone(), options);
    let error = writer.write(&batch(&[change], true), &MAPPING, &world.head).await.unwrap_err();
    assert_eq!(error.kind(), lakeward_core::ErrorKind::Conflict);
    assert!(writer.is_empty());
}

#[tokio::test]
async fn a_key_that_changes_within_an_epoch_finds_old_and_new_rows() {
    let mut world = World::new(Identity::Key(vec![0]), Home::Memory).await;
    commit(&mut world, &[set(1, 10, "x"), set(2, 20, "y"), set(3, 30, "z")]).await;
    let mut options = EpochOptions::new("t/data", "w");
    options.buffer_bytes = 0;
    let mut writer = EpochWriter::new(world.store.clone(), world.layout.clone(), options);
    let first = [set(1, 11, "x1"), set(4, 40, "n")];
    writer.write(&batch(&first, true), &MAPPING, &world.head).await.unwrap();
    // Now `a` is the key.
    let by_a = layout(Identity::Key(vec![1]));
    writer.evolve(by_a.clone(), &mut world.head).await.unwrap();
    let mut gone = set(9, 20, "");
    gone.op = Op::Delete;
    let mut base = set(4, 40, "");
    (base.op, base.t) = (Op::Update, None);
    let second = [set(7, 11, "x2"), gone, base];
    writer.write(&batch(&second, true), &MAPPING, &world.head).await.unwrap();
    let mut epoch = writer.finish(&world.head).await.unwrap();
    assert!(epoch.rebase(&world.head).await.is_err());
    world.layout = by_a;
    world.head.publish(&epoch).await;
    let text = |s: &str| Some(s.to_owned());
    let expected = [(3, (30, text("z"))), (4, (40, text("n"))), (7, (11, text("x2")))];
    assert_eq!(world.rows().await, expected);
    assert_eq!(world.head.index().len(), 3);
}

#[tokio::test]
async fn a_column_that_comes_within_an_epoch_leaves_older_rows_as_they_are() {
    let mut world = World::new(Identity::Key(vec![0]), Home::Memory).await;
    commit(&mut world, &[set(1, 10, "x")]).await;
    let options = EpochOptions::new("t/data", "w");
    let mut writer = EpochWriter::new(world.store.clone(), world.layout.clone(), options);
    writer.write(&batch(&[set(2, 20, "y")], true), &MAPPING, &world.head).await.unwrap();
    let mut fields: Vec<_> = world.layout.schema().fields().iter().cloned().collect();
    fields.insert(1, Arc::new(field("new", DataType::Date32, 9)));
    let wide =
        TableLayout::new("t", Arc::new(Schema::new(fields)), Identity::Key(vec![0])).unwrap();
    writer.evolve(wide, &mut world.head).await.unwrap();
    let mapping = [Some(0), None, Some(1), Some(2)];
    let mut base = set(2, 21, "");
    (base.op, base.t) = (Op::Update, None);
    writer.write(&batch(&[set(1, 11, "x1"), base], true), &mapping, &world.head).await.unwrap();
    let epoch = writer.finish(&world.head).await.unwrap();
    assert_eq!((epoch.rows_added(), epoch.rows_deleted(), epoch.files.len()), (2, 1, 1));
    world.head.publish(&epoch).await;
    let expected = [(1, (11, Some("x1".into()))), (2, (21, Some("y".into())))];
    assert_eq!(world.rows().await, expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_index_is_rebuilt_from_many_files_with_deletes_applied() {
    let mut world = World::new(Identity::Key(vec![0]), Home::Memory).await;
    let rows = |from: i64| (from..from + 500).map(|n| set(n, n, "x")).collect::<Vec<_>>();
    for from in (0..5_000).step_by(250) {
        commit(&mut world, &rows(from)).await;
    }
    let before = world.rows().await;
    world.reopen().await;
    assert_eq!(world.head.files().len(), 20);
    assert_eq!((world.head.index().len(), world.head.index().duplicates()), (5_250, 0));
    let deletes = |n: i64| Change { op: Op::Delete, ..set(n, 0, "") };
    commit(&mut world, &(0..5_000).map(deletes).collect::<Vec<_>>()).await;
    assert_eq!(world.rows().await, before[5_000..]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_index_on_disk_is_opened_without_a_look_at_data_files() {
    let mut world = World::new(Identity::Key(vec![0]), Home::Disk).await;
    let rows = |from: i64| (from..from + 100).map(|id| set(id, id, "x")).collect::<Vec<_>>();
    commit(&mut world, &rows(0)).await;
    commit(&mut world, &rows(100)).await;
    world.begin_compaction(&mut Random::new(1)).await;
    assert!(world.end_compaction().await);
    commit(&mut world, &rows(50)).await;
    for file in world.head.files().values() {
        world.store.delete(&file.path).await.unwrap();
    }
    world.reopen().await;
    let options = EpochOptions::new("t/data", "w");
    let mut writer = EpochWriter::new(world.store.clone(), world.layout.clone(), options);
    writer.write(&batch(&rows(20), true), &MAPPING, &world.head).await.unwrap();
    assert_eq!(writer.finish(&world.head).await.unwrap().rows_deleted(), 100);
    // A file that the index does not know would have been read.
    let mut files: Vec<_> = world.head.files().values().cloned().collect();
    files[0].path = "t/data/other.parquet".into();
    assert!(Head::rebuild(&world.store, &world.layout, files, &world.home).await.is_err());
}
