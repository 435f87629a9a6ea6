//! The connectors of this program. The only file that names them; their types are erased here and nowhere else.
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use lakeward_core::{Env, Result, Sink, SinkKind, Source, SourceKind};
use lakeward_delta::Delta;
use lakeward_engine::spec::{Connector, Located, Raw};
use lakeward_iceberg::Iceberg;
use lakeward_sink_null::Null;
use lakeward_source_generator::Generator;
use lakeward_source_mysql::MySql;
use lakeward_source_postgres::Postgres;

/// Every source.
pub(crate) fn sources() -> Sources {
    Sources::default().with::<Postgres>().with::<MySql>().with::<Generator>()
}

/// Every sink.
pub(crate) fn sinks() -> Sinks {
    Sinks::default().with::<Iceberg>().with::<Delta>().with::<Null>()
}

/// A future of an opened connector.
pub(crate) type Opening<T> = Pin<Box<dyn Future<Output = Result<Arc<T>>> + Send>>;

/// Opens a connector whose options have been parsed.
pub(crate) type Open<T> = Box<dyn FnOnce(Env) -> Opening<T> + Send>;

struct Entry<T: ?Sized> {
    kind: &'static str,
    describe: fn() -> Connector,
    parse: fn(&Raw) -> Result<Open<T>, Vec<Located>>,
}

/// Connectors of one role.
pub(crate) struct Registry<T: ?Sized>(Vec<Entry<T>>);

/// The sources.
pub(crate) type Sources = Registry<dyn Source>;

/// The sinks.
pub(crate) type Sinks = Registry<dyn Sink>;

impl<T: ?Sized> Default for Registry<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T: ?Sized> Registry<T> {
    /// The options of every connector, for the schema.
    pub(crate) fn connectors(&self) -> Vec<Connector> {
        self.0.iter().map(|entry| (entry.describe)()).collect()
    }

    /// Gives the raw options the type of their connector.
    ///
    /// # Errors
    /// All problems with their places.
    pub(crate) fn parse(&self, raw: &Raw) -> Result<Open<T>, Vec<Located>> {
        match self.0.iter().find(|entry| entry.kind == raw.kind) {
            Some(entry) => (entry.parse)(raw),
            None => Err(vec![raw.unknown_kind(self.0.iter().map(|entry| entry.kind))]),
        }
    }
}

impl Sources {
    fn with<K: SourceKind>(mut self) -> Self {
        self.0.push(Entry {
            kind: K::NAME,
            describe: || Connector::of::<K::Config>(K::NAME),
            parse: |raw| {
                let config = raw.parse::<K::Config>()?;
                Ok(Box::new(move |env| Box::pin(K::open(config, env))))
            },
        });
        self
    }
}

impl Sinks {
    fn with<K: SinkKind>(mut self) -> Self {
        self.0.push(Entry {
            kind: K::NAME,
            describe: || Connector::of::<K::Config>(K::NAME),
            parse: |raw| {
                let config = raw.parse::<K::Config>()?;
                Ok(Box::new(move |env| Box::pin(K::open(config, env))))
            },
        });
        self
    }
}

#[cfg(test)]
mod tests {
    use lakeward_engine::spec::Definition;

    use super::*;

    #[test]
    fn an_unknown_connector_is_answered_with_the_nearest() {
        let text = "source: { type: postgress }\nsink: { type: iceburg }\npipeline: { name: p }\n";
        let (sources, sinks) = (sources(), sinks());
        let definition = Definition::read("p.yaml", text);
        let spec = definition.finish(|raw| sources.parse(raw), |raw| sinks.parse(raw));
        assert_eq!(
            spec.err().unwrap().to_string(),
            "p.yaml:1:17: unknown type `postgress`; did you mean `postgres`?\n\
             p.yaml:2:15: unknown type `iceburg`; did you mean `iceberg`?"
        );
    }
}
