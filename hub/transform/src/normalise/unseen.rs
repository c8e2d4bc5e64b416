//! What can be said of a mapping before its source is looked at: everything but its columns and what hangs on their types.
//!
//! Nothing is reported that some source could make right. So an expression is tried over columns of one type after the other:
//! it is at fault where it fits together over none of them, or gives over all of them the same type, and that does not fit.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use datafusion_common::DFSchema;
use datafusion_expr::{Expr, ExprSchemable};
use datafusion_sql::sqlparser::ast;

use super::bind::Binder;
use super::context::Context;
use super::fault::MappingFault;
use super::fit::{Fit, fit};
use super::names::{is_wanting, names, unmapped};
use super::plan::{Mistyped, always_null, exact, in_order, misfit, no_condition, plain, simplified, typed};
use super::resolve::{Columns, resolve};
use super::spec::{MappingSpec, Sql};
use super::target::{Target, evaluated_type};
use crate::functions::CodeLists;

/// What is known without the source.
#[derive(Clone, Copy)]
pub struct Unseen<'a> {
    /// The mapping. An empty key is not judged here: whoever read the file knows whether it is a fault or could not be read.
    pub spec: &'a MappingSpec,
    /// The entity it fills, where that is known.
    pub target: Option<&'a Target>,
    /// The code lists of the configuration.
    pub code_lists: &'a CodeLists,
    /// The system, for its codes.
    pub system: &'a str,
}

/// Everything that is wrong with a mapping whatever its source has, in the order of the file.
#[must_use]
pub fn check_unseen(input: &Unseen<'_>) -> Vec<MappingFault> {
    let spec = input.spec;
    let mut names = names(spec, input.target);
    let mut faults = std::mem::take(&mut names.faults);
    let mut judge = Judge { context: Context::new(), binder: Binder::new(input.code_lists, input.system, &spec.codes) };
    if let Some(sql) = &spec.filter {
        faults.extend(judge.expression("where", sql, Wanted::Condition));
    }
    for (name, sql) in &spec.fields {
        let field = input.target.and_then(|target| target.schema().field_with_name(name).ok());
        faults.extend(judge.expression(name, sql, field.map_or(Wanted::Anything, Wanted::Field)));
    }
    for field in input.target.iter().flat_map(|target| target.schema().fields().iter().map(move |field| (field, target))) {
        let (field, target) = field;
        let is_mapped = spec.fields.iter().any(|(name, _)| name == field.name());
        if !is_mapped && is_wanting(field, target) && !names.is_meant(field.name()) {
            faults.push(unmapped(field, spec));
        }
    }
    in_order(faults)
}

/// What an expression must give.
#[derive(Clone, Copy)]
enum Wanted<'a> {
    /// Whatever it gives: its field is not known.
    Anything,
    /// True or false.
    Condition,
    /// A field's value.
    Field(&'a Field),
}

impl Wanted<'_> {
    fn is_met(self, given: &DataType) -> bool {
        match self {
            Self::Anything => true,
            Self::Condition => matches!(given, DataType::Boolean | DataType::Null),
            Self::Field(field) => !matches!(fit(given, field), Fit::No(_)),
        }
    }

    fn misfit(self, sql: &Sql, given: &DataType) -> Option<MappingFault> {
        match self {
            Self::Anything => None,
            Self::Condition => Some(no_condition(sql, given)),
            Self::Field(field) => match fit(given, field) {
                Fit::No(remedy) => Some(misfit(field, sql, given, &remedy)),
                Fit::Same | Fit::Cast(_) => None,
            },
        }
    }
}

/// An expression over columns of some types.
enum Tried {
    /// It gives what is wanted.
    Fits,
    /// It gives another type.
    Gives(DataType),
    /// It does not fit together.
    Unfit(MappingFault),
    /// It is wrong whatever the types.
    Wrong(Vec<MappingFault>),
}

impl From<Mistyped> for Tried {
    fn from(why: Mistyped) -> Self {
        match why {
            Mistyped::Wrong(faults) => Self::Wrong(faults),
            Mistyped::Unfit(fault) => Self::Unfit(fault),
        }
    }
}

struct Judge<'a> {
    context: Context,
    binder: Binder<'a>,
}

impl Judge<'_> {
    fn expression(&mut self, field: &str, sql: &Sql, wanted: Wanted<'_>) -> Vec<MappingFault> {
        let resolved = match resolve(field, sql, Columns::Unseen) {
            Ok(resolved) => resolved,
            Err(faults) => return faults,
        };
        if matches!(resolved.expr, ast::Expr::Identifier(_)) {
            return Vec::new();
        }
        let columns = &resolved.columns;
        let mut unfit: Vec<MappingFault> = Vec::new();
        let mut given: Vec<DataType> = Vec::new();
        for types in assignments(columns.len(), wanted) {
            match self.over(columns, &types, field, sql, &resolved.expr, wanted) {
                Tried::Fits => return Vec::new(),
                Tried::Wrong(faults) => return faults,
                Tried::Unfit(fault) => unfit.push(fault),
                Tried::Gives(other) => given.push(other),
            }
        }
        if let Some(first) = given.first() {
            let is_certain = columns.len() <= TRIED_WHOLE && given.iter().all(|other| other == first);
            return is_certain.then(|| wanted.misfit(sql, first)).flatten().into_iter().collect();
        }
        // A null goes where any type goes, so what fails over nulls too says best what is wrong.
        let nulls = vec![DataType::Null; columns.len()];
        let Tried::Unfit(last) = self.over(columns, &nulls, field, sql, &resolved.expr, wanted) else { return Vec::new() };
        let is_certain = columns.len() <= TRIED_WITH_ALL || unfit.iter().all(|fault| fault.problem == last.problem);
        if is_certain { vec![last] } else { Vec::new() }
    }

    fn over(&mut self, columns: &[String], types: &[DataType], field: &str, sql: &Sql, expr: &ast::Expr, wanted: Wanted<'_>) -> Tried {
        let fields: Vec<Field> = columns.iter().zip(types).map(|(name, of)| Field::new(name, of.clone(), true)).collect();
        let schema = match DFSchema::try_from(Schema::new(fields)) {
            Ok(schema) => Arc::new(schema),
            Err(cause) => return Tried::Unfit(MappingFault::of(field, sql, plain(&cause))),
        };
        let typed = match typed(&self.context, &mut self.binder, &schema, field, sql, expr.clone()) {
            Ok(typed) => typed,
            Err(why) => return why.into(),
        };
        let given = match typed.get_type(&schema) {
            Ok(given) => given,
            Err(cause) => return Tried::Unfit(MappingFault::of(field, sql, plain(&cause))),
        };
        let simple = match simplified(&schema, field, sql, typed) {
            Ok(simple) => simple,
            Err(why) => return why.into(),
        };
        match wanted {
            Wanted::Field(of) if given == DataType::Null && columns.is_empty() && !of.is_nullable() => {
                Tried::Wrong(vec![always_null(of, sql)])
            }
            Wanted::Field(of) if !wanted.is_met(&given) && is_exact(&simple, of) => Tried::Fits,
            _ if wanted.is_met(&given) => Tried::Fits,
            _ => Tried::Gives(given),
        }
    }
}

fn is_exact(expr: &Expr, field: &Field) -> bool {
    exact(expr, &evaluated_type(field)).is_some()
}

/// Up to so many columns, each is given each of [`ALL`].
const TRIED_WITH_ALL: usize = 2;
/// Up to so many columns, each is given each of [`FEW`].
const TRIED_WHOLE: usize = 4;

const ALL: [DataType; 12] = [
    DataType::Utf8,
    DataType::Int64,
    DataType::Timestamp(TimeUnit::Microsecond, None),
    DataType::Date32,
    DataType::Decimal128(14, 2),
    DataType::Boolean,
    DataType::Int32,
    DataType::Float64,
    DataType::Decimal128(9, 0),
    DataType::Timestamp(TimeUnit::Millisecond, None),
    DataType::Time64(TimeUnit::Microsecond),
    DataType::Binary,
];
const FEW: [DataType; 5] =
    [DataType::Utf8, DataType::Int64, DataType::Boolean, DataType::Timestamp(TimeUnit::Microsecond, None), DataType::Decimal128(14, 2)];

/// The types that the columns of an expression are given in turn, the likeliest first.
fn assignments(columns: usize, wanted: Wanted<'_>) -> Vec<Vec<DataType>> {
    let mut types = ALL.to_vec();
    types.push(DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())));
    if (TRIED_WITH_ALL + 1..=TRIED_WHOLE).contains(&columns) {
        types = FEW.to_vec();
    }
    if let Wanted::Field(field) = wanted {
        types.insert(0, evaluated_type(field));
    }
    if columns > TRIED_WHOLE {
        return types.into_iter().map(|of| vec![of; columns]).collect();
    }
    let mut found: Vec<Vec<DataType>> = vec![Vec::new()];
    for _ in 0..columns {
        let longer = |shorter: &Vec<DataType>| {
            let shorter = shorter.clone();
            types.iter().map(move |of| shorter.iter().cloned().chain([of.clone()]).collect::<Vec<_>>()).collect::<Vec<_>>()
        };
        found = found.iter().flat_map(longer).collect();
    }
    found
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]
    use std::collections::BTreeMap;

    use super::*;
    use crate::normalise::Place;

    const LIST: &str = "code,title_vi,title_en,mot-cua\nreceived,,,1\n";

    fn target() -> Target {
        Target::new(Arc::new(Schema::new(vec![
            Field::new("code", DataType::Utf8, false),
            Field::new("owner", DataType::Utf8, false),
            Field::new("name", DataType::Utf8, true),
            Field::new("born", DataType::Date32, true),
            Field::new("received_at", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), true),
            Field::new("fee", DataType::Decimal128(14, 2), true),
            Field::new("pages", DataType::Int64, true),
            Field::new("ratio", DataType::Float64, true),
            Field::new("open", DataType::Boolean, true),
        ])))
    }

    /// Each expression on a line of its own, from 11 on, at column 13; the key on line 9.
    fn told(key: &str, filter: Option<&str>, fields: &[(&str, &str)]) -> Vec<String> {
        let place = |line: usize| Some(Place { file: "s.yaml".into(), line: u32::try_from(line).unwrap(), column: 13 });
        let sql = |line: usize, text: &str| Sql { text: text.to_owned(), place: place(line) };
        let mut code_lists = CodeLists::default();
        code_lists.add("status", LIST, "codes/status.csv").unwrap();
        code_lists.set_aside("broken");
        let spec = MappingSpec {
            entity: "x.Y".to_owned(),
            filter: filter.map(|text| sql(10, text)),
            key: vec![key.to_owned()],
            fields: fields.iter().enumerate().map(|(at, (name, text))| ((*name).to_owned(), sql(at + 11, text))).collect(),
            codes: BTreeMap::new(),
            key_place: place(9),
            fields_place: place(11),
        };
        let input = Unseen { spec: &spec, target: Some(&target()), code_lists: &code_lists, system: "mot-cua" };
        check_unseen(&input).iter().map(ToString::to_string).collect()
    }

    fn told_of(field: &str, expression: &str) -> Vec<String> {
        told("code", None, &[("code", "a"), ("owner", "b"), (field, expression)])
    }

    #[test]
    fn what_no_source_can_make_right_is_told_all_at_once_with_its_place() {
        let found = told(
            "cod",
            Some("length(a)"),
            &[
                ("coode", "ma"),
                ("name", "propper_name(a)"),
                ("born", "a +"),
                ("fee", "code('statuss', a) || code('status', 'dvc', a)"),
                ("pages", "a.b"),
            ],
        );
        let expected = [
            "s.yaml:9:13: key field cod is not in x.Y; did you mean code?",
            "s.yaml:10:13: where: a condition is wanted but the expression gives int; compare it: length(a) = …",
            "s.yaml:11:13: field coode: x.Y has no such field; did you mean code?",
            "s.yaml:11:13: field owner: it is required (text) and not mapped; map it, or give it a default in its schema",
            "s.yaml:12:13: field name: there is no function propper_name; did you mean proper_name?",
            "s.yaml:13:13: field born: this is not an SQL expression: Expected: an expression, found: EOF",
            "s.yaml:14:13: field fee: there is no code list statuss; did you mean status?",
            "s.yaml:14:13: field fee: code list status has no column dvc; the columns are code, mot-cua; or add the column to the list's file",
            "s.yaml:15:13: field pages: a.b names a table, but a mapping sees one stream; write b alone",
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn a_type_that_misfits_whatever_the_source_has_is_told() {
        for (field, expression, said) in [
            ("born", "personal_id(a)", "wants date but the expression gives text; write vn_date(personal_id(a))"),
            ("fee", "CAST(a AS DOUBLE PRECISION)", "wants decimal(14,2) but"),
            ("name", "CAST(a AS INT)", "wants text but the expression gives int"),
            ("pages", "upper(a)", "wants bigint but the expression gives text"),
            ("open", "CASE WHEN a = 1 THEN 1 ELSE 0 END", "wants boolean but"),
            ("name", "a AND b > 5", "wants text but the expression gives boolean"),
            ("born", "vn_date(at_time_zone(a, 'Asia/Ho_Chi_Minh'))", "vn_date"),
            ("born", "vn_date(a, b, c, d, e)", "vn_date"),
            ("born", "vn_date('31/02/2000')", "a constant in it is refused"),
            ("received_at", "at_time_zone(a, 'Asia/Saigonn')", "there is no time zone Asia/Saigonn"),
            ("code", "NULL", "it is required but the expression is always null"),
        ] {
            let fields: Vec<(&str, &str)> = [("code", "a"), ("owner", "b")].into_iter().filter(|(name, _)| *name != field).collect();
            let found = told("code", None, &[&fields[..], &[(field, expression)]].concat());
            assert_eq!(found.len(), 1, "{expression}: {found:?}");
            assert!(found[0].contains(said) && found[0].contains(&format!("field {field}: ")), "{expression}: {found:?}");
        }
    }

    #[test]
    fn what_some_source_makes_right_is_never_told() {
        for (field, expression) in [
            ("name", "a"),
            ("name", "trim(a) || ' ' || trim(b) || ' ' || coalesce(c, d, e)"),
            ("name", "substring(a from 2 for 3)"),
            ("name", "code('status', a)"),
            ("name", "try_code('broken', 'nobody', a)"),
            ("name", "CASE WHEN a THEN b WHEN c THEN d ELSE e END"),
            ("born", "CASE WHEN a > DATE '9999-12-31' THEN NULL ELSE a END"),
            ("born", "coalesce(vn_date(a), b)"),
            ("born", "CAST(a AS DATE)"),
            ("born", "CASE WHEN a = 1 THEN vn_date(b) ELSE c END"),
            ("received_at", "at_time_zone(vn_timestamp(a), 'Asia/Ho_Chi_Minh')"),
            ("received_at", "a AT TIME ZONE 'Asia/Ho_Chi_Minh'"),
            ("received_at", "coalesce(a, b)"),
            ("fee", "CAST(a * b AS DECIMAL(14,2))"),
            ("fee", "a + b + c + d"),
            ("fee", "a * 1.1"),
            ("fee", "coalesce(a, 0)"),
            ("fee", "10"),
            ("pages", "a + b"),
            ("pages", "length(a) + b"),
            ("pages", "abs(a)"),
            ("ratio", "a / b"),
            ("ratio", "round(a)"),
            ("open", "NOT a"),
            ("open", "a IN ('1', 'X') OR b IS NULL OR c BETWEEN 1 AND 5"),
            ("open", "a LIKE 'x%' AND length(b) = c AND d"),
        ] {
            assert_eq!(told_of(field, expression), Vec::<String>::new(), "{expression}");
            let filtered = told("code", Some(&format!("({expression}) IS NOT NULL")), &[("code", "a"), ("owner", "b")]);
            assert_eq!(filtered, Vec::<String>::new(), "{expression}");
        }
    }

    #[test]
    fn without_the_entity_expressions_are_still_checked() {
        let spec = MappingSpec {
            entity: "x.Y".to_owned(),
            filter: None,
            key: vec!["code".to_owned()],
            fields: vec![("any".to_owned(), Sql::from("no_such(a)"))],
            codes: BTreeMap::new(),
            key_place: None,
            fields_place: None,
        };
        let found = check_unseen(&Unseen { spec: &spec, target: None, code_lists: &CodeLists::unread(), system: "s" });
        let found: Vec<String> = found.iter().map(ToString::to_string).collect();
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[0].contains("key field code is not mapped") && found[1].contains("no_such"), "{found:?}");
    }
}
