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

use super::bind::Binder;
use super::context::Context;
use super::fault::{MappingFault, suggest};
use super::fit::{Fit, fit, words};
use super::mapping::{Finish, Mapping, PlannedField};
use super::resolve::resolve;
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
        faults: Vec::new(),
    };
    planner.names();
    let filter = input.spec.filter.as_ref().and_then(|sql| planner.filter(sql));
    let fields: Vec<Option<Logical>> = input.target.schema().fields().iter().map(|field| planner.field(field)).collect();
    planner.key(&fields);
    if !planner.faults.is_empty() {
        // In the order of the file; what has no place comes last.
        planner.faults.sort_by_key(|fault| (fault.place.is_none(), fault.place.clone()));
        return Err(planner.faults);
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
    faults: Vec<MappingFault>,
}

impl Planner<'_> {
    /// Fields that are mapped twice or do not exist, and keys that are not fields.
    fn names(&mut self) {
        let target = self.input.target.schema();
        let names = || target.fields().iter().map(|field| field.name().as_str());
        let entity = &self.input.spec.entity;
        let mut seen = BTreeSet::new();
        for (name, sql) in &self.input.spec.fields {
            if !seen.insert(name) {
                self.faults.push(MappingFault::of(name, sql, "it is mapped a second time".to_owned()));
            } else if target.field_with_name(name).is_err() {
                let fault = MappingFault::of(name, sql, format!("{entity} has no such field"));
                self.faults.push(fault.mend(suggest(name, "fields", names())));
            }
        }
        if self.input.spec.key.is_empty() {
            self.faults
                .push(MappingFault::whole(format!("the mapping of {entity} has no key")).mend("name the fields that identify a record"));
        }
        for name in &self.input.spec.key {
            if target.field_with_name(name).is_err() {
                let fault = MappingFault::whole(format!("key field {name} is not in {entity}"));
                self.faults.push(fault.mend(suggest(name, "fields", names())));
            } else if !seen.contains(name) {
                self.faults.push(MappingFault::whole(format!("key field {name} is not mapped")).mend("add an expression for it"));
            }
        }
    }

    fn filter(&mut self, sql: &Sql) -> Option<Logical> {
        let (expr, columns) = self.typed("where", sql)?;
        match expr.get_type(&self.schema) {
            Ok(DataType::Boolean | DataType::Null) => {}
            Ok(other) => {
                let fault =
                    MappingFault::of("where", sql, format!("a condition is wanted but the expression gives {}", words(&other, None)));
                self.faults.push(fault.mend(format!("compare it: {} = …", sql.text.trim())));
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
            let fault = MappingFault::of(field.name(), sql, "it is required but the expression is always null".to_owned());
            self.faults.push(fault.mend("give a value, or make the field nullable in its schema"));
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
        if !field.is_nullable() && !target.has_default(field.name()) {
            let wanted = words(field.data_type(), Symbols::of(field).as_ref().map(Symbols::names));
            let fault = MappingFault {
                field: Some(field.name().clone()),
                ..MappingFault::whole(format!("it is required ({wanted}) and not mapped"))
            };
            self.faults.push(fault.mend("map it, or give it a default in its schema"));
            return None;
        }
        match target.default_value(field) {
            Some(value) => Some(Logical { expr: Expr::Literal(value, None), columns: Vec::new() }),
            None => {
                let fault =
                    MappingFault { field: Some(field.name().clone()), ..MappingFault::whole("its default cannot be used here".to_owned()) };
                self.faults.push(fault.mend("map it"));
                None
            }
        }
    }

    /// Parses, resolves, binds and coerces an expression.
    fn typed(&mut self, field: &str, sql: &Sql) -> Option<(Expr, Vec<String>)> {
        let columns: Vec<&str> = self.input.source.fields().iter().map(|column| column.name().as_str()).collect();
        let resolved = match resolve(field, sql, &columns) {
            Ok(resolved) => resolved,
            Err(faults) => {
                self.faults.extend(faults);
                return None;
            }
        };
        let options = ParserOptions::new()
            .with_enable_ident_normalization(false)
            .with_map_string_types_to_utf8view(false)
            .with_parse_float_as_decimal(true);
        let expr = SqlToRel::new_with_options(&self.context, options).sql_to_expr(resolved.expr, &self.schema, &mut PlannerContext::new());
        let expr = match expr {
            Ok(expr) => expr,
            Err(cause) => {
                self.faults.push(MappingFault::of(field, sql, plain(&cause)));
                return None;
            }
        };
        let bound = match self.binder.bind(field, sql, expr) {
            Ok(bound) => bound,
            Err(faults) => {
                self.faults.extend(faults);
                return None;
            }
        };
        match self.simplifier().coerce(bound, &self.schema) {
            Ok(coerced) => Some((coerced, resolved.columns)),
            Err(cause) => {
                self.faults.push(MappingFault::of(field, sql, plain(&cause)));
                None
            }
        }
    }

    fn simplifier(&self) -> ExprSimplifier {
        ExprSimplifier::new(SimplifyContext::builder().with_schema(Arc::clone(&self.schema)).build())
    }

    /// Works out constants; one that a function refuses is a fault of the mapping.
    fn simplified(&mut self, field: &str, sql: &Sql, expr: Expr) -> Option<Expr> {
        let (simplified, refused) = faults::collect(|| self.simplifier().simplify(expr));
        if let Some(first) = refused.first() {
            self.faults.push(MappingFault::of(
                field,
                sql,
                format!("a constant in it is refused ({}): {}", first.refusal.code, first.refusal.message),
            ));
            return None;
        }
        match simplified {
            Ok(simplified) => Some(simplified),
            Err(cause) => {
                self.faults.push(MappingFault::of(field, sql, plain(&cause)));
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
            let remedy = "run ALTER TABLE … REPLICA IDENTITY FULL at the source, or make the key of columns that deletes carry";
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
fn exact(expr: &Expr, wanted: &DataType) -> Option<Expr> {
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

fn misfit(field: &Field, sql: &Sql, given: &DataType, remedy: &str) -> MappingFault {
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
fn plain(cause: &DataFusionError) -> String {
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
