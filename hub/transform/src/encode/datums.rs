//! Encodes columns as bare or framed Avro records of one schema, by arrow-avro.

use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::{Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow_avro::schema::{FingerprintStrategy, SCHEMA_METADATA_KEY};
use arrow_avro::writer::format::{AvroBinaryFormat, AvroSoeFormat};
use arrow_avro::writer::{EncodedRows, Encoder as AvroEncoder, WriterBuilder};

use super::EncodeError;

/// Rows of one Avro record schema, by arrow-avro.
#[derive(Debug)]
pub(super) struct Datums {
    what: &'static str,
    schema: SchemaRef,
    encoder: AvroEncoder,
}

impl Datums {
    /// `schema_id` frames each row; without one the rows are bare Avro.
    pub(super) fn new(what: &'static str, entity: &str, columns: &Schema, avro: &str, schema_id: Option<u32>) -> Result<Self, EncodeError> {
        // Nullable in Arrow whatever Avro says: rows without a record hold nulls, and their bytes are never read.
        let fields: Vec<Field> = columns.fields().iter().map(|field| field.as_ref().clone().with_nullable(true)).collect();
        let metadata = [(SCHEMA_METADATA_KEY.to_owned(), avro.to_owned())].into();
        let schema = Schema::new_with_metadata(fields, metadata);
        let builder = WriterBuilder::new(schema);
        let encoder = match schema_id {
            Some(id) => builder.with_fingerprint_strategy(FingerprintStrategy::Id(id)).build_encoder::<AvroSoeFormat>(),
            None => builder.build_encoder::<AvroBinaryFormat>(),
        }
        .map_err(|source| EncodeError::Avro { what, entity: entity.to_owned(), source })?;
        Ok(Self { what, schema: encoder.schema(), encoder })
    }

    pub(super) fn encode(&mut self, entity: &str, rows: &RecordBatch) -> Result<EncodedRows, EncodeError> {
        let what = self.what;
        let columns = |source| EncodeError::Columns { what, entity: entity.to_owned(), source };
        let given = rows.schema_ref().fields();
        let differs = given.iter().zip(self.schema.fields()).find(|(given, wanted)| given.name() != wanted.name());
        if let Some((given, wanted)) = differs {
            return Err(columns(ArrowError::SchemaError(format!("column {:?} stands in the place of {:?}", given.name(), wanted.name()))));
        }
        let options = RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
        let rows = RecordBatch::try_new_with_options(Arc::clone(&self.schema), rows.columns().to_vec(), &options).map_err(columns)?;
        let avro = |source| EncodeError::Avro { what, entity: entity.to_owned(), source };
        self.encoder.encode(&rows).map_err(avro)?;
        Ok(self.encoder.flush())
    }
}

/// One row; empty for a row that is not there.
pub(super) fn slice(rows: &EncodedRows, row: usize) -> &[u8] {
    match (rows.offsets().get(row), rows.offsets().get(row + 1)) {
        (Some(start), Some(end)) => rows.bytes().get(*start..*end).unwrap_or_default(),
        _ => &[],
    }
}
