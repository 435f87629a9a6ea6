//! The log's columns laid against the numbers that they can have: the cheapest explanation, and whether it is the only one.
use lakeward_core::{Column, TableSchema};

use super::{Known, told_column};
use crate::catalog::Attribute;

/// The log's columns, numbered.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Aligned {
    /// One per column.
    pub(super) numbers: Vec<i16>,
    /// No other explanation comes near.
    pub(super) certain: bool,
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
pub(super) fn align(known: &Known<'_>) -> Aligned {
    let count = known.relation.columns.len();
    let virtual_places = if known.unseen_ddl { count } else { 0 };
    let forward = known.told.and_then(|told| lay(known, &since_told(known, told, virtual_places)));
    let ever = || lay(known, &self::ever(known, virtual_places));
    let found = match forward {
        Some(forward) if forward.cost < TRANSIENT || !known.told_may_be_newer => Some(forward),
        Some(forward) => match ever() {
            Some(other) if other.cost < forward.cost => {
                let clear = other.cost + MARGIN < forward.cost;
                Some(Aligned { certain: other.certain && clear, ..other })
            }
            _ => Some(forward),
        },
        None if known.told.is_some() && !known.told_may_be_newer => {
            ever().map(|aligned| Aligned { certain: false, ..aligned })
        }
        None => ever(),
    };
    found
        .or_else(|| {
            // The catalogue does not have enough columns: it has not caught up, or the table is another one.
            let aligned = lay(known, &self::ever(known, count))?;
            Some(Aligned { certain: false, ..aligned })
        })
        .unwrap_or_else(|| Aligned {
            numbers: (1..=count as i16).collect(),
            certain: false,
            cost: u32::MAX,
        })
}

/// What was told, and everything that came after it.
fn since_told<'a>(
    known: &Known<'a>,
    told: &'a TableSchema,
    virtual_places: usize,
) -> Vec<Place<'a>> {
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

fn extend<'a>(
    known: &Known<'a>,
    mut places: Vec<Place<'a>>,
    virtual_places: usize,
) -> Vec<Place<'a>> {
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
