//! Checks a mapping against its source and its entity and plans it, once per shape of the source. Every fault is told, not the first.

use std::any::Any;
use std::collections::BTreeSet;
use std::hash::Hasher;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use datafusion_common::tree_node::{Transformed, TreeNode};
use datafusion_common::{DFSchema, DFSchemaRef, DataFusionError, ScalarValue};
use datafusion_expr::execution_props::ExecutionProps;
use datafusion_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion_expr::simplify::SimplifyContext;
use datafusion_expr::{Cast, Expr, ExprSchemable};
use datafusion_optimizer::simplify_expressions::ExprSimplifier;
use datafusion_physical_expr::expressions::BinaryExpr;
use datafusion_physical_expr::{PhysicalExpr, create_physical_expr};
use datafusion_sql::planner::{ParserOptions, PlannerContext, SqlToRel};
use datafusion_sql::sqlparser::ast;

use super::bind::Binder;
use super::context::Context;
use super::fault::MappingFault;
use super::fit::{Fit, fit, words};
use super::mapping::{Finish, Mapping, PlannedField};
use super::names::{Names, is_wanting, keyless, names, unmapped};
use super::resolve::{Columns, resolve};
use super::spec::{MappingSpec, Sql};
use super::target::{Symbols, Target, code_list, evaluated_type};
use crate::functions::{CodeLists, Fnv, faults};

/// What planning needs to know.
#[derive(Clone, Copy)]
pub struct PlanInput<'a> {
    /// The mapping.
    pub spec: &'a MappingSpec,
    /// The entity it fills.
    pub target: &'a Target,
    /// The source's columns as captured.
    pub source: &'a SchemaRef,
    /// The columns that deletes carry (key, replica identity; all of them with full images).
    pub identity: &'a [String],
    /// The code lists of the configuration.
    pub code_lists: &'a CodeLists,
    /// The system, for its codes.
    pub system: &'a str,
}

/// Plans a mapping.
///
/// # Errors
/// Everything that is wrong with it, each with its place and what would fit.
pub fn plan(input: &PlanInput<'_>) -> Result<Mapping, Vec<MappingFault>> {
    let schema = DFSchema::try_from(input.source.as_ref().clone())
        .map_err(|cause| vec![MappingFault::whole(format!("the source's columns cannot be used: {}", plain(&cause)))])?;
    let mut planner = Planner {
        input,
        schema: Arc::new(schema),
        context: Context::new(),
        binder: Binder::new(input.code_lists, input.system, &input.spec.codes),
        names: names(input.spec, Some(input.target)),
        faults: Vec::new(),
    };
    planner.faults.append(&mut planner.names.faults);
    if input.spec.key.is_empty() {
        planner.faults.push(keyless(input.spec));
    }
    let filter = input.spec.filter.as_ref().and_then(|sql| planner.filter(sql));
    let fields: Vec<Option<Logical>> = input.target.schema().fields().iter().map(|field| planner.field(field)).collect();
    planner.key(&fields);
    if !planner.faults.is_empty() {
        return Err(in_order(planner.faults));
    }
    planner.finish(filter, fields.into_iter().flatten().collect())
}

/// One expression, checked.
struct Logical {
    expr: Expr,
    columns: Vec<String>,
}

struct Planner<'a> {
    input: &'a PlanInput<'a>,
    schema: DFSchemaRef,
    context: Context,
    binder: Binder<'a>,
    names: Names,
    faults: Vec<MappingFault>,
}

impl Planner<'_> {
    fn filter(&mut self, sql: &Sql) -> Option<Logical> {
        let (expr, columns) = self.typed("where", sql)?;
        match expr.get_type(&self.schema) {
            Ok(DataType::Boolean | DataType::Null) => {}
            Ok(other) => {
                self.faults.push(no_condition(sql, &other));
                return None;
            }
            Err(cause) => {
                self.faults.push(MappingFault::of("where", sql, plain(&cause)));
                return None;
            }
        }
        let expr = self.simplified("where", sql, expr)?;
        Some(Logical { expr, columns })
    }

    fn field(&mut self, field: &FieldRef) -> Option<Logical> {
        let Some((_, sql)) = self.input.spec.fields.iter().find(|(name, _)| name == field.name()) else {
            return self.unmapped(field);
        };
        let (expr, columns) = self.typed(field.name(), sql)?;
        let given = match expr.get_type(&self.schema) {
            Ok(given) => given,
            Err(cause) => {
                self.faults.push(MappingFault::of(field.name(), sql, plain(&cause)));
                return None;
            }
        };
        if given == DataType::Null && !field.is_nullable() {
            self.faults.push(always_null(field, sql));
            return None;
        }
        let expr = match fit(&given, field) {
            Fit::Same => self.simplified(field.name(), sql, expr)?,
            Fit::Cast(to) => self.simplified(field.name(), sql, Expr::Cast(Cast::new(Box::new(expr), to)))?,
            Fit::No(remedy) => {
                let expr = self.simplified(field.name(), sql, expr)?;
                match exact(&expr, &evaluated_type(field)) {
                    Some(constant) => constant,
                    None => {
                        self.faults.push(misfit(field, sql, &given, &remedy));
                        return None;
                    }
                }
            }
        };
        Some(Logical { expr, columns })
    }

    fn unmapped(&mut self, field: &Field) -> Option<Logical> {
        let target = self.input.target;
        if is_wanting(field, target) {
            if !self.names.is_meant(field.name()) {
                self.faults.push(unmapped(field, self.input.spec));
            }
            return None;
        }
        match target.default_value(field) {
            Some(value) => Some(Logical { expr: Expr::Literal(value, None), columns: Vec::new() }),
            None => {
                let fault =
                    MappingFault { field: Some(field.name().clone()), ..MappingFault::whole("its default cannot be used here".to_owned()) };
                let fault = fault.in_place(self.input.spec.fields_place.as_ref());
                self.faults.push(fault.mend("map it"));
                None
            }
        }
    }

    /// Parses, resolves, binds and coerces an expression.
    fn typed(&mut self, field: &str, sql: &Sql) -> Option<(Expr, Vec<String>)> {
        let columns: Vec<&str> = self.input.source.fields().iter().map(|column| column.name().as_str()).collect();
        let typed = resolve(field, sql, Columns::Known(&columns)).and_then(|resolved| {
            let typed = typed(&self.context, &mut self.binder, &self.schema, field, sql, resolved.expr);
            Ok((typed.map_err(Mistyped::into_faults)?, resolved.columns))
        });
        match typed {
            Ok(typed) => Some(typed),
            Err(faults) => {
                self.faults.extend(faults);
                None
            }
        }
    }

    fn simplified(&mut self, field: &str, sql: &Sql, expr: Expr) -> Option<Expr> {
        match simplified(&self.schema, field, sql, expr) {
            Ok(simplified) => Some(simplified),
            Err(why) => {
                self.faults.extend(why.into_faults());
                None
            }
        }
    }

    /// Key expressions must be known for deletes too, which carry the identity alone.
    fn key(&mut self, fields: &[Option<Logical>]) {
        for name in &self.input.spec.key {
            let Ok(index) = self.input.target.schema().index_of(name) else {
                continue;
            };
            let Some(Some(logical)) = fields.get(index) else {
                continue;
            };
            let missing: Vec<&str> =
                logical.columns.iter().filter(|column| !self.input.identity.contains(column)).map(String::as_str).collect();
            if missing.is_empty() {
                continue;
            }
            let sql = self.input.spec.fields.iter().find(|(field, _)| field == name).map(|(_, sql)| sql.clone());
            let sql = sql.unwrap_or_else(|| Sql::from(""));
            let identity = if self.input.identity.is_empty() { "nothing".to_owned() } else { self.input.identity.join(", ") };
            let problem = format!("it is part of the key but reads {}, and a delete carries {identity} alone", missing.join(", "));
            let remedy = "make the key of columns that deletes carry: the source's own key, or those that `key` of the stream names under `config`; \
                          in PostgreSQL ALTER TABLE … REPLICA IDENTITY FULL makes deletes carry all of them";
            self.faults.push(MappingFault::of(name, &sql, problem).mend(remedy));
        }
    }

    /// Physical expressions over the columns that are read, and no others.
    fn finish(self, filter: Option<Logical>, fields: Vec<Logical>) -> Result<Mapping, Vec<MappingFault>> {
        let source = self.input.source;
        let read: BTreeSet<&str> = fields.iter().chain(&filter).flat_map(|logical| logical.columns.iter().map(String::as_str)).collect();
        let columns: Vec<usize> = (0..source.fields().len()).filter(|index| read.contains(source.field(*index).name().as_str())).collect();
        let input = Arc::new(Schema::new(columns.iter().map(|index| Arc::clone(&source.fields()[*index])).collect::<Vec<_>>()));
        let defect = |cause: DataFusionError| vec![MappingFault::whole(format!("the mapping cannot be planned: {}", plain(&cause)))];
        let schema = DFSchema::try_from(input.as_ref().clone()).map_err(defect)?;
        let physical = |expr: &Expr| -> Result<Arc<dyn PhysicalExpr>, Vec<MappingFault>> {
            let physical = create_physical_expr(expr, &schema, &ExecutionProps::new(), &PhysicalPlanningContext::default());
            physical.and_then(checked_arithmetic).map_err(defect)
        };
        let target = self.input.target.schema();
        let mut planned = Vec::with_capacity(fields.len());
        for (field, logical) in target.fields().iter().zip(&fields) {
            planned.push(PlannedField { field: Arc::clone(field), expr: physical(&logical.expr)?, finish: Finish::of(field) });
        }
        let key: Vec<usize> = self.input.spec.key.iter().filter_map(|name| target.index_of(name).ok()).collect();
        let filter_columns = filter.as_ref().map(|logical| logical.columns.clone()).unwrap_or_default();
        Ok(Mapping {
            entity: self.input.spec.entity.as_str().into(),
            version: self.version(),
            source: Arc::clone(source),
            key_schema: Arc::new(target.project(&key).map_err(|cause| vec![MappingFault::whole(cause.to_string())])?),
            target: Arc::clone(target),
            filter: filter.as_ref().map(|logical| physical(&logical.expr)).transpose()?,
            filter_by_identity: filter_columns.iter().all(|column| self.input.identity.contains(column)),
            columns,
            input,
            fields: planned,
            key,
        })
    }

    /// A hash of everything that decides what the mapping gives.
    fn version(&self) -> Arc<str> {
        let spec = self.input.spec;
        let mut hash = Fnv::default();
        let mut add = |text: &str| {
            hash.write(text.as_bytes());
            // Ends each text, so that "ab", "c" and "a", "bc" differ.
            hash.write(&[0xff]);
        };
        add(&spec.entity);
        add(self.input.system);
        add(spec.filter.as_ref().map_or("", |sql| sql.text.as_str()));
        spec.key.iter().for_each(|name| add(name));
        spec.fields.iter().for_each(|(name, sql)| {
            add(name);
            add(&sql.text);
        });
        for ((list, column), table) in &self.binder.used {
            add(list);
            add(column);
            table.entries().into_iter().for_each(|(local, code)| {
                add(local);
                add(code);
            });
        }
        format!("{:016x}", hash.finish()).into()
    }
}

/// Faults in the order of the file; what has no place comes last.
pub(super) fn in_order(mut faults: Vec<MappingFault>) -> Vec<MappingFault> {
    faults.sort_by_key(|fault| (fault.place.is_none(), fault.place.clone()));
    faults
}

/// Why an expression cannot be planned.
pub(super) enum Mistyped {
    /// Whatever the types of its columns: a constant is refused, `code` or `at_time_zone` names what there is not.
    Wrong(Vec<MappingFault>),
    /// It does not fit together.
    Unfit(MappingFault),
}

impl Mistyped {
    fn into_faults(self) -> Vec<MappingFault> {
        match self {
            Self::Wrong(faults) => faults,
            Self::Unfit(fault) => vec![fault],
        }
    }
}

/// Plans, binds and coerces an expression whose names are resolved, over columns of these types.
pub(super) fn typed(
    context: &Context,
    binder: &mut Binder<'_>,
    schema: &DFSchemaRef,
    field: &str,
    sql: &Sql,
    expr: ast::Expr,
) -> Result<Expr, Mistyped> {
    let unfit = |cause: DataFusionError| Mistyped::Unfit(MappingFault::of(field, sql, plain(&cause)));
    let options = ParserOptions::new()
        .with_enable_ident_normalization(false)
        .with_map_string_types_to_utf8view(false)
        .with_parse_float_as_decimal(true);
    let expr = SqlToRel::new_with_options(context, options).sql_to_expr(expr, schema, &mut PlannerContext::new()).map_err(unfit)?;
    let bound = binder.bind(field, sql, expr).map_err(Mistyped::Wrong)?;
    simplifier(schema).coerce(bound, schema).map_err(unfit)
}

fn simplifier(schema: &DFSchemaRef) -> ExprSimplifier {
    ExprSimplifier::new(SimplifyContext::builder().with_schema(Arc::clone(schema)).build())
}

/// Works out constants; one that a function refuses is a fault of the mapping.
pub(super) fn simplified(schema: &DFSchemaRef, field: &str, sql: &Sql, expr: Expr) -> Result<Expr, Mistyped> {
    let (simplified, refused) = faults::collect(|| simplifier(schema).simplify(expr));
    if let Some(first) = refused.first() {
        let problem = format!("a constant in it is refused ({}): {}", first.refusal.code, first.refusal.message);
        return Err(Mistyped::Wrong(vec![MappingFault::of(field, sql, problem)]));
    }
    simplified.map_err(|cause| Mistyped::Unfit(MappingFault::of(field, sql, plain(&cause))))
}

/// Lets arithmetic that overflows fail, where DataFusion would wrap around.
fn checked_arithmetic(expr: Arc<dyn PhysicalExpr>) -> datafusion_common::Result<Arc<dyn PhysicalExpr>> {
    let checked = expr.transform_up(|node| {
        let part: &dyn Any = node.as_ref();
        Ok(match part.downcast_ref::<BinaryExpr>() {
            Some(binary) => Transformed::yes(Arc::new(binary.clone().with_fail_on_overflow(true)) as Arc<dyn PhysicalExpr>),
            None => Transformed::no(node),
        })
    });
    checked.map(|checked| checked.data)
}

/// A numeric constant as its field's type, if that loses nothing.
pub(super) fn exact(expr: &Expr, wanted: &DataType) -> Option<Expr> {
    let Expr::Literal(value, _) = expr else {
        return None;
    };
    if !value.data_type().is_numeric() || !wanted.is_numeric() {
        return None;
    }
    let cast = value.cast_to(wanted).ok()?;
    let back: ScalarValue = cast.cast_to(&value.data_type()).ok()?;
    (back == *value).then_some(Expr::Literal(cast, None))
}

pub(super) fn no_condition(sql: &Sql, given: &DataType) -> MappingFault {
    MappingFault::of("where", sql, format!("a condition is wanted but the expression gives {}", words(given, None)))
        .mend(format!("compare it: {} = …", sql.text.trim()))
}

pub(super) fn always_null(field: &Field, sql: &Sql) -> MappingFault {
    MappingFault::of(field.name(), sql, "it is required but the expression is always null".to_owned())
        .mend("give a value, or make the field nullable in its schema")
}

pub(super) fn misfit(field: &Field, sql: &Sql, given: &DataType, remedy: &str) -> MappingFault {
    let symbols = Symbols::of(field);
    let wanted = words(field.data_type(), symbols.as_ref().map(Symbols::names));
    let remedy = remedy.replace("<list>", code_list(field).unwrap_or("<list>"));
    let written = sql.text.trim();
    // A compound expression keeps its meaning inside a comparison only in parentheses.
    let simple = written.ends_with(')') || written.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '"'));
    let inner = if simple || !remedy.starts_with("{}") { written.to_owned() } else { format!("({written})") };
    MappingFault::of(field.name(), sql, format!("wants {wanted} but the expression gives {}", words(given, None)))
        .mend(format!("write {}", remedy.replace("{}", &inner)))
}

/// An error of the planner in one line, without DataFusion's words for its own layers.
pub(super) fn plain(cause: &DataFusionError) -> String {
    const LAYERS: [&str; 9] = [
        "Error during planning: ",
        "Execution error: ",
        "Schema error: ",
        "Arrow error: ",
        "Cast error: ",
        "Optimizer rule 'simplify_expressions' failed",
        "type_coercion",
        "caused by",
        "This feature is not implemented: ",
    ];
    let text = cause.strip_backtrace();
    let mut line = text.lines().next().unwrap_or_default();
    // What our own functions say of their arguments comes wrapped in what DataFusion says of it.
    if let Some((_, own)) = line.rsplit_once("coercion failed with: ") {
        line = own;
    }
    while let Some(rest) = LAYERS.iter().find_map(|layer| line.strip_prefix(layer)) {
        line = rest;
    }
    line.to_owned()
}
