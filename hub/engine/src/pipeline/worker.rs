//! One stream: plans its mapping for the shape that arrives, normalises, encodes, and parks where the mapping no longer fits.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{BooleanArray, UInt32Array};
use arrow::buffer::BooleanBuffer;
use arrow::compute::take_record_batch;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;
use bytes::Bytes;
use hub_model::{Block, ChangeBatch, KeyChange, Op, fingerprint};
use hub_transform::CodeLists;
use hub_transform::encode::{EncodeBatch, Encoded, Encoder, EncoderInput, Retention, SourceInfo};
use hub_transform::normalise::{Mapping, MappingSpec, PlanInput, Sorted, Target, plan};
use hub_transform::reject::{RejectContext, RejectRow};

use super::select::{Chosen, has_row, select};
use super::{Spared, defect};
use crate::RunError;
use crate::prepare::{Prepared, PreparedStream};
use crate::status::Board;

/// Room in a record for what Kafka adds to key and value: record framing and headers.
const RECORD_OVERHEAD: usize = 512;
/// Reason code of rows whose stream is parked because its mapping does not fit the source.
const PARKED: &str = "stream-parked";
/// Reason code of rows whose stream is parked because the registry refuses its schema.
const REFUSED: &str = "schema-refused";

/// What a batch became.
pub(super) struct Output {
    /// Data records.
    pub(super) block: Option<Block>,
    /// Refused rows of the batch.
    pub(super) rejects: Vec<RejectRow>,
    /// What the rejects record says of the stream.
    pub(super) context: Arc<RejectContext>,
    /// Rows that the filter left out.
    pub(super) filtered: usize,
}

impl Output {
    /// Rejected rows by reason.
    pub(super) fn reasons(&self) -> BTreeMap<&'static str, usize> {
        let mut reasons = BTreeMap::new();
        for reject in &self.rejects {
            *reasons.entry(reject.code).or_insert(0) += 1;
        }
        reasons
    }
}

/// A mapping planned for one shape of the source, or why there is none.
struct Planned {
    shape: SchemaRef,
    mapping: Result<Mapping, String>,
}

/// The worker of one stream.
pub(super) struct StreamWorker {
    stream: Arc<str>,
    system: String,
    spec: MappingSpec,
    target: Target,
    codes: Arc<CodeLists>,
    identity: Option<Vec<String>>,
    topic: Arc<str>,
    encoder: Encoder,
    planned: Option<Planned>,
    /// While the stream is read anew: keys that are refused and therefore not gone.
    spared: Option<Spared>,
    /// Why the registry refuses its schema, where it does.
    refused: Option<String>,
    context: Arc<RejectContext>,
}

impl StreamWorker {
    /// The worker of a prepared stream.
    pub(super) fn new(stream: PreparedStream, system: &Prepared) -> Result<Self, RunError> {
        let (schema, table) = stream.source().rsplit_once('.').unwrap_or(("", stream.source()));
        let source = SourceInfo {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            connector: system.connector.clone(),
            system: system.system.to_string(),
            db: system.database.clone(),
            schema: schema.to_owned(),
            table: table.to_owned(),
        };
        let encoder = Encoder::new(&EncoderInput {
            canonical: stream.canonical.clone(),
            key: stream.spec.key.clone(),
            value_schema_id: stream.value_id,
            key_schema_id: stream.key_id,
            source,
            topic: Arc::clone(&stream.topic),
            retention: if stream.compacted { Retention::Compacted } else { Retention::Timed },
            max_record_bytes: stream.record_limit.saturating_sub(RECORD_OVERHEAD),
        });
        Ok(Self {
            stream: stream.source().into(),
            system: system.system.to_string(),
            target: Target::of(&stream.canonical),
            codes: Arc::clone(&system.codes),
            identity: stream.identity,
            topic: stream.topic,
            encoder: encoder.map_err(|error| defect("preparing an encoder", &error))?,
            planned: None,
            spared: None,
            refused: stream.refused,
            context: Arc::new(RejectContext::new(system.system.as_str(), &stream.spec.entity, "")),
            spec: stream.mapping,
        })
    }

    /// Its topic.
    pub(super) fn topic(&self) -> &Arc<str> {
        &self.topic
    }

    /// The stream is read anew from now on: refused keys are kept in mind.
    pub(super) fn begin_reading(&mut self) {
        self.spared = Some(Spared::default());
    }

    /// The stream is read: the keys that were refused meanwhile.
    pub(super) fn end_reading(&mut self) -> Spared {
        self.spared.take().unwrap_or_default()
    }

    /// Whether the stream is read anew.
    pub(super) fn is_read_anew(&self) -> bool {
        self.spared.is_some()
    }

    /// See [`Encoder::vanished`].
    pub(super) fn vanished(&self, keys: &[Bytes], place: (u64, u64), now_micros: i64) -> Block {
        self.encoder.vanished(keys, place, now_micros)
    }

    /// Its stream.
    pub(super) fn stream(&self) -> &Arc<str> {
        &self.stream
    }

    /// Normalises and encodes a batch.
    pub(super) fn process(&mut self, batch: &ChangeBatch, now_micros: i64, board: &Board) -> Result<Output, RunError> {
        let output = self.judge(batch, now_micros, board)?;
        if !output.rejects.is_empty() && self.spared.is_some() {
            self.spare(batch, &output)?;
        }
        Ok(output)
    }

    /// The keys of refused rows, while the stream is read anew: they are not published, and not gone either.
    fn spare(&mut self, batch: &ChangeBatch, output: &Output) -> Result<(), RunError> {
        let Some(spared) = &mut self.spared else { return Ok(()) };
        let Some(Planned { mapping: Ok(mapping), .. }) = &self.planned else {
            spared.unsure = true;
            return Ok(());
        };
        let mut refused = vec![false; batch.len()];
        for reject in &output.rejects {
            if let Some(refused) = refused.get_mut(reject.row as usize) {
                *refused = true;
            }
        }
        let keys = mapping.keys(&batch.rows, Some(&BooleanArray::from(refused))).map_err(|error| defect("making keys", &error))?;
        let keys = self.encoder.keys_of(&keys.records).map_err(|error| defect("encoding keys", &error))?;
        spared.keys.extend(keys.iter().map(|key| fingerprint(key)));
        Ok(())
    }

    fn judge(&mut self, batch: &ChangeBatch, now_micros: i64, board: &Board) -> Result<Output, RunError> {
        if let Some(why) = &self.refused {
            return Ok(parked(batch, REFUSED, why, &self.context));
        }
        self.plan_for(&batch.rows.schema(), board);
        let Some(Planned { mapping, .. }) = &self.planned else {
            return Err(RunError::Defect { doing: "planning a mapping".to_owned(), why: "nothing was planned".to_owned() });
        };
        let mapping = match mapping {
            Ok(mapping) => mapping,
            Err(why) => return Ok(parked(batch, PARKED, why, &self.context)),
        };
        let mut rejects: BTreeMap<u32, RejectRow> = BTreeMap::new();
        // What nobody maps may be as broken as it likes.
        let matters = |column: &Arc<str>| mapping.columns().any(|read| *read == **column);
        for fault in batch.faults.iter().filter(|fault| fault.column.as_ref().is_none_or(matters)) {
            reject(&mut rejects, fault.row, fault.column.clone(), fault.code, &fault.message);
        }
        let folded = fold(mapping, batch, &mut rejects)?;
        let encoded = self.encode(batch, &folded, now_micros, &mut rejects)?;
        Ok(Output {
            block: Some(encoded.block),
            rejects: rejects.into_values().collect(),
            context: Arc::clone(&self.context),
            filtered: folded.filtered,
        })
    }

    fn encode(
        &mut self,
        batch: &ChangeBatch,
        folded: &Folded,
        now_micros: i64,
        rejects: &mut BTreeMap<u32, RejectRow>,
    ) -> Result<Encoded, RunError> {
        let ops: Vec<Op> = folded.chosen.iter().map(|chosen| chosen.op).collect();
        let rows: Vec<u32> = folded.chosen.iter().map(|chosen| chosen.row).collect();
        let key_changes = renumbered(&batch.key_changes, &rows);
        let encoded = self
            .encoder
            .encode(&EncodeBatch {
                ops: &ops,
                records: &folded.records,
                recorded: folded.recorded.as_ref(),
                old: folded.old.as_ref().map(|(records, _)| records),
                old_recorded: folded.old.as_ref().map(|(_, recorded)| recorded),
                keys: &folded.keys,
                key_changes: &key_changes,
                origin: &batch.origin,
                origin_rows: (rows.len() != batch.len()).then_some(&rows),
                snapshot: batch.snapshot,
                now_micros,
            })
            .map_err(|error| defect("encoding a batch", &error))?;
        for refused in &encoded.rejects {
            let row = rows.get(refused.row as usize).copied().unwrap_or(u32::MAX);
            reject(rejects, row, refused.field.clone(), refused.code, &refused.message);
        }
        Ok(encoded)
    }

    /// Plans the mapping anew when the source's shape is another one than before.
    pub(super) fn plan_for(&mut self, shape: &SchemaRef, board: &Board) {
        let same = |planned: &Planned| Arc::ptr_eq(&planned.shape, shape) || planned.shape == *shape;
        if self.refused.is_some() || self.planned.as_ref().is_some_and(same) {
            return;
        }
        if let Some(before) = &self.planned {
            report_new_columns(&self.system, &self.stream, &before.shape, shape);
        }
        let all: Vec<String> = shape.fields().iter().map(|field| field.name().clone()).collect();
        let mapping = plan(&PlanInput {
            spec: &self.spec,
            target: &self.target,
            source: shape,
            identity: self.identity.as_ref().unwrap_or(&all),
            code_lists: &self.codes,
            system: &self.system,
        })
        .map_err(|faults| faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "));
        match &mapping {
            Ok(mapping) => {
                self.context = Arc::new(RejectContext::new(&self.system, mapping.entity(), mapping.version()));
                board.park(&self.stream, None);
            }
            Err(why) => {
                tracing::error!(
                    system = self.system,
                    stream = &*self.stream,
                    why,
                    "the mapping does not fit the source: the stream is parked, its rows go to the rejects topic raw"
                );
                board.park(&self.stream, Some(why.clone()));
            }
        }
        self.planned = Some(Planned { shape: Arc::clone(shape), mapping });
    }
}

/// Rows to publish with their records and keys.
struct Folded {
    chosen: Vec<Chosen>,
    records: RecordBatch,
    /// Which rows have a record; `None`: all.
    recorded: Option<BooleanBuffer>,
    old: Option<(RecordBatch, BooleanBuffer)>,
    keys: RecordBatch,
    filtered: usize,
}

fn fold(mapping: &Mapping, batch: &ChangeBatch, rejects: &mut BTreeMap<u32, RejectRow>) -> Result<Folded, RunError> {
    let normalising = |error| defect("normalising a batch", &error);
    let (meets, met) = masks(mapping, batch, rejects)?;
    let judged = batch.full_images || mapping.filters_by_identity();
    let faulty: Vec<u32> = rejects.keys().copied().collect();
    let mut selection = select(batch, meets.as_ref(), met.as_ref(), judged, &faulty);
    // A record is made of every row that has a whole state: what is published after it, and what was before a delete.
    let wanted = wants_record(batch, &selection.chosen);
    let sorted = mapping.normalise(&batch.rows, wanted.as_ref()).map_err(normalising)?;
    for refused in &sorted.rejects {
        // Chosen rows ascend. A delete whose state before is refused is still told, without that state.
        let place = selection.chosen.binary_search_by_key(&refused.row, |chosen| chosen.row);
        let is_delete = place.is_ok_and(|place| selection.chosen.get(place).is_some_and(|chosen| chosen.op == Op::Delete));
        if !is_delete {
            reject(rejects, refused.row, Some(Arc::clone(&refused.field)), refused.code, &refused.message);
        }
    }
    if !rejects.is_empty() {
        selection.chosen.retain(|chosen| !rejects.contains_key(&chosen.row));
    }
    let mut chosen = selection.chosen;
    let whole = chosen.len() == sorted.kept.len() && chosen.iter().zip(&sorted.kept).all(|(chosen, kept)| chosen.row == *kept);
    if whole {
        let keys = sorted.records.project(mapping.key()).map_err(arrow)?;
        let old = old_records(mapping, batch, &chosen)?;
        return Ok(Folded { chosen, records: sorted.records, recorded: None, old, keys, filtered: selection.filtered });
    }
    let keys = keys_of(mapping, batch, &mut chosen, rejects)?;
    let (records, recorded) = aligned(&sorted, &chosen)?;
    let old = old_records(mapping, batch, &chosen)?;
    Ok(Folded { chosen, records, recorded: Some(recorded), old, keys, filtered: selection.filtered })
}

type Mask = Option<BooleanArray>;

/// What the filter says of the states after and before.
fn masks(mapping: &Mapping, batch: &ChangeBatch, rejects: &mut BTreeMap<u32, RejectRow>) -> Result<(Mask, Mask), RunError> {
    if !mapping.has_filter() {
        return Ok((None, None));
    }
    let selection = mapping.selects(&batch.rows).map_err(|error| defect("filtering a batch", &error))?;
    for refused in &selection.rejects {
        if batch.ops.get(refused.row as usize).is_some_and(|op| op.has_after()) {
            reject(rejects, refused.row, Some(Arc::clone(&refused.field)), refused.code, &refused.message);
        }
    }
    let met = match &batch.old {
        Some(old) => Some(mapping.selects(old).map_err(|error| defect("filtering a batch", &error))?.wanted),
        None => None,
    };
    Ok((Some(selection.wanted), met))
}

/// Rows of which a record is made; `None`: all.
fn wants_record(batch: &ChangeBatch, chosen: &[Chosen]) -> Option<BooleanArray> {
    let has_state = |chosen: &Chosen| match batch.ops.get(chosen.row as usize) {
        Some(Op::Delete) => batch.full_images,
        Some(Op::Truncate) | None => false,
        // An update that became a delete has its state after: it names the key, and is not told as the state before.
        Some(Op::Read | Op::Create | Op::Update) => chosen.op != Op::Delete,
    };
    if chosen.len() == batch.len() && chosen.iter().all(has_state) {
        return None;
    }
    Some(mask(batch, chosen.iter().filter(|chosen| has_state(chosen))))
}

/// True for the rows of a batch that are given.
fn mask<'a>(batch: &ChangeBatch, chosen: impl Iterator<Item = &'a Chosen>) -> BooleanArray {
    let mut wanted = vec![false; batch.len()];
    for chosen in chosen {
        if let Some(wanted) = wanted.get_mut(chosen.row as usize) {
            *wanted = true;
        }
    }
    BooleanArray::from(wanted)
}

/// A record for each chosen row, null where it has none, and which rows have one.
fn aligned(sorted: &Sorted, chosen: &[Chosen]) -> Result<(RecordBatch, BooleanBuffer), RunError> {
    let place = |chosen: &Chosen| u32::try_from(sorted.kept.binary_search(&chosen.row).ok()?).ok();
    let places: Vec<Option<u32>> = chosen.iter().map(place).collect();
    let recorded = BooleanBuffer::from_iter(places.iter().map(Option::is_some));
    let records = take_record_batch(&nullable(&sorted.records)?, &UInt32Array::from(places)).map_err(arrow)?;
    Ok((records, recorded))
}

/// Keys of all chosen rows, those without a record too; rows whose key is refused are taken out.
fn keys_of(
    mapping: &Mapping,
    batch: &ChangeBatch,
    chosen: &mut Vec<Chosen>,
    rejects: &mut BTreeMap<u32, RejectRow>,
) -> Result<RecordBatch, RunError> {
    let keyed = mask(batch, chosen.iter().filter(|chosen| chosen.op != Op::Truncate));
    let sorted = mapping.keys(&batch.rows, Some(&keyed)).map_err(|error| defect("making keys", &error))?;
    for refused in &sorted.rejects {
        reject(rejects, refused.row, Some(Arc::clone(&refused.field)), refused.code, &refused.message);
    }
    if !sorted.rejects.is_empty() {
        chosen.retain(|chosen| !rejects.contains_key(&chosen.row));
    }
    Ok(aligned(&sorted, chosen)?.0)
}

/// Records of the states before updates, where the source keeps them. One that the mapping refuses is left out.
fn old_records(mapping: &Mapping, batch: &ChangeBatch, chosen: &[Chosen]) -> Result<Option<(RecordBatch, BooleanBuffer)>, RunError> {
    let Some(old) = batch.old.as_ref().filter(|_| batch.full_images) else { return Ok(None) };
    let wanted = mask(batch, chosen.iter().filter(|chosen| chosen.op == Op::Update && has_row(old, chosen.row as usize)));
    if wanted.true_count() == 0 {
        return Ok(None);
    }
    let sorted = mapping.normalise(old, Some(&wanted)).map_err(|error| defect("normalising states before", &error))?;
    let (records, recorded) = aligned(&sorted, chosen)?;
    Ok(Some((records, recorded)))
}

/// The same columns, all nullable: rows without a record are null in them.
fn nullable(records: &RecordBatch) -> Result<RecordBatch, RunError> {
    let fields: Vec<_> = records.schema().fields().iter().map(|field| field.as_ref().clone().with_nullable(true)).collect();
    let schema = arrow::datatypes::Schema::new_with_metadata(fields, records.schema().metadata().clone());
    let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(records.num_rows()));
    RecordBatch::try_new_with_options(Arc::new(schema), records.columns().to_vec(), &options).map_err(arrow)
}

/// Changes of key as rows of what is published; one whose other half is not published is told no more.
fn renumbered(changes: &[KeyChange], rows: &[u32]) -> Vec<KeyChange> {
    let place = |row: u32| rows.binary_search(&row).ok().and_then(|place| u32::try_from(place).ok());
    changes.iter().filter_map(|change| Some(KeyChange { delete: place(change.delete)?, create: place(change.create)? })).collect()
}

/// All rows as rejects. One that could not be read whole keeps its own reason: a mended mapping does not mend it.
fn parked(batch: &ChangeBatch, code: &'static str, why: &str, context: &Arc<RejectContext>) -> Output {
    let mut rejects = BTreeMap::new();
    for fault in &batch.faults {
        reject(&mut rejects, fault.row, fault.column.clone(), fault.code, &fault.message);
    }
    for row in 0..u32::try_from(batch.len()).unwrap_or(u32::MAX) {
        reject(&mut rejects, row, None, code, why);
    }
    Output { block: None, rejects: rejects.into_values().collect(), context: Arc::clone(context), filtered: 0 }
}

/// The first reason of a row stays.
fn reject(rejects: &mut BTreeMap<u32, RejectRow>, row: u32, field: Option<Arc<str>>, code: &'static str, message: &str) {
    rejects.entry(row).or_insert_with(|| RejectRow { row, field, code, message: message.to_owned().into() });
}

fn arrow(error: ArrowError) -> RunError {
    defect("putting a batch together", &error)
}

fn report_new_columns(system: &str, stream: &str, before: &SchemaRef, now: &SchemaRef) {
    let new: Vec<&str> =
        now.fields().iter().map(|field| field.name().as_str()).filter(|name| before.column_with_name(name).is_none()).collect();
    if !new.is_empty() {
        tracing::warn!(system, stream, columns = new.join(", "), "the source has new columns; they are ignored until they are mapped");
    }
}
