//! One stream of changes: its layout as the log has it, and the batch that is being filled.

use arrow::error::ArrowError;
use hub_sdk::model::{ChangeBatch, KeyChange, Op, Origin, SnapshotMark, StreamName};
use hub_sdk::{ErrorKind, SourceError};

use crate::binlog::{Change, TableMap};
use crate::decode::{Form, Grid, NO_ROW, Rules, TableDecoder};
use crate::kind::Layout;

/// Where a row comes from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) micros: i64,
    pub(super) commit: u64,
    pub(super) at: u64,
    pub(super) transaction: u64,
}

/// The rows of one event that are told.
pub(super) struct Told<'a> {
    pub(super) change: Change,
    pub(super) grid: Grid<'a>,
    /// Rows that are behind already.
    pub(super) skip: usize,
    pub(super) rows: usize,
    /// For each image whether its change is told; all where it is `None`.
    pub(super) verdicts: Option<&'a [bool]>,
    /// Place of the event's first row in the transaction.
    pub(super) ordinal: u64,
}

pub(super) struct Stream {
    pub(super) name: StreamName,
    pub(super) database: String,
    pub(super) table: String,
    pub(super) layout: Layout,
    /// The table may have changed since its layout was learned.
    pub(super) is_stale: bool,
    rules: Rules,
    before_images: bool,
    forms: Vec<Form>,
    rows: TableDecoder,
    old: TableDecoder,
    ops: Vec<Op>,
    origin: Origin,
    key_changes: Vec<KeyChange>,
    picks: Vec<u32>,
    olds: Vec<u32>,
}

impl Stream {
    pub(super) fn new(name: StreamName, (database, table): (&str, &str), layout: Layout, rules: Rules, before_images: bool) -> Self {
        Self {
            name,
            database: database.to_owned(),
            table: table.to_owned(),
            rows: TableDecoder::new(&layout, &rules),
            old: TableDecoder::new(&layout, &rules),
            layout,
            is_stale: false,
            rules,
            before_images,
            forms: Vec::new(),
            ops: Vec::new(),
            origin: Origin::default(),
            key_changes: Vec::new(),
            picks: Vec::new(),
            olds: Vec::new(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.ops.is_empty()
    }

    /// Takes another layout, and what is needed to read it; the open batch must be closed.
    pub(super) fn adopt(&mut self, layout: Layout, rules: Rules) {
        self.rows = TableDecoder::new(&layout, &rules);
        self.old = TableDecoder::new(&layout, &rules);
        self.layout = layout;
        self.rules = rules;
        self.forms.clear();
    }

    /// Takes the forms of the table's next rows.
    pub(super) fn take_forms(&mut self, forms: &[Form]) {
        if self.forms != forms {
            self.forms = forms.to_vec();
            self.rows.set_forms(forms);
            self.old.set_forms(forms);
        }
    }

    /// Adds the rows of an event.
    pub(super) fn take(&mut self, told: &Told<'_>, place: Place) {
        self.picks.clear();
        self.olds.clear();
        let before = self.ops.len();
        let is_told = |image: u32| told.verdicts.is_none_or(|verdicts| verdicts.get(image as usize).copied().unwrap_or(true));
        let mut has_old = false;
        for row in told.skip..told.rows {
            let ordinal = told.ordinal + row as u64;
            let image = u32::try_from(row).unwrap_or(NO_ROW - 1);
            match told.change {
                Change::Insert if is_told(image) => self.push(image, NO_ROW, Op::Create, place, ordinal),
                Change::Delete if is_told(image) => self.push(image, NO_ROW, Op::Delete, place, ordinal),
                Change::Insert | Change::Delete => {}
                Change::Update => {
                    let (old, new) = (image * 2, image * 2 + 1);
                    if self.key_changed(&told.grid, old, new) {
                        self.push_key_change((old, is_told(old)), (new, is_told(new)), place, ordinal);
                    } else if is_told(new) {
                        has_old = true;
                        self.push(new, old, Op::Update, place, ordinal);
                    }
                }
            }
        }
        self.rows.extend(told.grid, &self.picks);
        if has_old && self.before_images {
            self.old.pad(before);
            self.old.extend(told.grid, &self.olds);
        }
    }

    /// All rows were removed at once.
    pub(super) fn truncate(&mut self, place: Place, ordinal: u64) {
        self.rows.pad(self.ops.len() + 1);
        self.ops.push(Op::Truncate);
        self.origin.push(place.micros, place.commit, place.at, ordinal, place.transaction);
    }

    #[inline]
    fn push(&mut self, row: u32, old: u32, op: Op, place: Place, ordinal: u64) {
        self.picks.push(row);
        self.olds.push(old);
        self.ops.push(op);
        self.origin.push(place.micros, place.commit, place.at, ordinal, place.transaction);
    }

    fn push_key_change(&mut self, old: (u32, bool), new: (u32, bool), place: Place, ordinal: u64) {
        let delete = u32::try_from(self.ops.len()).unwrap_or(u32::MAX);
        if old.1 {
            self.push(old.0, NO_ROW, Op::Delete, place, ordinal);
        }
        if new.1 {
            self.push(new.0, NO_ROW, Op::Create, place, ordinal);
        }
        if old.1 && new.1 {
            self.key_changes.push(KeyChange { delete, create: delete + 1 });
        }
    }

    #[inline]
    fn key_changed(&self, grid: &Grid<'_>, old: u32, new: u32) -> bool {
        self.layout.key.iter().any(|place| grid.get(old, *place) != grid.get(new, *place))
    }

    /// Closes the open batch and begins a new one.
    pub(super) fn close(&mut self) -> Result<ChangeBatch, ArrowError> {
        let count = self.ops.len();
        let (rows, mut faults) = self.rows.finish()?;
        let old = if self.old.rows() > 0 {
            self.old.pad(count);
            let (old, mut more) = self.old.finish()?;
            // A fault of the state before is one of its change: a batch has no other place for it. The same column is told once.
            more.retain(|fault| !faults.iter().any(|known| known.row == fault.row && known.column == fault.column));
            faults.append(&mut more);
            faults.sort_by_key(|fault| fault.row);
            Some(old)
        } else {
            None
        };
        let batch = ChangeBatch {
            stream: self.name.clone(),
            ops: std::mem::replace(&mut self.ops, Vec::with_capacity(count)),
            rows,
            old,
            full_images: true,
            origin: std::mem::replace(&mut self.origin, Origin::with_capacity(count)),
            key_changes: std::mem::take(&mut self.key_changes),
            faults,
            snapshot: SnapshotMark::No,
        };
        self.picks.shrink_to(1 << 16);
        Ok(batch)
    }

    /// The forms of a table's cells under the layout that is known; `None` where the two do not fit.
    pub(super) fn forms(&self, map: &TableMap) -> Option<Vec<Form>> {
        forms_of(&self.layout, map)
    }

    /// The table cannot be read as the log has it.
    pub(super) fn misfit(&self) -> SourceError {
        SourceError::new(ErrorKind::StreamBroken, "reading the table's changes")
            .because("the log has other columns than the table has now, and does not name them")
            .advise("SET GLOBAL binlog_row_metadata = FULL, so that the log names its columns; the table is read anew")
            .of(self.name.clone())
    }
}

/// The forms of a table's cells; `None` where the log has other columns than the layout.
fn forms_of(layout: &Layout, map: &TableMap) -> Option<Vec<Form>> {
    let is_named = !map.names.is_empty();
    if layout.columns.len() != map.columns.len() || (is_named && map.names.len() != layout.columns.len()) {
        return None;
    }
    if is_named && layout.columns.iter().zip(&map.names).any(|(column, name)| column.name != *name) {
        return None;
    }
    layout.columns.iter().zip(&map.columns).map(|(column, stored)| stored.form(column)).collect()
}

/// The layout of a table as the log has it, made of what is known of it now and before; with whether it is certain.
pub(super) fn layout_in_log(map: &TableMap, now: &Layout, before: &Layout) -> Option<Layout> {
    if forms_of(now, map).is_some() {
        return Some(now.clone());
    }
    let columns: Vec<_> = if map.names.is_empty() {
        // Columns are added at the end by far most often: those that came later are not in the log yet.
        now.columns.get(..map.columns.len())?.to_vec()
    } else {
        let find = |(name, stored): (&String, &crate::binlog::LogColumn)| {
            let of = |layout: &Layout| layout.columns.iter().find(|column| column.name == *name && stored.form(column).is_some()).cloned();
            of(now).or_else(|| of(before))
        };
        map.names.iter().zip(&map.columns).map(find).collect::<Option<_>>()?
    };
    if map.names.is_empty() && !before.columns.iter().zip(&columns).all(|(before, now)| before.name == now.name) {
        return None;
    }
    let names = now.identity();
    let key = names.iter().map(|name| columns.iter().position(|column| column.name == *name)).collect::<Option<_>>()?;
    let layout = Layout { columns, key };
    forms_of(&layout, map).map(|_| layout)
}
