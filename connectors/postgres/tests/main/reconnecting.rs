//! A link that breaks is told as such and replaced at the next call.

use std::path::Path;

use hub_connector_postgres::client::{Server, classify};
use hub_sdk::ErrorKind;
use serde_json::json;

use crate::source::{Source, port};

#[tokio::test]
async fn a_cut_connection_is_unreachable_and_the_next_one_is_new() {
    let source = Source::create(port(), "SELECT 1").await;
    let server = Server::new(&source.config(json!({})), Path::new(".")).unwrap();
    let client = server.connection().await.unwrap();
    let pid: i32 = client.query_one("SELECT pg_backend_pid()", &[]).await.unwrap().get(0);
    source.run(&format!("SELECT pg_terminate_backend({pid}, 10000)")).await;
    let error = client.query_one("SELECT 1", &[]).await.unwrap_err();
    assert_eq!(classify("asking", error).kind(), ErrorKind::Unreachable);
    drop(client);
    let again: i32 = server.connection().await.unwrap().query_one("SELECT pg_backend_pid()", &[]).await.unwrap().get(0);
    assert_ne!(again, pid);
    source.remove().await;
}

#[tokio::test]
async fn every_session_has_the_settings_that_give_text_one_form() {
    let source = Source::create(port(), "SELECT 1").await;
    source.run(&format!("ALTER DATABASE {} SET datestyle = 'SQL, DMY'", source.database)).await;
    source.run("ALTER ROLE $role SET timezone = 'Asia/Ho_Chi_Minh'").await;
    let server = Server::new(&source.config(json!({})), Path::new(".")).unwrap();
    let client = server.connection().await.unwrap();
    let text: String = client.query_one("SELECT timestamptz '2025-07-01 08:00:00+07'::text", &[]).await.unwrap().get(0);
    assert_eq!(text, "2025-07-01 01:00:00+00");
    source.remove().await;
}

#[tokio::test]
async fn a_missing_table_breaks_its_stream_and_a_missing_right_is_denied() {
    let source = Source::create(port(), "CREATE TABLE public.kin (a integer)").await;
    let server = Server::new(&source.config(json!({})), Path::new(".")).unwrap();
    let client = server.connection().await.unwrap();
    for (sql, kind) in [("SELECT * FROM public.khong", ErrorKind::StreamBroken), ("SELECT * FROM public.kin", ErrorKind::Denied)] {
        let error = client.query(sql, &[]).await.unwrap_err();
        assert_eq!(classify("reading", error).kind(), kind, "{sql}");
    }
    source.remove().await;
}
