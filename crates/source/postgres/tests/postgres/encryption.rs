//! Each TLS mode against a real server, whose certificate names `localhost` and is signed by an authority of these tests.
//! Keys in `certificates/` protect nothing.
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::PathBuf;
use std::sync::Arc;

use lakeward_core::{Error, ErrorKind};
use lakeward_testkit::postgres::Postgres;
use lakeward_testkit::servers::Version;
use serde_json::{Value, json};

use crate::base::Base;

fn certificates() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/postgres/certificates")
}

async fn encrypted() -> Base {
    let server = Postgres::start(Version::V15).await.unwrap();
    let data = server.data_dir();
    let owner = std::fs::metadata(&data).unwrap();
    for name in ["server.pem", "server.key"] {
        let to = data.join(name);
        std::fs::copy(certificates().join(name), &to).unwrap();
        std::fs::set_permissions(&to, PermissionsExt::from_mode(0o600)).unwrap();
        chown(&to, Some(owner.uid()), Some(owner.gid())).unwrap();
    }
    for (name, value) in
        [("ssl_cert_file", "server.pem"), ("ssl_key_file", "server.key"), ("ssl", "on")]
    {
        server.execute(&format!("ALTER SYSTEM SET {name} = '{value}'")).await.unwrap();
    }
    server.restart().await.unwrap();
    Base::on(Arc::new(server), "CREATE TABLE t (id int PRIMARY KEY)").await
}

/// Both kinds of connection: SQL for the check, the walsender for the slot.
async fn works(base: &Base, host: &str, tls: Value) -> Result<(), Error> {
    let source = base.source_with(json!({"host": host, "tls": tls})).await;
    source.check().await?;
    source.prepare(&source.discover().await?).await?;
    let sql = "SELECT bool_and(ssl) FROM pg_stat_ssl s JOIN pg_stat_activity a USING (pid) \
               WHERE a.application_name = 'lakeward'";
    let all = base.server.text(&base.name, sql).await.unwrap();
    let expected = if tls["mode"] == "disable" { "f" } else { "t" };
    assert_eq!(all.as_deref(), Some(expected), "{tls}");
    source.remove().await
}

#[tokio::test(flavor = "multi_thread")]
async fn each_mode_checks_what_it_says() {
    let base = encrypted().await;
    let authority = certificates().join("authority.pem");
    let trusting = |mode: &str| json!({"mode": mode, "ca_file": authority});
    for mode in ["disable", "prefer", "require"] {
        works(&base, "127.0.0.1", json!({"mode": mode})).await.unwrap();
    }
    works(&base, "127.0.0.1", trusting("verify_ca")).await.unwrap();
    works(&base, "localhost", trusting("verify_full")).await.unwrap();
    // The certificate does not name the address, and no public authority signed it.
    let refused = [
        ("127.0.0.1", trusting("verify_full")),
        ("localhost", json!({"mode": "verify_full"})),
        ("127.0.0.1", json!({"mode": "verify_ca"})),
    ];
    for (host, tls) in refused {
        let error = works(&base, host, tls.clone()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{tls}: {error}");
    }
}
