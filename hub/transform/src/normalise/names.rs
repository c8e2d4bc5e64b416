//! Whether a mapping names fields that its entity has, all that must be there, and a key.

use std::collections::BTreeSet;

use arrow::datatypes::Field;

use super::fault::{MappingFault, nearest, suggest};
use super::fit::words;
use super::spec::MappingSpec;
use super::target::{Symbols, Target};

/// What the names of a mapping tell.
pub(super) struct Names {
    /// Their faults.
    pub(super) faults: Vec<MappingFault>,
    /// Fields that a misspelt name was meant to be: that they lack an expression is no second fault.
    meant: BTreeSet<String>,
}

impl Names {
    /// Whether a misspelt name was meant to be this field.
    pub(super) fn is_meant(&self, field: &str) -> bool {
        self.meant.contains(field)
    }
}

/// Fields that are mapped twice or do not exist, and keys that are not fields. Without a target, what can be said without one.
pub(super) fn names(spec: &MappingSpec, target: Option<&Target>) -> Names {
    let fields: Option<Vec<&str>> = target.map(|target| target.schema().fields().iter().map(|field| field.name().as_str()).collect());
    let is_known = |name: &str| fields.as_ref().is_none_or(|fields| fields.contains(&name));
    let known = || fields.iter().flatten().copied();
    let entity = &spec.entity;
    let mapped: BTreeSet<&str> = spec.fields.iter().map(|(name, _)| name.as_str()).collect();
    let mut found = Names { faults: Vec::new(), meant: BTreeSet::new() };
    let mut seen = BTreeSet::new();
    for (name, sql) in &spec.fields {
        if !seen.insert(name.as_str()) {
            found.faults.push(MappingFault::of(name, sql, "it is mapped a second time".to_owned()));
        } else if !is_known(name) {
            let fault = MappingFault::of(name, sql, format!("{entity} has no such field"));
            found.faults.push(fault.mend(suggest(name, "fields", known())));
            found.meant.extend(nearest(name, known()).filter(|near| !mapped.contains(near)).map(str::to_owned));
        }
    }
    for name in &spec.key {
        let fault = if !is_known(name) {
            let fault = MappingFault::whole(format!("key field {name} is not in {entity}"));
            fault.mend(suggest(name, "fields", known()))
        } else if !seen.contains(name.as_str()) && !found.is_meant(name) {
            MappingFault::whole(format!("key field {name} is not mapped")).mend("add an expression for it")
        } else {
            continue;
        };
        found.faults.push(fault.in_place(spec.key_place.as_ref()));
    }
    found
}

/// The fault of a mapping without a key.
pub(super) fn keyless(spec: &MappingSpec) -> MappingFault {
    MappingFault::whole(format!("the mapping of {} has no key", spec.entity))
        .mend("name the fields that identify a record")
        .in_place(spec.key_place.as_ref())
}

/// Whether a field needs an expression.
pub(super) fn is_wanting(field: &Field, target: &Target) -> bool {
    !field.is_nullable() && !target.has_default(field.name())
}

/// The fault of a field that needs an expression and has none.
pub(super) fn unmapped(field: &Field, spec: &MappingSpec) -> MappingFault {
    let wanted = words(field.data_type(), Symbols::of(field).as_ref().map(Symbols::names));
    let fault =
        MappingFault { field: Some(field.name().clone()), ..MappingFault::whole(format!("it is required ({wanted}) and not mapped")) };
    fault.mend("map it, or give it a default in its schema").in_place(spec.fields_place.as_ref())
}
