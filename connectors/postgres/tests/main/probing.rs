//! `hub check` says in words what is wrong with a source, and its remedies mend it.

use std::path::Path;

use hub_connector_postgres::client::Server;
use hub_connector_postgres::config::PostgresConfig;
use hub_connector_postgres::probe::probe;
use hub_sdk::model::{StreamName, SystemName};
use hub_sdk::{Finding, Probe, StreamRequest};
use serde_json::json;

use crate::own_server::{HBA, OwnServer};
use crate::source::{Source, port, port18};

pub(crate) async fn check(config: &PostgresConfig, streams: &[(&str, &[&str])]) -> Probe {
    let server = Server::new(config, Path::new("/")).unwrap();
    let requests: Vec<_> = streams
        .iter()
        .map(|(stream, columns)| StreamRequest {
            stream: StreamName::new(stream).unwrap(),
            columns: columns.iter().map(|column| (*column).to_owned()).collect(),
        })
        .collect();
    let system = SystemName::new(&config.database.replace('_', "-")).unwrap();
    let answer = probe(&server, config, &system, &requests).await.unwrap();
    server.close();
    answer
}

pub(crate) fn fatal(probe: &Probe) -> Vec<&'static str> {
    probe.findings.iter().filter(|finding| finding.fatal).map(|finding| finding.code).collect()
}

fn finding<'a>(probe: &'a Probe, code: &str) -> &'a Finding {
    probe.findings.iter().find(|finding| finding.code == code).unwrap_or_else(|| panic!("no {code} in {:?}", probe.findings))
}

fn remedy<'a>(probe: &'a Probe, code: &str) -> &'a str {
    finding(probe, code).remedy.as_deref().unwrap()
}

const READY: &str = "
    GRANT CREATE ON DATABASE \"$database\" TO $role;
    CREATE TABLE public.ho_so (id integer PRIMARY KEY, ten text, dai integer GENERATED ALWAYS AS (length(ten)) STORED);
    ALTER TABLE public.ho_so OWNER TO $role;";

async fn ready(port: u16) -> Source {
    let source = Source::create(port, "SELECT 1").await;
    source.run(&READY.replace("$database", &source.database)).await;
    source
}

#[tokio::test]
async fn a_source_that_is_set_up_is_ready_on_every_version() {
    for port in [Some(port()), port18()].into_iter().flatten() {
        let source = ready(port).await;
        let answer = check(&source.config(json!({})), &[("public.ho_so", &["ten"])]).await;
        assert!(answer.is_ready(), "{:?}", answer.findings);
        assert!(answer.server.starts_with("PostgreSQL 1"), "{}", answer.server);
        // The stack bounds what a forgotten slot keeps, so not even a remark is left.
        assert_eq!(answer.findings.iter().map(|finding| finding.code).collect::<Vec<_>>(), Vec::<&str>::new());
        source.remove().await;
    }
}

#[tokio::test]
async fn a_refused_login_says_which_part_of_it_is_wrong() {
    let source = ready(port()).await;
    for (over, code) in [
        (json!({"password": "wrong"}), "wrong-password"),
        (json!({"password": ""}), "authentication"),
        (json!({"user": "nobody_at_all"}), "wrong-password"),
        (json!({"database": "no_such_database"}), "no-such-database"),
        (json!({"tls": {"mode": "require"}}), "tls-refused"),
        (json!({"port": 1}), "unreachable"),
        (json!({"host": "no-such-host.invalid"}), "unreachable"),
    ] {
        let answer = check(&source.config(over.clone()), &[]).await;
        assert_eq!(fatal(&answer), [code], "{over}: {:?}", answer.findings);
        let shown = format!("{:?}", answer.findings);
        assert!(!shown.contains("wrong\"") && !shown.contains(crate::source::PASSWORD), "{shown}");
    }
    source.run(&format!("REVOKE CONNECT ON DATABASE {} FROM PUBLIC, $role", source.database)).await;
    let answer = check(&source.config(json!({})), &[]).await;
    assert_eq!(fatal(&answer), ["no-connect-right"]);
    source.run(remedy(&answer, "no-connect-right")).await;
    source.run("ALTER ROLE $role NOLOGIN").await;
    let answer = check(&source.config(json!({})), &[]).await;
    assert_eq!(fatal(&answer), ["no-login-right"]);
    source.run(remedy(&answer, "no-login-right")).await;
    assert!(check(&source.config(json!({})), &[]).await.is_ready());
    source.remove().await;
}

#[tokio::test]
async fn missing_rights_are_told_together_and_their_remedies_mend_them() {
    let source = ready(port()).await;
    source
        .run(
            "ALTER ROLE $role NOREPLICATION;
             CREATE SCHEMA kin; CREATE TABLE kin.t (id integer PRIMARY KEY);
             CREATE TABLE public.an (id integer PRIMARY KEY); GRANT SELECT ON public.an TO $role;
             ALTER TABLE public.an ENABLE ROW LEVEL SECURITY;",
        )
        .await;
    let streams: &[(&str, &[&str])] = &[("kin.t", &[]), ("public.an", &[])];
    let answer = check(&source.config(json!({})), streams).await;
    assert_eq!(fatal(&answer), ["no-replication-right", "no-select-right", "row-security", "publication-not-creatable"]);
    for code in fatal(&answer) {
        let statement = remedy(&answer, code).split_once("run: ").map_or(remedy(&answer, code), |(_, statement)| statement);
        source.run(statement).await;
    }
    let answer = check(&source.config(json!({})), streams).await;
    assert_eq!(fatal(&answer), Vec::<&str>::new(), "{:?}", answer.findings);
    let more: &[(&str, &[&str])] = &[("kin.t", &[]), ("public.ho_so", &["id"])];
    let answer = check(&source.config(json!({})), more).await;
    assert_eq!(fatal(&answer), ["publication-lacks-table"]);
    source.remove().await;
}

#[tokio::test]
async fn a_partition_that_may_not_be_read_is_named() {
    let source = ready(port()).await;
    source
        .run(
            "CREATE TABLE public.nam (id integer PRIMARY KEY) PARTITION BY RANGE (id);
             CREATE TABLE public.nam_1 PARTITION OF public.nam FOR VALUES FROM (0) TO (9);
             CREATE TABLE public.nam_2 PARTITION OF public.nam FOR VALUES FROM (9) TO (99);
             GRANT SELECT ON public.nam, public.nam_1 TO $role;
             CREATE PUBLICATION cua_nam FOR TABLE public.nam WITH (publish_via_partition_root = true);",
        )
        .await;
    let config = source.config(json!({"publication": "cua_nam"}));
    let answer = check(&config, &[("public.nam", &[])]).await;
    assert_eq!(fatal(&answer), ["no-select-right"], "{:?}", answer.findings);
    assert!(remedy(&answer, "no-select-right").starts_with("GRANT SELECT ON public.nam_2 TO"), "{}", remedy(&answer, "no-select-right"));
    source.run(remedy(&answer, "no-select-right")).await;
    assert!(check(&config, &[("public.nam", &[])]).await.is_ready());
    source.remove().await;
}

#[tokio::test]
async fn what_is_mapped_and_not_there_is_told_with_what_may_be_meant() {
    let source = ready(port()).await;
    source
        .run(
            "CREATE VIEW public.xem AS SELECT 1 AS a; CREATE TABLE public.tran (a integer); ALTER TABLE public.tran OWNER TO $role;
             CREATE TABLE public.khong (a integer PRIMARY KEY); ALTER TABLE public.khong REPLICA IDENTITY NOTHING;
             ALTER TABLE public.khong OWNER TO $role;",
        )
        .await;
    let answer = check(
        &source.config(json!({})),
        &[
            ("Public.Ho_So", &[]),
            ("public.xem", &[]),
            ("public.ho_so", &["Ten", "dai", "ma"]),
            ("public.tran", &[]),
            ("public.khong", &[]),
            ("a.b", &[]),
        ],
    )
    .await;
    assert_eq!(
        fatal(&answer),
        [
            "table-missing",
            "not-a-table",
            "table-missing",
            "column-missing",
            "generated-column-mapped",
            "column-missing",
            "replica-identity-nothing",
            "no-key",
        ],
        "{:?}",
        answer.findings
    );
    assert_eq!(remedy(&answer, "table-missing"), "did you mean public.ho_so?");
    assert_eq!(remedy(&answer, "column-missing"), "did you mean ten?");
    source.remove().await;
}

#[tokio::test]
async fn a_database_of_unknown_encoding_is_worth_a_remark() {
    let source = Source::create_with(port(), "ENCODING 'SQL_ASCII' LOCALE 'C'", "SELECT 1").await;
    let answer = check(&source.config(json!({})), &[]).await;
    assert!(answer.is_ready() && !finding(&answer, "database-encoding").fatal);
    source.remove().await;
}

#[tokio::test]
async fn a_slot_of_somebody_else_is_not_taken_over() {
    let source = ready(port()).await;
    let slot = format!("hub_{}", source.database);
    source.run(&format!("SELECT pg_create_physical_replication_slot('{slot}')")).await;
    let answer = check(&source.config(json!({})), &[("public.ho_so", &["ten"])]).await;
    assert_eq!(fatal(&answer), ["slot-taken"]);
    source.run(&format!("SELECT pg_drop_replication_slot('{slot}')")).await;
    source.remove().await;
}

#[tokio::test]
async fn a_server_that_is_not_prepared_is_told_all_of_it_at_once() {
    let own = OwnServer::start("wal_level = replica\nmax_replication_slots = 1\nmax_wal_senders = 0", HBA);
    let source = ready(own.port).await;
    source.run("SELECT pg_create_physical_replication_slot('held')").await;
    let answer = check(&source.config(json!({"failover": true})), &[("public.ho_so", &["ten"])]).await;
    assert_eq!(fatal(&answer), ["wal-level", "no-free-slot", "no-free-walsender"]);
    assert!(!finding(&answer, "failover-unsupported").fatal);
    assert!(!finding(&answer, "wal-keep-unbounded").fatal);
    assert_eq!(remedy(&answer, "wal-level"), "ALTER SYSTEM SET wal_level = logical; then restart the server");
}

#[tokio::test]
async fn a_standby_is_told_from_a_primary() {
    let primary = OwnServer::start("wal_level = logical", HBA);
    let source = ready(primary.port).await;
    let standby = OwnServer::standby_of(&primary);
    let answer = check(&source.config(json!({"port": standby.port})), &[]).await;
    assert_eq!(fatal(&answer), ["standby-server"]);
}

#[tokio::test]
async fn a_publication_of_somebody_else_is_told_what_it_lacks_and_the_remedies_mend_it() {
    let source = ready(port()).await;
    source
        .run(
            "CREATE TABLE public.nam (id integer PRIMARY KEY, ten text) PARTITION BY RANGE (id); GRANT SELECT ON public.nam TO $role;
             GRANT SELECT ON public.ho_so TO $role;
             CREATE PUBLICATION cua_nguoi_khac FOR TABLE public.nam, public.ho_so WHERE (id > 5) WITH (publish = 'insert, update');",
        )
        .await;
    let config = source.config(json!({"publication": "cua_nguoi_khac"}));
    let streams: &[(&str, &[&str])] = &[("public.nam", &[]), ("public.ho_so", &["ten"])];
    let answer = check(&config, streams).await;
    assert_eq!(fatal(&answer), ["publication-not-via-root", "publication-incomplete"], "{:?}", answer.findings);
    assert!(finding(&answer, "publication-narrowed").message.contains("public.ho_so"), "a filter hides rows on purpose, perhaps");
    for code in fatal(&answer) {
        let statement = remedy(&answer, code).split_once("run: ").map_or(remedy(&answer, code), |(_, statement)| statement);
        source.run(statement).await;
    }
    let answer = check(&config, streams).await;
    assert_eq!(fatal(&answer), Vec::<&str>::new(), "{:?}", answer.findings);
    source.remove().await;
}

#[tokio::test]
async fn a_slot_that_is_read_already_or_lost_is_told() {
    let own = OwnServer::start("wal_level = logical\nmax_slot_wal_keep_size = 1MB\nmin_wal_size = 32MB\nmax_wal_size = 32MB", HBA);
    let source = ready(own.port).await;
    let slot = format!("hub_{}", source.database);
    source.run(&format!("SELECT pg_create_logical_replication_slot('{slot}', 'pgoutput')")).await;
    source.run("CREATE TABLE public.nhieu (t text)").await;
    for _ in 0..6 {
        // Each switch ends a segment of 16 MB.
        source.run("INSERT INTO public.nhieu VALUES ('x'); SELECT pg_switch_wal(); CHECKPOINT").await;
    }
    let answer = check(&source.config(json!({})), &[("public.ho_so", &["ten"])]).await;
    assert_eq!(fatal(&answer), ["slot-lost"], "{:?}", answer.findings);
    assert!(remedy(&answer, "slot-lost").contains("new snapshot"), "{}", remedy(&answer, "slot-lost"));
    source.run(remedy(&answer, "slot-lost").split_once(" then").unwrap().0).await;
    assert!(check(&source.config(json!({})), &[("public.ho_so", &["ten"])]).await.is_ready());

    source.run(&format!("SELECT pg_create_logical_replication_slot('{slot}', 'pgoutput')")).await;
    let mut reader = std::process::Command::new("/usr/lib/postgresql/15/bin/pg_recvlogical")
        .args(["-h", "127.0.0.1", "-p", &own.port.to_string(), "-U", "postgres", "-d", &source.database, "-S", &slot, "--start", "-f", "-"])
        .args(["-o", "proto_version=1", "-o", "publication_names=khong_co"])
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let active = format!("SELECT 1 FROM pg_replication_slots WHERE slot_name = '{slot}' AND active");
    while source.admin.query_opt(&active, &[]).await.unwrap().is_none() {
        assert!(reader.try_wait().unwrap().is_none(), "the other reader has ended");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let answer = check(&source.config(json!({})), &[("public.ho_so", &["ten"])]).await;
    assert!(!finding(&answer, "slot-active").fatal, "this may be the running hub itself");
    reader.kill().unwrap();
    reader.wait().unwrap();
}

#[tokio::test]
async fn a_server_that_is_full_and_a_role_that_is_not_there_are_told() {
    let own = OwnServer::start("wal_level = logical\nmax_connections = 5\nsuperuser_reserved_connections = 2\nmax_wal_senders = 2", HBA);
    let source = ready(own.port).await;
    let mut held = Vec::new();
    while let Ok((client, connection)) = tokio_postgres::connect(
        &format!(
            "host=127.0.0.1 port={} user={} password='{}' dbname={}",
            own.port,
            source.role,
            crate::source::PASSWORD.replace('\'', "\\'"),
            source.database
        ),
        tokio_postgres::NoTls,
    )
    .await
    {
        tokio::spawn(connection);
        held.push(client);
    }
    let answer = check(&source.config(json!({})), &[]).await;
    assert_eq!(fatal(&answer), ["no-free-connection"], "{:?}", answer.findings);
    drop(held);
    // By trust, the server says that there is no such role; with a password it would not.
    own.write("pg_hba.conf", "host all all 127.0.0.1/32 trust\n");
    source.run("SELECT pg_reload_conf()").await;
    let told = async || fatal(&check(&source.config(json!({"user": "khong_co_ai"})), &[]).await) == ["no-such-role"];
    for _ in 0..100 {
        if told().await {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    panic!("{:?}", check(&source.config(json!({"user": "khong_co_ai"})), &[]).await.findings);
}
