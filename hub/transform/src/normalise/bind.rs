//! Gives `code` and `at_time_zone` the tables that their constant arguments name.

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion_common::tree_node::{Transformed, TreeNode};
use datafusion_expr::expr::ScalarFunction;
use datafusion_expr::{Expr, ScalarUDF};

use super::fault::{MappingFault, suggest};
use super::spec::Sql;
use crate::functions::{self, Bound, BoundFunction, CodeLists, CodeTable, Refusals, Zone};

/// Looks tables up; keeps what was used.
pub(super) struct Binder<'a> {
    lists: &'a CodeLists,
    system: &'a str,
    columns: &'a BTreeMap<String, String>,
    zones: BTreeMap<String, Arc<Zone>>,
    /// Code tables that expressions use, by list and column.
    pub(super) used: BTreeMap<(String, String), Arc<CodeTable>>,
}

impl<'a> Binder<'a> {
    /// `columns` names, per list, the column of `system`'s codes where it is not the system's name.
    pub(super) fn new(lists: &'a CodeLists, system: &'a str, columns: &'a BTreeMap<String, String>) -> Self {
        Self { lists, system, columns, zones: BTreeMap::new(), used: BTreeMap::new() }
    }

    /// Binds every such call of an expression.
    pub(super) fn bind(&mut self, field: &str, sql: &Sql, expr: Expr) -> Result<Expr, Vec<MappingFault>> {
        let mut faults = Vec::new();
        let bound = expr.transform_up(|node| {
            let Expr::ScalarFunction(call) = node else {
                return Ok(Transformed::no(node));
            };
            let name = call.func.name().to_owned();
            let (plain, refusals) = functions::split(&name);
            let found = match plain {
                "code" => self.codes(&call.args),
                "at_time_zone" => self.zone(&call.args),
                _ => return Ok(Transformed::no(Expr::ScalarFunction(call))),
            };
            match found {
                Ok(Some((bound, value))) => Ok(Transformed::yes(call_of(bound, refusals, value))),
                Ok(None) => Ok(Transformed::no(Expr::ScalarFunction(call))),
                Err((problem, remedy)) => {
                    faults.push(MappingFault::of(field, sql, problem).mend(remedy));
                    Ok(Transformed::no(Expr::ScalarFunction(call)))
                }
            }
        });
        match bound {
            Ok(bound) if faults.is_empty() => Ok(bound.data),
            Ok(_) => Err(faults),
            Err(cause) => Err(vec![MappingFault::of(field, sql, cause.strip_backtrace())]),
        }
    }

    /// `None` for a list that could not be read: its own file has the fault.
    fn codes(&mut self, args: &[Expr]) -> Result<Option<(Bound, Expr)>, (String, String)> {
        let usage = || "write code('<list>', '<system>', <column>) or code('<list>', <column>)".to_owned();
        let (list, system, value) = match args {
            [list, value] => (constant(list), Some(self.system), value),
            [list, system, value] => (constant(list), constant(system), value),
            _ => return Err((format!("code takes 2 or 3 arguments and is given {}", args.len()), usage())),
        };
        let (Some(list), Some(system)) = (list, system) else {
            return Err(("the list and the system of code must be constants".to_owned(), usage()));
        };
        let Some(known) = self.lists.get(list) else {
            if self.lists.is_set_aside(list) {
                return Ok(None);
            }
            let names: Vec<&str> = self.lists.names().collect();
            return Err((format!("there is no code list {list}"), suggest(list, "code lists", names.iter().copied())));
        };
        let column = if system == self.system { self.columns.get(list).map_or(system, String::as_str) } else { system };
        let Some(table) = known.table(column) else {
            let systems: Vec<&str> = known.systems().collect();
            return Err((
                format!("code list {list} has no column {column}"),
                format!("{}; or add the column to the list's file", suggest(column, "columns", systems.iter().copied())),
            ));
        };
        self.used.insert((list.to_owned(), column.to_owned()), Arc::clone(table));
        Ok(Some((Bound::Codes(Arc::clone(table)), value.clone())))
    }

    fn zone(&mut self, args: &[Expr]) -> Result<Option<(Bound, Expr)>, (String, String)> {
        let usage = || "write at_time_zone(<column>, 'Asia/Ho_Chi_Minh')".to_owned();
        let [value, zone] = args else {
            return Err((format!("at_time_zone takes 2 arguments and is given {}", args.len()), usage()));
        };
        let Some(zone) = constant(zone) else {
            return Err(("the zone of at_time_zone must be a constant".to_owned(), usage()));
        };
        let table = match self.zones.get(zone) {
            Some(known) => Arc::clone(known),
            None => {
                let found = Zone::find(zone).ok_or_else(|| (format!("there is no time zone {zone}"), usage()))?;
                let found = Arc::new(found);
                self.zones.insert(zone.to_owned(), Arc::clone(&found));
                found
            }
        };
        Ok(Some((Bound::Zone(table), value.clone())))
    }
}

fn call_of(bound: Bound, refusals: Refusals, value: Expr) -> Expr {
    let function = ScalarUDF::new_from_impl(BoundFunction::new(bound, refusals));
    Expr::ScalarFunction(ScalarFunction::new_udf(Arc::new(function), vec![value]))
}

/// The text of a constant.
fn constant(expr: &Expr) -> Option<&str> {
    match expr {
        Expr::Literal(value, _) => value.try_as_str().flatten(),
        _ => None,
    }
}
