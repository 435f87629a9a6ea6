//! Which column is which at a place of the log: the log's own list of columns against a catalogue that is newer.
//!
//! The log names a table's live columns in `attnum` order, without the numbers. Numbers are never used again, the
//! catalogue keeps those of dropped columns, so the two lists can be laid against each other. Everything here is pure.
//!
//! Facts that the rules rest on: a column that is live now and older than the newest one the log names must be among
//! those it names; a name may have moved since; a type may have changed since; uncommitted DDL is in the log's list
//! and not in the catalogue.
use lakeward_core::{Column, ColumnId, Divergence, Fill, TableId, TableSchema};

use crate::catalog::{Attribute, ChosenColumn, Described, Note};
use crate::decode::RelationMessage;
use crate::types::{ColumnBuilder, PgType};

/// What is known when a `Relation` message comes.
#[derive(Debug, Clone, Copy)]
pub struct Known<'a> {
    /// What the engine holds of the table at this place; `None`: nothing.
    pub told: Option<&'a TableSchema>,
    /// The log's list.
    pub relation: &'a RelationMessage,
    /// The types of its columns, one for one.
    pub types: &'a [PgType],
    /// The catalogue now.
    pub now: &'a Described,
    /// The message stands in a transaction whose own DDL the catalogue may not show yet.
    pub unseen_ddl: bool,
}

/// The answer.
#[derive(Debug)]
pub struct Resolved {
    /// What rows become.
    pub schema: TableSchema,
    /// Per column of the log its place in `schema`; `None`: it came and went, and is not followed.
    pub slots: Vec<Option<u32>>,
    /// Columns of `schema` that the log does not have at this place.
    pub defaults: Vec<(u32, Default)>,
    /// How `schema` follows from what was told.
    pub step: Step,
    /// Rows changed that the log did not carry, or nobody can say which column is which.
    pub diverged: Option<Divergence>,
    /// Whether a divergence, if any, lies exactly here and not at some later place of the log.
    pub exact: bool,
}

/// How a schema follows from what was told before.
#[derive(Debug)]
pub enum Step {
    /// Nothing was told.
    First,
    /// It is what was told.
    Same,
    /// What was told is newer than this place of the log: rows are given the newer shape.
    Behind,
    /// The table has become another version; one fill per column.
    Changed(Vec<Fill>),
}

/// What a row written before a column came shows in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Default {
    /// NULL.
    Null,
    /// This value, as the type's output text.
    Text(String),
    /// Not known.
    Absent,
}

/// Decides.
pub fn resolve(known: Known<'_>) -> Resolved {
    let aligned = align(&known);
    let schema = schema(&known, &aligned.numbers);
    let slots = slots(&schema, &aligned.numbers);
    let resolved = |schema, step| Resolved {
        schema,
        slots: slots.clone(),
        defaults: Vec::new(),
        step,
        diverged: (!aligned.certain).then_some(Divergence::SchemaUnknown),
        exact: true,
    };
    let Some(told) = known.told else { return resolved(schema, Step::First) };
    let rewritten = rewritten(told, known.now);
    let current = is_current(known.relation, known.now);
    // What the catalogue notes is of its own moment: it holds here only where the shape is the same.
    let schema = if current { schema } else { TableSchema { note: told.note.clone(), ..schema } };
    if schema.version == told.version {
        let mut same = resolved(schema, Step::Same);
        if rewritten && current {
            same.diverged.get_or_insert(Divergence::Rewritten);
        }
        same.exact = false;
        return same;
    }
    if let Some(behind) = behind(&known, told, &aligned) {
        return behind;
    }
    let fills = fills(told, &schema, known.now, rewritten);
    let unknown = fills.iter().any(|fill| matches!(fill, Fill::Unknown));
    let explained = unknown || retyped(told, &schema);
    let mut changed = resolved(schema, Step::Changed(fills));
    if explained || (rewritten && current) {
        changed.diverged.get_or_insert(Divergence::Rewritten);
    }
    changed.exact = explained && current;
    changed
}

/// Whether the log's list is the catalogue's, name for name and type for type.
pub fn is_current(relation: &RelationMessage, now: &Described) -> bool {
    let same = |(column, attribute): (&crate::decode::RelationColumn, &Attribute)| {
        column.name == attribute.name
            && column.type_oid == attribute.type_oid
            && column.typmod == attribute.type_modifier
    };
    relation.columns.len() == now.live().count()
        && relation.columns.iter().zip(now.live()).all(same)
}

/// A stand-in for the catalogue of a table that is gone: as it was told.
pub fn as_told(relation: &RelationMessage, told: Option<&TableSchema>) -> Described {
    let attribute = |(index, number, name): (usize, i16, &str)| Attribute {
        number,
        name: name.to_owned(),
        type_oid: relation.columns.get(index).map_or(0, |c| c.type_oid),
        type_modifier: relation.columns.get(index).map_or(-1, |c| c.typmod),
        pg_type: None,
        not_null: false,
        has_default: false,
        dropped: false,
        generated: false,
        has_missing: false,
        missing: None,
        xmin: 0,
    };
    let numbered = told.map(|told| {
        told.columns.iter().enumerate().map(|(i, c)| (i, c.id.0 as i16, c.name.as_str()))
    });
    let note = told.and_then(Note::of).unwrap_or_default();
    Described {
        oid: relation.relid,
        table: TableId::new(&relation.namespace, &relation.name),
        file_node: note.file_node,
        replica_identity: char::from(relation.identity),
        attributes: numbered.into_iter().flatten().map(attribute).collect(),
        key: told
            .into_iter()
            .flat_map(|t| t.key_columns().map(|c| c.id.0 as i16))
            .collect(),
    }
}

/// The log's columns, numbered.
#[derive(Debug, PartialEq, Eq)]
struct Aligned {
    numbers: Vec<i16>,
    certain: bool,
    cost: u32,
}

/// One place where a column of the log may belong.
struct Place<'a> {
    number: i16,
    /// The catalogue's; `None`: a column that it cannot show yet.
    attribute: Option<&'a Attribute>,
    /// The engine's.
    told: Option<&'a Column>,
    /// What it costs to pass it over; `None`: it must be there.
    pass: Option<u32>,
    /// What it costs that it comes behind the last column: nothing for what was added later.
    behind: Option<u32>,
}

/// A name or a type at this place that neither what was told nor the catalogue knows: it came and went between.
const TRANSIENT: u32 = 2;
/// A column that nobody knows any more, or nobody can know yet.
const UNKNOWN: u32 = 1;
/// A live column that the message's own transaction may have dropped.
const DROPPED_HERE: u32 = 2;
/// Another explanation that costs this much more is still an explanation.
const MARGIN: u32 = 1;

/// The cheapest explanation: first that the log goes on from what was told; where that cannot be, that what was told
/// is newer.
fn align(known: &Known<'_>) -> Aligned {
    let count = known.relation.columns.len();
    let virtual_places = if known.unseen_ddl { count } else { 0 };
    let forward = known.told.and_then(|told| lay(known, &since_told(known, told, virtual_places)));
    let backward = || lay(known, &ever(known, virtual_places));
    let found = match forward {
        Some(aligned) if aligned.cost < TRANSIENT => Some(aligned),
        Some(aligned) => backward().filter(|b| b.cost + MARGIN < aligned.cost).or(Some(aligned)),
        None => backward(),
    };
    found
        .or_else(|| {
            // The catalogue does not have enough columns: it has not caught up, or the table is another one.
            let aligned = lay(known, &ever(known, count))?;
            Some(Aligned { certain: false, ..aligned })
        })
        .unwrap_or_else(|| Aligned {
            numbers: (1..=count as i16).collect(),
            certain: false,
            cost: u32::MAX,
        })
}

/// What was told, and everything that came after it.
fn since_told<'a>(known: &Known<'a>, told: &'a TableSchema, virtual_places: usize) -> Vec<Place<'a>> {
    let newest = told.columns.iter().map(|c| c.id.0).max().unwrap_or(0);
    let mut places: Vec<Place<'a>> = Vec::new();
    for attribute in known.now.attributes.iter().filter(|a| !a.generated) {
        let column = told_column(known, attribute.number);
        if column.is_none() && i32::from(attribute.number) <= newest {
            continue;
        }
        let pass = if attribute.dropped { Some(0) } else { None };
        let pass = pass.or(known.unseen_ddl.then_some(DROPPED_HERE));
        let behind = if column.is_none() { Some(0) } else { pass };
        let number = attribute.number;
        places.push(Place { number, attribute: Some(attribute), told: column, pass, behind });
    }
    extend(known, places, virtual_places)
}

/// Every attribute that ever was; any of them may have come later.
fn ever<'a>(known: &Known<'a>, virtual_places: usize) -> Vec<Place<'a>> {
    let real = known.now.attributes.iter().filter(|a| !a.generated).map(|attribute| Place {
        number: attribute.number,
        attribute: Some(attribute),
        told: told_column(known, attribute.number),
        pass: if attribute.dropped { Some(0) } else { known.unseen_ddl.then_some(DROPPED_HERE) },
        behind: Some(0),
    });
    extend(known, real.collect(), virtual_places)
}

fn extend<'a>(known: &Known<'a>, mut places: Vec<Place<'a>>, virtual_places: usize) -> Vec<Place<'a>> {
    let last = known.now.attributes.iter().map(|a| a.number).max().unwrap_or(0);
    places.extend((1..=virtual_places as i16).map(|n| Place {
        number: last.saturating_add(n),
        attribute: None,
        told: None,
        pass: None,
        behind: Some(0),
    }));
    places
}

/// Lays the log's columns against `places`, in order, as cheaply as can be. `None`: impossible.
///
/// `after[i][j]` is the cheapest way to lay the columns from `i` on against the places from `j` on, `before[i][j]` the
/// cheapest for those before. A place that must be there may be passed over only behind the last column, unless it was
/// told: then it was there already.
fn lay(known: &Known<'_>, places: &[Place<'_>]) -> Option<Aligned> {
    let (rows, width) = (known.relation.columns.len(), places.len() + 1);
    let at = |i: usize, j: usize| i * width + j;
    let mut after = vec![IMPOSSIBLE; (rows + 1) * width];
    let mut before = after.clone();
    after[at(rows, places.len())] = 0;
    for j in (0..places.len()).rev() {
        after[at(rows, j)] = add(after[at(rows, j + 1)], places[j].behind);
        for i in (0..rows).rev() {
            let matched = add(after[at(i + 1, j + 1)], Some(cost(known, i, &places[j])));
            after[at(i, j)] = matched.min(add(after[at(i, j + 1)], places[j].pass));
        }
    }
    before[at(0, 0)] = 0;
    for j in 0..places.len() {
        for i in 0..=rows {
            let here = before[at(i, j)];
            let passed = add(here, places[j].pass);
            before[at(i, j + 1)] = before[at(i, j + 1)].min(passed);
            if i < rows {
                let matched = add(here, Some(cost(known, i, &places[j])));
                before[at(i + 1, j + 1)] = before[at(i + 1, j + 1)].min(matched);
            }
        }
    }
    let best = after[at(0, 0)];
    if best == IMPOSSIBLE {
        return None;
    }
    let mut certain = true;
    let mut numbers = Vec::with_capacity(rows);
    let mut from = 0;
    for i in 0..rows {
        let total = |j: usize| {
            let here = add(before[at(i, j)], Some(cost(known, i, &places[j])));
            here.saturating_add(after[at(i + 1, j + 1)])
        };
        let likely: Vec<usize> =
            (0..places.len()).filter(|j| total(*j) <= best.saturating_add(MARGIN)).collect();
        certain &= likely.len() == 1 || !likely.iter().any(|j| material(&places[*j]));
        // The newest of the cheapest: the catalogue of now is the likelier witness.
        let pick = likely.iter().rev().find(|j| **j >= from && total(**j) == best)?;
        from = pick + 1;
        numbers.push(places[*pick].number);
    }
    Some(Aligned { numbers, certain, cost: best })
}

const IMPOSSIBLE: u32 = u32::MAX;

fn add(sum: u32, cost: Option<u32>) -> u32 {
    cost.map_or(IMPOSSIBLE, |cost| sum.saturating_add(cost))
}

/// Whether it matters which of several columns this is: nobody follows one that came and went.
fn material(place: &Place<'_>) -> bool {
    place.told.is_some() || place.attribute.is_none_or(|a| !a.dropped)
}

fn cost(known: &Known<'_>, index: usize, place: &Place<'_>) -> u32 {
    let column = &known.relation.columns[index];
    let now = place.attribute.filter(|a| !a.dropped);
    if now.is_none() && place.told.is_none() {
        return UNKNOWN;
    }
    let declared = known.types.get(index).map(|t| t.declared.as_str());
    let name = now.is_some_and(|a| a.name == column.name)
        || place.told.is_some_and(|c| c.name == column.name);
    let of_type = now
        .is_some_and(|a| a.type_oid == column.type_oid && a.type_modifier == column.typmod)
        || place.told.is_some_and(|c| Some(c.declared.as_str()) == declared);
    u32::from(!name) * TRANSIENT + u32::from(!of_type) * TRANSIENT
}

fn told_column<'a>(known: &Known<'a>, number: i16) -> Option<&'a lakeward_core::Column> {
    known.told?.column(ColumnId(i32::from(number))).map(|(_, column)| column)
}

fn schema(known: &Known<'_>, numbers: &[i16]) -> TableSchema {
    let followed = |number: i16| {
        told_column(known, number).is_some()
            || known.now.attribute(number).is_none_or(|attribute| !attribute.dropped)
    };
    let columns = known.relation.columns.iter().zip(known.types).zip(numbers);
    let chosen = columns.filter(|(_, number)| followed(**number)).map(|((column, pg_type), number)| {
        ChosenColumn { number: *number, name: column.name.clone(), pg_type: pg_type.clone() }
    });
    let table = TableId::new(&known.relation.namespace, &known.relation.name);
    let now = known.now.schema_from(table, chosen);
    let key = key(known, numbers, &now);
    TableSchema::new(now.table, now.identity, now.columns, key, now.note)
}

/// The key at this place: with a replica identity by index what the log marks, in the catalogue's order where that is
/// the same set; with `FULL` the catalogue's.
fn key(known: &Known<'_>, numbers: &[i16], now: &TableSchema) -> Vec<u32> {
    if !matches!(known.relation.identity, b'd' | b'i') {
        return if known.relation.identity == b'f' { now.key.clone() } else { Vec::new() };
    }
    let columns = known.relation.columns.iter().zip(numbers);
    let marked: Vec<u32> = columns
        .filter(|(column, _)| column.key)
        .filter_map(|(_, number)| index_of(now, *number))
        .collect();
    let same_set = marked.len() == now.key.len() && marked.iter().all(|m| now.key.contains(m));
    if same_set { now.key.clone() } else { marked }
}

fn index_of(schema: &TableSchema, number: i16) -> Option<u32> {
    schema.column(ColumnId(i32::from(number))).map(|(index, _)| index as u32)
}

fn slots(schema: &TableSchema, numbers: &[i16]) -> Vec<Option<u32>> {
    numbers.iter().map(|number| index_of(schema, *number)).collect()
}

/// What was told is newer than this place: a column of it is not here yet, or it is the catalogue's own shape.
fn behind(known: &Known<'_>, told: &TableSchema, aligned: &Aligned) -> Option<Resolved> {
    let here = |id: ColumnId| aligned.numbers.iter().position(|n| i32::from(*n) == id.0);
    let live = |id: ColumnId| {
        let number = i16::try_from(id.0).ok()?;
        known.now.attribute(number).filter(|a| !a.dropped)
    };
    let newer = told.columns.iter().any(|c| here(c.id).is_none() && live(c.id).is_some())
        || told.version == known.now.schema().version;
    let fits = told.columns.iter().all(|c| match here(c.id) {
        Some(index) => known.types.get(index).is_some_and(|t| holds(&c.data_type, &t.data_type)),
        None => live(c.id).is_some(),
    });
    let keyed = told.key_columns().all(|c| here(c.id).is_some());
    if known.unseen_ddl || !(newer && fits && keyed) {
        return None;
    }
    let lacking = told.columns.iter().enumerate().filter(|(_, c)| here(c.id).is_none());
    let defaults = lacking
        .map(|(index, c)| (index as u32, live(c.id).map_or(Default::Absent, default)))
        .collect();
    Some(Resolved {
        schema: told.clone(),
        slots: slots(told, &aligned.numbers),
        defaults,
        step: Step::Behind,
        diverged: (!aligned.certain).then_some(Divergence::SchemaUnknown),
        exact: false,
    })
}

/// Whether the output text of every value of `from` is a value of `to` that a rewrite would have given.
fn holds(to: &arrow_schema::DataType, from: &arrow_schema::DataType) -> bool {
    use arrow_schema::DataType::{Decimal128, Int16, Int32, Int64};
    match (from, to) {
        (Int16, Int32 | Int64) | (Int32, Int64) => true,
        (Decimal128(p, s), Decimal128(q, t)) => t >= s && i16::from(*q) - i16::from(*t) >= i16::from(*p) - i16::from(*s),
        _ => from == to,
    }
}

fn default(attribute: &Attribute) -> Default {
    match (&attribute.missing, attribute.has_missing) {
        (Some(text), true) => Default::Text(text.clone()),
        (None, true) => Default::Absent,
        (_, false) if attribute.has_default => Default::Absent,
        (_, false) => Default::Null,
    }
}

/// The table's file and its columns' catalogue rows both changed: a rewrite by DDL. `VACUUM FULL`, `CLUSTER` and
/// `TRUNCATE` change the file alone.
pub(crate) fn rewritten(told: &TableSchema, now: &Described) -> bool {
    Note::of(told).is_some_and(|note| {
        let same_columns = now.attributes.len() == note.attributes.len()
            && now.attributes.iter().all(|a| note.attributes.get(&a.number) == Some(&a.xmin));
        note.file_node != now.file_node && !same_columns
    })
}

/// A column changed its type in a way that rewrites its values.
pub(crate) fn retyped(told: &TableSchema, schema: &TableSchema) -> bool {
    schema.columns.iter().any(|c| {
        told.column(c.id).is_some_and(|(_, was)| {
            was.declared != c.declared && !rewrites_nothing(&was.declared, &c.declared)
        })
    })
}

/// Type changes that leave every stored value as it is.
fn rewrites_nothing(from: &str, to: &str) -> bool {
    let (from, to) = (Declared::parse(from), Declared::parse(to));
    match (from.name, to.name) {
        ("character varying", "text") => true,
        ("text", "character varying") => to.modifier.is_none(),
        ("character varying", "character varying") => to.at_least(&from),
        ("numeric", "numeric") => to.modifier.is_none() || (to.at_least(&from) && to.scale() == from.scale()),
        _ => false,
    }
}

/// `name(a,b)` as the server prints it.
struct Declared<'a> {
    name: &'a str,
    modifier: Option<(u32, u32)>,
}

impl<'a> Declared<'a> {
    fn parse(text: &'a str) -> Self {
        let Some((name, rest)) = text.split_once('(') else {
            return Self { name: text, modifier: None };
        };
        let mut numbers = rest.trim_end_matches(')').split(',').map(|n| n.trim().parse().ok());
        let first = numbers.next().flatten();
        let second = numbers.next().flatten().unwrap_or(0);
        Self { name, modifier: first.map(|first| (first, second)) }
    }

    fn at_least(&self, other: &Self) -> bool {
        match (self.modifier, other.modifier) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(a), Some(b)) => a.0 >= b.0,
        }
    }

    fn scale(&self) -> Option<u32> {
        self.modifier.map(|(_, scale)| scale)
    }
}

pub(crate) fn fills(told: &TableSchema, schema: &TableSchema, now: &Described, rewritten: bool) -> Vec<Fill> {
    schema
        .columns
        .iter()
        .map(|column| {
            if told.column(column.id).is_some() {
                return Fill::Null;
            }
            let attribute = i16::try_from(column.id.0).ok().and_then(|n| now.attribute(n));
            match attribute {
                Some(a) if a.has_missing => constant(a, &column.data_type),
                Some(_) if rewritten => Fill::Unknown,
                _ => Fill::Null,
            }
        })
        .collect()
}

fn constant(attribute: &Attribute, data_type: &arrow_schema::DataType) -> Fill {
    let value = attribute.missing.as_ref().and_then(|text| {
        let mut builder = ColumnBuilder::new(data_type, false).ok()?;
        builder.push_text(text.as_bytes()).ok()?;
        builder.finish().ok()
    });
    value.map_or(Fill::Unknown, Fill::Constant)
}

#[cfg(test)]
mod tests {
    use arrow_schema::DataType;
    use lakeward_core::TableIdentity;

    use super::*;
    use crate::decode::RelationColumn;
    use crate::types::Transfer;

    const INT: u32 = 23;
    const TEXT: u32 = 25;

    fn pg_type(oid: u32) -> PgType {
        let (declared, data_type) = match oid {
            INT => ("integer", DataType::Int32),
            20 => ("bigint", DataType::Int64),
            _ => ("text", DataType::Utf8),
        };
        PgType { declared: declared.into(), data_type, transfer: Transfer::Text, as_text: false, ordered: true }
    }

    /// `-` stands for a dropped attribute; `a:t` is text, `a` an integer, `a:b` a bigint.
    fn typed(text: &str) -> (&str, u32) {
        match text.split_once(':') {
            Some((name, "t")) => (name, TEXT),
            Some((name, _)) => (name, 20),
            None => (text, INT),
        }
    }

    fn now(attributes: &str) -> Described {
        let attribute = |(index, text): (usize, &str)| {
            let (name, oid) = typed(text);
            let dropped = name == "-";
            Attribute {
                number: index as i16 + 1,
                name: name.into(),
                type_oid: if dropped { 0 } else { oid },
                type_modifier: -1,
                pg_type: (!dropped).then(|| pg_type(oid)),
                not_null: false,
                has_default: false,
                dropped,
                generated: false,
                has_missing: false,
                missing: None,
                xmin: 5,
            }
        };
        Described {
            oid: 7,
            table: TableId::new("public", "t"),
            file_node: 7,
            replica_identity: 'd',
            attributes: attributes.split(' ').enumerate().map(attribute).collect(),
            key: vec![1],
        }
    }

    fn relation(columns: &str) -> RelationMessage {
        let column = |(index, text): (usize, &str)| {
            let (name, type_oid) = typed(text);
            RelationColumn { key: index == 0, name: name.into(), type_oid, typmod: -1 }
        };
        RelationMessage {
            relid: 7,
            namespace: "public".into(),
            name: "t".into(),
            identity: b'd',
            columns: columns.split(' ').enumerate().map(column).collect(),
        }
    }

    /// `1=id 3=c:t`
    fn told(columns: &str) -> TableSchema {
        let column = |text: &str| {
            let (number, name) = text.split_once('=').unwrap();
            let (name, oid) = typed(name);
            let pg_type = pg_type(oid);
            Column {
                id: ColumnId(number.parse().unwrap()),
                name: name.into(),
                data_type: pg_type.data_type,
                declared: pg_type.declared,
                nullable: true,
            }
        };
        let note = serde_json::to_string(&Note { file_node: 7, ..Note::default() }).unwrap();
        let columns = columns.split(' ').map(column).collect();
        TableSchema::new(TableId::new("public", "t"), TableIdentity("7".into()), columns, vec![0], note)
    }

    /// `1,3 changed`, with `?` where nobody can say, `-` for a column that is not followed.
    fn answer(told_columns: &str, relation_columns: &str, attributes: &str, unseen_ddl: bool) -> String {
        let (relation, now) = (relation(relation_columns), now(attributes));
        let told = (!told_columns.is_empty()).then(|| told(told_columns));
        let types: Vec<_> = relation.columns.iter().map(|c| pg_type(c.type_oid)).collect();
        let known =
            Known { told: told.as_ref(), relation: &relation, types: &types, now: &now, unseen_ddl };
        let resolved = resolve(known);
        let number = |slot: &Option<u32>| match slot {
            Some(slot) => resolved.schema.columns[*slot as usize].id.0.to_string(),
            None => "-".to_owned(),
        };
        let numbers: Vec<_> = resolved.slots.iter().map(number).collect();
        let step = match resolved.step {
            Step::First => "first",
            Step::Same => "same",
            Step::Behind => "behind",
            Step::Changed(_) => "changed",
        };
        let doubt = match resolved.diverged {
            Some(Divergence::SchemaUnknown) => " ?",
            Some(_) => " !",
            None => "",
        };
        format!("{} {step}{doubt}", numbers.join(","))
    }

    #[test]
    fn columns_find_their_numbers() {
        let table = [
            // told, the log, the catalogue, the answer
            ("", "id a", "id a", "1,2 first"),
            ("1=id 2=a", "id a", "id a", "1,2 same"),
            // Renamed, swapped, named later.
            ("1=id 2=a", "id b", "id b", "1,2 changed"),
            ("1=id 2=a 3=b", "id b a", "id b a", "1,2,3 changed"),
            ("1=id 2=a 3=b", "id a b", "id b a", "1,2,3 same"),
            ("1=id 2=a", "id b", "id c", "1,2 changed"),
            // Added, dropped.
            ("1=id 2=a", "id a c", "id a c", "1,2,3 changed"),
            ("1=id 2=a", "id a", "id a c", "1,2 same"),
            ("1=id 2=a 3=b", "id b", "id - b", "1,3 changed"),
            ("1=id 2=a 3=b", "id a b", "id - b", "1,2,3 same"),
            ("1=id 3=b", "id b", "id - b", "1,3 same"),
            // Dropped and added again: another type says which, the same type does not.
            ("1=id 2=a", "id a:t", "id - a:t", "1,3 changed"),
            ("1=id 2=a", "id a", "id - a:t", "1,2 same"),
            ("1=id 2=a", "id a", "id - a", "1,3 changed ?"),
            ("1=id 3=a", "id a", "id - a", "1,3 same"),
            ("1=id 2=a 3=b", "id a b", "id - b a", "1,2,3 same"),
            ("1=id 2=a 3=b", "id b a", "id - b a", "1,3,4 changed"),
            // Dropped, another added.
            ("1=id 2=a", "id c", "id - c", "1,3 changed"),
            ("1=id 2=a", "id a", "id - c", "1,2 same"),
            // Came and went between: not followed.
            ("1=id 2=a", "id a x:t", "id a -", "1,2,- changed"),
            // A rewrite by type.
            ("1=id 2=a", "id a:b", "id a:b", "1,2 changed !"),
            // What was told is newer.
            ("1=id 2=a 3=c", "id a", "id a c", "1,2 behind"),
            ("1=id 3=c", "id a", "id - c", "1,- behind"),
            ("1=id 2=a:b", "id a", "id a:b", "1,2 behind"),
        ];
        for (told, log, catalogue, expected) in table {
            let got = answer(told, log, catalogue, false);
            assert_eq!(got, expected, "told [{told}], log [{log}], catalogue [{catalogue}]");
        }
    }

    #[test]
    fn an_open_transactions_own_ddl_is_guessed() {
        let table = [
            ("1=id 2=a", "id a c", "id a", "1,2,3 changed"),
            ("1=id 2=a", "id b", "id a", "1,2 changed ?"),
            ("1=id 2=a 3=b:t", "id a", "id a b:t", "1,2 changed"),
            ("1=id 2=a", "id a", "id a", "1,2 same"),
        ];
        for (told, log, catalogue, expected) in table {
            let got = answer(told, log, catalogue, true);
            assert_eq!(got, expected, "told [{told}], log [{log}], catalogue [{catalogue}]");
        }
    }

    #[test]
    fn more_columns_than_the_catalogue_has_are_doubtful() {
        assert_eq!(answer("1=id", "id a", "id", false), "1,2 changed ?");
    }

    #[test]
    fn only_harmless_type_changes_rewrite_nothing() {
        let table = [
            ("character varying(5)", "character varying(9)", true),
            ("character varying(9)", "character varying(5)", false),
            ("character varying(9)", "text", true),
            ("text", "character varying", true),
            ("text", "character varying(9)", false),
            ("numeric(8,2)", "numeric(12,2)", true),
            ("numeric(8,2)", "numeric(12,3)", false),
            ("numeric(8,2)", "numeric", true),
            ("integer", "bigint", false),
        ];
        for (from, to, harmless) in table {
            assert_eq!(rewrites_nothing(from, to), harmless, "{from} -> {to}");
        }
    }
}
