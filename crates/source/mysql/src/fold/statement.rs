//! Statements in the log: they end transactions, change tables, or change rows without sending them.
use lakeward_core::{Divergence, Result, SourceEvent, TableId};

use super::{Fold, Mode, misplaced};
use crate::binlog::event::Query;
use crate::ddl::{self, AlterTable, Session, Statement};

impl Fold {
    pub(super) fn query(&mut self, query: &Query<'_>) -> Result<()> {
        let Mode::Inside(inside) = &mut self.mode else {
            return Err(misplaced("a statement outside a transaction"));
        };
        let (standalone, known) = (inside.standalone, inside.known || inside.without_effect);
        let completes = inside.completes.take();
        let database = String::from_utf8_lossy(query.database);
        let text = String::from_utf8_lossy(&query.text);
        let lower_case = self.world.lower_case;
        let session = Session { database: &database, strict: query.strict, lower_case };
        let statement = ddl::classify(&text, session);
        match (completes, &statement) {
            (_, Statement::XaCommit(xid)) => return self.complete(xid, true),
            (_, Statement::XaRollback(xid)) => return self.complete(xid, false),
            (Some(_), _) => return Err(misplaced("a prepared transaction ends in an unknown way")),
            // MySQL says only here that the rows are not committed by the transaction's end.
            (None, Statement::XaStart) => {
                inside.standalone = false;
                return self.opens();
            }
            (None, Statement::Begin) => {
                inside.standalone = false;
                return Ok(());
            }
            (None, Statement::Commit) => return self.commit(),
            (None, Statement::Rollback) => return self.rolled_back(),
            (None, Statement::RollbackTo) => return self.undone(),
            _ => {}
        }
        if !known {
            self.effect(statement)?;
        }
        if standalone { self.commit() } else { Ok(()) }
    }

    /// A transaction that is in the log although it was rolled back, for what it did to tables that cannot be.
    fn rolled_back(&mut self) -> Result<()> {
        self.undone()?;
        self.commit()
    }

    fn undone(&mut self) -> Result<()> {
        self.void_touched("a transaction that the log carries was rolled back, or a part of it")
    }

    fn effect(&mut self, statement: Statement) -> Result<()> {
        match statement {
            Statement::Alter(alter) => self.alter(&alter),
            Statement::Rename(pairs) => {
                pairs.iter().try_for_each(|(from, to)| self.rename(from, to))
            }
            Statement::Truncate(table) => self.truncate(&table),
            Statement::Drop(tables) => tables.iter().try_for_each(|table| self.gone(table)),
            Statement::Create(table) => self.gone(&table),
            Statement::DropDatabase(database) => {
                let Mode::Inside(inside) = &self.mode else { return Ok(()) };
                let gone = self.world.tables.database_gone(&database, &inside.gtid);
                gone.iter().try_for_each(|table| self.dropped(table))
            }
            Statement::Changes(tables) => tables.iter().try_for_each(|table| self.changed(table)),
            _ => Ok(()),
        }
    }

    fn skips(&self, table: &TableId) -> bool {
        let Mode::Inside(inside) = &self.mode else { return true };
        self.world.tables.skips(table, &inside.gtid)
    }

    fn alter(&mut self, statement: &AlterTable) -> Result<()> {
        let table = &statement.table;
        if !self.skips(table) {
            let altered = self.world.tables.altered(table, &statement.alter, &self.before.0);
            if let Some((change, diverged)) = altered {
                self.announced.retain(|_, announced| announced.table != *table);
                self.gather.flush_table(table)?;
                self.gather.push(SourceEvent::Schema(change));
                if let Some(why) = diverged {
                    self.diverge(table, why)?;
                }
            }
        }
        if let Some(other) = &statement.exchanged
            && self.follows(other)
        {
            self.diverge(other, Divergence::Rewritten)?;
        }
        match &statement.renamed_to {
            Some(to) => self.rename(table, to),
            None => Ok(()),
        }
    }

    fn follows(&self, table: &TableId) -> bool {
        self.world.tables.get(table).is_some() && !self.skips(table)
    }

    fn rename(&mut self, from: &TableId, to: &TableId) -> Result<()> {
        if self.skips(from) {
            return Ok(());
        }
        self.gather.flush_table(from)?;
        self.gather.flush_table(to)?;
        self.announced.retain(|_, announced| announced.table != *from && announced.table != *to);
        let change = self.world.tables.renamed(from, to);
        change.into_iter().for_each(|change| self.gather.push(SourceEvent::Schema(change)));
        Ok(())
    }

    fn truncate(&mut self, table: &TableId) -> Result<()> {
        if !self.follows(table) {
            return Ok(());
        }
        self.gather.flush_table(table)?;
        let Mode::Inside(inside) = &self.mode else { return Ok(()) };
        let transaction = std::sync::Arc::clone(&inside.info);
        let table = table.clone();
        self.gather.push(SourceEvent::Truncate { table, origin: None, transaction });
        Ok(())
    }

    /// A table was dropped or replaced. Whatever has its name next is another one.
    fn gone(&mut self, table: &TableId) -> Result<()> {
        if self.skips(table) || !self.world.tables.gone(table) {
            return Ok(());
        }
        self.dropped(table)
    }

    fn dropped(&mut self, table: &TableId) -> Result<()> {
        self.announced.retain(|_, announced| announced.table != *table);
        self.diverge(table, Divergence::Other("the table was dropped or replaced".into()))
    }

    fn changed(&mut self, table: &TableId) -> Result<()> {
        const WHY: &str = "a session changed rows by statements that the log carries as text: \
                           its binlog_format was not ROW";
        if self.follows(table) {
            self.diverge(table, Divergence::Other(WHY.into()))
        } else {
            Ok(())
        }
    }
}
