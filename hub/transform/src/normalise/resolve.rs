//! Finds every name in a parsed expression: columns as the source spells them, functions that exist. Tells all that are wrong at once.

use std::ops::ControlFlow;

use datafusion_sql::sqlparser::ast::{
    Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgumentList, FunctionArguments, Ident, ObjectName, ObjectNamePart, Value,
    visit_expressions_mut,
};
use datafusion_sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion_sql::sqlparser::parser::{Parser, ParserOptions};
use datafusion_sql::sqlparser::tokenizer::{Location, Token};
use unicode_normalization::UnicodeNormalization;

use super::context::{self, Unusable, general_functions};
use super::fault::{MappingFault, suggest};
use super::spec::Sql;
use crate::functions;

/// An expression whose names are those of the source, with the columns it reads.
pub(super) struct Resolved {
    /// Identifiers are quoted and spelt as the source has them.
    pub(super) expr: Expr,
    /// Columns in order of first use.
    pub(super) columns: Vec<String>,
}

/// The columns that an expression may name.
#[derive(Clone, Copy)]
pub(super) enum Columns<'a> {
    /// These.
    Known(&'a [&'a str]),
    /// The source has not been looked at: any name may be a column.
    Unseen,
}

/// Parses one expression and resolves its names.
pub(super) fn resolve(field: &str, sql: &Sql, columns: Columns<'_>) -> Result<Resolved, Vec<MappingFault>> {
    let mut expr = parse(field, sql).map_err(|fault| vec![fault])?;
    let mut names = Names { field, sql, columns, used: Vec::new(), faults: Vec::new() };
    let _: ControlFlow<()> = visit_expressions_mut(&mut expr, |node| {
        names.settle(node);
        ControlFlow::Continue(())
    });
    if names.faults.is_empty() { Ok(Resolved { expr, columns: names.used }) } else { Err(names.faults) }
}

/// Settles the names of one expression, part by part, inner parts first.
struct Names<'a> {
    field: &'a str,
    sql: &'a Sql,
    columns: Columns<'a>,
    used: Vec<String>,
    faults: Vec<MappingFault>,
}

impl Names<'_> {
    fn settle(&mut self, node: &mut Expr) {
        match node {
            Expr::Identifier(ident) => self.column(ident),
            Expr::CompoundIdentifier(parts) => {
                let written = parts.iter().map(|part| part.value.as_str()).collect::<Vec<_>>().join(".");
                let last = parts.last().map_or("", |part| part.value.as_str());
                let start = parts.first().map_or(Location::empty(), |part| part.span.start);
                let fault = self.fault(format!("{written} names a table, but a mapping sees one stream"));
                self.faults.push(at(fault, start).mend(format!("write {last} alone")));
            }
            Expr::Function(function) => self.function(function),
            // PostgreSQL's own way to write it.
            Expr::AtTimeZone { timestamp, time_zone } => {
                *node = call("at_time_zone", vec![*timestamp.clone(), *time_zone.clone()]);
            }
            Expr::Substring { expr, substring_from, substring_for, .. } => {
                let from = substring_from.take().map_or_else(|| Expr::value(Value::Number("1".to_owned(), false)), |from| *from);
                let arguments = [Some(*expr.clone()), Some(from), substring_for.take().map(|length| *length)];
                *node = call("substr", arguments.into_iter().flatten().collect());
            }
            Expr::Subquery(_) | Expr::Exists { .. } | Expr::InSubquery { .. } => {
                let fault = self.fault("a mapping sees one row of one stream, so it cannot hold a query".to_owned());
                self.faults.push(fault);
            }
            _ => {}
        }
    }

    fn fault(&self, problem: String) -> MappingFault {
        MappingFault::of(self.field, self.sql, problem)
    }

    fn column(&mut self, ident: &mut Ident) {
        let name = match self.columns {
            Columns::Unseen => {
                if ident.quote_style.is_some() {
                    ident.value.clone()
                } else {
                    ident.value.to_lowercase()
                }
            }
            Columns::Known(columns) => match column(ident, columns) {
                Some(name) => name.to_owned(),
                None => {
                    let fault = self.fault(format!("the source has no column {}", ident.value));
                    let remedy = suggest(&ident.value, "columns", columns.iter().copied());
                    return self.faults.push(at(fault, ident.span.start).mend(remedy));
                }
            },
        };
        if !self.used.contains(&name) {
            self.used.push(name.clone());
        }
        *ident = Ident { value: name, quote_style: Some('"'), span: ident.span };
    }

    fn function(&mut self, function: &mut Function) {
        let Some(ObjectNamePart::Identifier(ident)) = function.name.0.last_mut() else {
            return;
        };
        ident.value = ident.value.to_lowercase();
        ident.quote_style = None;
        let many_rows = function.over.is_some() || function.filter.is_some();
        let unusable = if many_rows { Some(Unusable::ManyRows) } else { context::function(&ident.value).err() };
        if let Some(why) = unusable {
            self.faults.push(at(unusable_function(self.field, self.sql, &ident.value, why), ident.span.start));
        }
    }
}

fn call(name: &str, arguments: Vec<Expr>) -> Expr {
    let args = arguments.into_iter().map(|argument| FunctionArg::Unnamed(FunctionArgExpr::Expr(argument))).collect();
    Expr::Function(Function {
        name: ObjectName::from(vec![Ident::new(name)]),
        uses_odbc_syntax: false,
        parameters: FunctionArguments::None,
        args: FunctionArguments::List(FunctionArgumentList { duplicate_treatment: None, args, clauses: Vec::new() }),
        filter: None,
        null_treatment: None,
        over: None,
        within_group: Vec::new(),
    })
}

fn unusable_function(field: &str, sql: &Sql, name: &str, why: Unusable) -> MappingFault {
    match why {
        Unusable::Unknown => {
            let known = functions::names().chain(general_functions());
            let plain = functions::split(name).0.to_owned();
            let fault = MappingFault::of(field, sql, format!("there is no function {name}"));
            match super::fault::nearest(&plain, known) {
                Some(near) => fault.mend(format!("did you mean {near}?")),
                None => fault.mend("`hub functions` lists them all"),
            }
        }
        Unusable::Unstable => MappingFault::of(field, sql, format!("{name} gives another result each time, so a replay would differ"))
            .mend("use a column of the source; every event carries the time of its change already"),
        Unusable::ManyRows => MappingFault::of(field, sql, format!("{name} needs many rows, but a mapping sees one"))
            .mend("compute it from the topic, as an indicator"),
    }
}

fn parse(field: &str, sql: &Sql) -> Result<Expr, MappingFault> {
    if sql.text.trim().is_empty() {
        return Err(MappingFault::of(field, sql, "the expression is empty".to_owned()).mend("write a column's name, or NULL"));
    }
    let dialect = PostgreSqlDialect {};
    let wrong = |cause: &dyn std::fmt::Display| {
        let (problem, start) = position(&cause.to_string());
        let fault = MappingFault::of(field, sql, format!("this is not an SQL expression: {problem}"));
        start.map_or(fault.clone(), |start| at(fault, start))
    };
    let options = ParserOptions::new().with_unescape(true);
    let mut parser = Parser::new(&dialect).with_options(options).try_with_sql(&sql.text).map_err(|cause| wrong(&cause))?;
    let expr = parser.parse_expr().map_err(|cause| wrong(&cause))?;
    let next = parser.peek_token();
    if next.token != Token::EOF {
        let fault = MappingFault::of(field, sql, format!("the expression should end before {}", next.token));
        return Err(at(fault, next.span.start).mend("a field takes one expression; names with blanks or capitals stand in double quotes"));
    }
    Ok(expr)
}

/// Moves a fault to a token, where the parser knows its place.
fn at(fault: MappingFault, start: Location) -> MappingFault {
    fault.at(start.line, start.column)
}

/// Splits the parser's message into what is wrong and where.
fn position(message: &str) -> (String, Option<Location>) {
    let message = message.trim_start_matches("sql parser error: ");
    let Some((problem, place)) = message.rsplit_once(" at Line: ") else {
        return (message.to_owned(), None);
    };
    let mut numbers = place.split(", Column: ").map(|number| number.trim().parse::<u64>());
    match (numbers.next(), numbers.next()) {
        (Some(Ok(line)), Some(Ok(column))) => (problem.to_owned(), Some(Location { line, column })),
        _ => (message.to_owned(), None),
    }
}

/// The source's column that an identifier means: as it is written, then small as PostgreSQL folds it, then in any case if that is
/// one column alone. Composed and decomposed spellings are the same.
fn column<'a>(ident: &Ident, columns: &[&'a str]) -> Option<&'a str> {
    if let Some(exact) = columns.iter().find(|column| **column == ident.value) {
        return Some(exact);
    }
    let fold = |text: &str| text.nfc().collect::<String>();
    let written = fold(&ident.value);
    if let Some(same) = columns.iter().find(|column| fold(column) == written) {
        return Some(same);
    }
    if ident.quote_style.is_some() {
        return None;
    }
    let small = written.to_lowercase();
    if let Some(folded) = columns.iter().find(|column| fold(column) == small) {
        return Some(folded);
    }
    let mut alike = columns.iter().filter(|column| fold(column).to_lowercase() == small);
    match (alike.next(), alike.next()) {
        (Some(only), None) => Some(only),
        _ => None,
    }
}
