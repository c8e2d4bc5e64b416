//! Snapshot and stream over TLS, on a server that takes nothing else.

use hub_sdk::model::Checkpoint;
use serde_json::json;

use crate::rig::{Rig, Run};

const ONLY_TLS: &str = "host all postgres 127.0.0.1/32 trust\nhostssl all hub 127.0.0.1/32 scram-sha-256\n";

#[tokio::test]
async fn snapshot_and_changes_come_over_tls_with_the_servers_name_checked() {
    let rig = Rig::start(
        "CREATE TABLE t (id int PRIMARY KEY, a text); INSERT INTO t VALUES (1, 'x');
         CREATE ROLE hub SUPERUSER LOGIN PASSWORD 'mật khẩu';",
    )
    .await;
    rig.server.certify();
    rig.server.write("pg_hba.conf", ONLY_TLS);
    rig.run("ALTER SYSTEM SET ssl = on").await;
    rig.run("SELECT pg_reload_conf()").await;
    let tls = json!({"mode": "verify-full", "ca": rig.server.path("ca.pem")});
    let over = json!({"host": "localhost", "user": "hub", "password": "mật khẩu", "tls": tls});
    let connector = rig.connector_with(&["public.t"], over).await;
    let mut run = Run::start(&connector, &Checkpoint::empty());
    assert_eq!(run.rows().await.len(), 1, "the snapshot");
    rig.run("INSERT INTO t SELECT i, repeat('Đ', 1000) FROM generate_series(2, 5000) i").await;
    let mut rows = 0;
    while rows < 4999 {
        rows += run.rows().await.len();
    }
    let open = "SELECT count(*) > 0 AND bool_and(ssl) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE usename = 'hub'";
    assert!(rig.admin.query_one(open, &[]).await.unwrap().get::<_, bool>(0), "every connection of the hub is encrypted");
    run.shut().await;
}
