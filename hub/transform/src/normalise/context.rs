//! What SQL in a mapping may use: functions that give the same for the same row, and PostgreSQL's meaning of type names.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use arrow::datatypes::{DataType, Field, FieldRef, TimeUnit};
use datafusion_common::config::ConfigOptions;
use datafusion_common::{Result, TableReference, plan_err};
use datafusion_expr::planner::{ContextProvider, ExprPlanner, TypePlanner};
use datafusion_expr::{AggregateUDF, HigherOrderUDF, ScalarUDF, TableSource, Volatility, WindowUDF};
use datafusion_sql::sqlparser::ast::{self, TimezoneInfo};

use crate::functions;

/// Why a function's name cannot stand in a mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unusable {
    /// No such function.
    Unknown,
    /// It depends on the clock, on chance or on the session.
    Unstable,
    /// It needs more than one row.
    ManyRows,
}

const MANY_ROWS: [&str; 18] = [
    "avg",
    "count",
    "sum",
    "min",
    "max",
    "array_agg",
    "string_agg",
    "bool_and",
    "bool_or",
    "median",
    "stddev",
    "first_value",
    "last_value",
    "row_number",
    "rank",
    "dense_rank",
    "lag",
    "lead",
];
/// Functions that are of use to query planners alone.
const INTERNAL: [&str; 12] = [
    "arrow_cast",
    "arrow_field",
    "arrow_try_cast",
    "cast_to_type",
    "try_cast_to_type",
    "arrow_metadata",
    "with_metadata",
    "get_field",
    "input_file_name",
    "file_row_index",
    "union_extract",
    "union_tag",
];

/// The functions of a mapping by name, aliases included.
static LIBRARY: LazyLock<BTreeMap<String, Arc<ScalarUDF>>> = LazyLock::new(|| {
    let mut library = BTreeMap::new();
    for function in datafusion_functions::all_default_functions() {
        for name in std::iter::once(function.name()).chain(function.aliases().iter().map(String::as_str)) {
            if !INTERNAL.contains(&name) {
                library.insert(name.to_owned(), Arc::clone(&function));
            }
        }
    }
    library
});

/// A function by its lower-case name; the domain's own come first.
pub(super) fn function(name: &str) -> Result<Arc<ScalarUDF>, Unusable> {
    if let Some(own) = functions::find(name) {
        return Ok(own);
    }
    if MANY_ROWS.contains(&name) {
        return Err(Unusable::ManyRows);
    }
    match LIBRARY.get(name) {
        Some(function) if function.signature().volatility == Volatility::Immutable => Ok(Arc::clone(function)),
        Some(_) => Err(Unusable::Unstable),
        None if matches!(name, "current_user" | "session_user" | "clock_timestamp" | "localtimestamp") => Err(Unusable::Unstable),
        None => Err(Unusable::Unknown),
    }
}

/// The names of SQL's general functions that mappings may use beside [`crate::functions::catalogue`], sorted.
pub fn general_functions() -> impl Iterator<Item = &'static str> {
    LIBRARY.iter().filter(|(_, function)| function.signature().volatility == Volatility::Immutable).map(|(name, _)| name.as_str())
}

/// What the SQL planner asks of its surroundings: functions and types, no tables.
pub(super) struct Context {
    options: ConfigOptions,
    planners: Vec<Arc<dyn ExprPlanner>>,
    types: Arc<PostgresTypes>,
}

impl Context {
    pub(super) fn new() -> Self {
        Self {
            options: ConfigOptions::default(),
            planners: vec![
                Arc::new(datafusion_functions::core::planner::CoreFunctionPlanner::default()),
                Arc::new(datafusion_functions::datetime::planner::DatetimeFunctionPlanner),
                Arc::new(datafusion_functions::unicode::planner::UnicodeFunctionPlanner),
            ],
            types: Arc::new(PostgresTypes),
        }
    }
}

impl ContextProvider for Context {
    fn get_table_source(&self, name: TableReference) -> Result<Arc<dyn TableSource>> {
        plan_err!("a mapping sees one row of one stream, there is no table {name}")
    }

    fn get_expr_planners(&self) -> &[Arc<dyn ExprPlanner>] {
        &self.planners
    }

    fn get_type_planner(&self) -> Option<Arc<dyn TypePlanner>> {
        Some(Arc::<PostgresTypes>::clone(&self.types))
    }

    fn get_function_meta(&self, name: &str) -> Option<Arc<ScalarUDF>> {
        function(name).ok()
    }

    fn get_higher_order_meta(&self, _: &str) -> Option<Arc<HigherOrderUDF>> {
        None
    }

    fn get_aggregate_meta(&self, _: &str) -> Option<Arc<AggregateUDF>> {
        None
    }

    fn get_window_meta(&self, _: &str) -> Option<Arc<WindowUDF>> {
        None
    }

    fn get_variable_type(&self, _: &[String]) -> Option<DataType> {
        None
    }

    fn options(&self) -> &ConfigOptions {
        &self.options
    }

    fn udf_names(&self) -> Vec<String> {
        functions::names().chain(general_functions()).map(str::to_owned).collect()
    }

    fn higher_order_function_names(&self) -> Vec<String> {
        Vec::new()
    }

    fn udaf_names(&self) -> Vec<String> {
        Vec::new()
    }

    fn udwf_names(&self) -> Vec<String> {
        Vec::new()
    }
}

/// Timestamps and times of microseconds, as PostgreSQL has them, where DataFusion takes nanoseconds.
#[derive(Debug)]
struct PostgresTypes;

impl TypePlanner for PostgresTypes {
    fn plan_type_field(&self, sql_type: &ast::DataType) -> Result<Option<FieldRef>> {
        let unit = |precision: &Option<u64>| match precision {
            Some(0) => TimeUnit::Second,
            Some(1..=3) => TimeUnit::Millisecond,
            Some(7..) => TimeUnit::Nanosecond,
            _ => TimeUnit::Microsecond,
        };
        let planned = match sql_type {
            ast::DataType::Timestamp(precision, TimezoneInfo::None | TimezoneInfo::WithoutTimeZone) => {
                DataType::Timestamp(unit(precision), None)
            }
            ast::DataType::Timestamp(precision, TimezoneInfo::WithTimeZone | TimezoneInfo::Tz) => {
                DataType::Timestamp(unit(precision), Some("UTC".into()))
            }
            ast::DataType::Time(_, TimezoneInfo::None | TimezoneInfo::WithoutTimeZone) => DataType::Time64(TimeUnit::Microsecond),
            ast::DataType::CharacterVarying(None) | ast::DataType::Character(None) => DataType::Utf8,
            _ => return Ok(None),
        };
        Ok(Some(Arc::new(Field::new("", planned, true))))
    }
}
