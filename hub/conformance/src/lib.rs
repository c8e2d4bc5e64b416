//! The kit that every connector must pass: the same claims, on a real server, gated by the abilities that it declares.
//!
//! A connector brings a [`Fixture`] in `tests/conformance.rs` of its own folder and nothing more:
//!
//! ```ignore
//! hub_conformance::conformance!(MyFixture);
//! ```
//!
//! A case whose ability the connector does not declare says so and ends; nothing is skipped for any other reason. A connector
//! in `connectors/all` without a fixture fails `tests/fixtures.rs` of this crate. `docs/writing-a-connector.md` is the guide.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "test support may panic; it says why")]

mod authority;
pub mod cases;
mod link;
mod replica;
mod run;

use std::collections::BTreeMap;

use hub_sdk::Connector;
use hub_sdk::model::StreamName;
use serde_json::Value;

pub use authority::authority;
pub use link::Link;
pub use replica::{NULL, Replica, cell};
pub use run::{Run, Stage};

/// A real source of one connector, with a stream of rows that the kit changes. Each case starts its own.
///
/// The stream has a column [`Fixture::KEY`] with numbers that identify its rows, and a column [`Fixture::VALUE`] of text that may be null.
/// What a source cannot do by its nature (truncate, say) is never asked of it: see [`hub_sdk::Abilities`].
pub trait Fixture: Sized + Send + 'static {
    /// The connector.
    type Connector: Connector;
    /// Name of the column that identifies a row.
    const KEY: &'static str = "id";
    /// Name of the text column.
    const VALUE: &'static str = "name";

    /// A source of its own whose stream has no rows yet.
    fn start() -> impl Future<Output = Self> + Send;

    /// The stream.
    fn stream(&self) -> StreamName;

    /// The `config:` section that reads it, through the link.
    fn config(&self) -> Value;

    /// Inserts rows, or changes those that are there; in one transaction where the source has such.
    fn put(&mut self, rows: &[(i64, Option<String>)]) -> impl Future<Output = ()> + Send;

    /// Deletes rows.
    fn delete(&mut self, ids: &[i64]) -> impl Future<Output = ()> + Send;

    /// Deletes all rows at once.
    fn truncate(&mut self) -> impl Future<Output = ()> + Send;

    /// The rows that are there: key and value as text, [`NULL`] for null.
    fn rows(&mut self) -> impl Future<Output = BTreeMap<String, String>> + Send;

    /// The stream that has a column of every type.
    fn extremes(&self) -> StreamName;

    /// Puts rows with the hardest values of every type into it, keyed from `first` on, the same each time; says how many.
    fn put_extremes(&mut self, first: i64) -> impl Future<Output = i64> + Send;

    /// Cuts the link: what runs ends, what comes is refused.
    fn cut(&mut self);

    /// Mends it.
    fn mend(&mut self);

    /// Ends the server at once and starts it again.
    fn restart(&mut self) -> impl Future<Output = ()> + Send;

    /// Adds a column to the stream.
    fn add_column(&mut self) -> impl Future<Output = ()> + Send;

    /// A configuration that the source refuses, and the secret in it that must never be shown.
    fn refused(&self) -> (Value, &'static str);

    /// What of the connector is still at the source.
    fn left_behind(&mut self) -> impl Future<Output = Vec<String>> + Send;
}

/// Runs every case of the kit as a test of its own.
#[macro_export]
macro_rules! conformance {
    ($fixture:ty) => {
        $crate::conformance!(@cases $fixture;
            snapshot: what_is_there_is_read_once,
            snapshot: snapshot_and_stream_give_identical_columns_and_values,
            snapshot: the_hand_off_has_no_gap_and_no_duplicate,
            snapshot: a_sample_and_a_scan_are_what_a_capture_yields,
            snapshot: once_all_is_read_it_says_that_it_follows,
            snapshot: discover_tells_the_columns_that_a_capture_yields,
            stream: changes_of_a_key_keep_their_order,
            stream: deletes_and_nulls_are_told,
            stream: a_truncate_is_told_at_its_place,
            stream: a_run_goes_on_from_every_checkpoint,
            stream: a_new_column_does_not_stop_the_stream,
            trouble: a_cut_link_is_unreachable_and_nothing_is_lost_by_it,
            trouble: a_server_that_starts_anew_costs_no_change,
            trouble: memory_stays_within_the_budget,
            trouble: a_shut_outlet_ends_a_run_in_time,
            trouble: a_released_system_leaves_nothing_behind,
            words: unknown_keys_of_the_configuration_are_refused,
            words: a_probe_is_ready_where_all_is_set_up,
            words: a_refused_login_is_told_without_its_secret,
            words: every_setting_is_explained,
            words: readme_and_types_are_written,
        );
    };
    (@cases $fixture:ty; $($part:ident: $case:ident,)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                $crate::cases::$part::$case::<$fixture>().await;
            }
        )*
    };
}
