//! The connectors that are compiled in: one readable list. Adding one touches its own folder and one line here.

use hub_sdk::Kind;

/// Every kind of connector, by name.
#[must_use]
pub fn kinds() -> Vec<Kind> {
    vec![
        Kind::of::<hub_connector_exec::Exec>(),
        Kind::of::<hub_connector_files::Files>(),
        Kind::of::<hub_connector_http::Http>(),
        Kind::of::<hub_connector_mysql::Mysql>(),
        Kind::of::<hub_connector_odbc::Odbc>(),
        Kind::of::<hub_connector_postgres::Postgres>(),
        Kind::of::<hub_connector_webhook::Webhook>(),
    ]
}
