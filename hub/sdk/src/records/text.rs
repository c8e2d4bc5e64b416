//! Text columns that are found as rows come.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatchOptions, StringBuilder};
use arrow::datatypes::{DataType, Field, Schema};
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;
use hub_model::SOURCE_TYPE;

/// What [`SOURCE_TYPE`] says of a column without a type of its own.
pub const TEXT: &str = "text";

/// Builds record batches of text columns. A column that appears later is null in the rows before; once there, it stays in
/// every later batch, so that a stream's columns only grow.
#[derive(Debug, Default)]
pub struct TextRows {
    names: Vec<String>,
    places: HashMap<String, usize>,
    columns: Vec<StringBuilder>,
    rows: usize,
    bytes: usize,
}

impl TextRows {
    /// With columns that are there from the start, whether any row has them or not: those that a mapping reads.
    #[must_use]
    pub fn new(columns: &[String]) -> Self {
        let mut rows = Self::default();
        for column in columns {
            rows.column(column);
        }
        rows
    }

    /// Adds one row; columns that it does not name are null.
    pub fn push<'a>(&mut self, fields: impl IntoIterator<Item = (&'a str, Option<&'a str>)>) {
        for (name, value) in fields {
            let place = self.column(name);
            self.cell(place, value);
        }
        self.end_row();
    }

    /// Sets a cell of the row that is being added, by its column's place; a second value of one cell is left out.
    pub fn cell(&mut self, place: usize, value: Option<&str>) {
        let Some(column) = self.columns.get_mut(place) else { return };
        if column_len(column) == self.rows {
            self.bytes += value.map_or(0, str::len);
            column.append_option(value);
        }
    }

    /// Ends the row whose cells were set; columns without one are null.
    pub fn end_row(&mut self) {
        self.rows += 1;
        for column in &mut self.columns {
            if column_len(column) < self.rows {
                column.append_null();
            }
        }
    }

    /// Place of a column, which is made where it is new.
    pub fn column(&mut self, name: &str) -> usize {
        if let Some(place) = self.places.get(name) {
            return *place;
        }
        let mut column = StringBuilder::new();
        (0..self.rows).for_each(|_| column.append_null());
        self.columns.push(column);
        self.names.push(name.to_owned());
        self.places.insert(name.to_owned(), self.names.len() - 1);
        self.names.len() - 1
    }

    /// Rows that wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows
    }

    /// Whether none waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// Bytes of their text.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The columns so far, all nullable text.
    #[must_use]
    pub fn schema(&self) -> Arc<Schema> {
        let field = |name: &String| {
            let metadata = HashMap::from([(SOURCE_TYPE.to_owned(), TEXT.to_owned())]);
            Field::new(name, DataType::Utf8, true).with_metadata(metadata)
        };
        Arc::new(Schema::new(self.names.iter().map(field).collect::<Vec<_>>()))
    }

    /// The rows so far, and begins anew with the same columns.
    ///
    /// # Errors
    /// Where Arrow refuses the columns: a defect.
    pub fn finish(&mut self) -> Result<RecordBatch, ArrowError> {
        let columns: Vec<ArrayRef> = self.columns.iter_mut().map(|column| Arc::new(column.finish()) as ArrayRef).collect();
        let options = RecordBatchOptions::new().with_row_count(Some(self.rows));
        (self.rows, self.bytes) = (0, 0);
        RecordBatch::try_new_with_options(self.schema(), columns, &options)
    }
}

fn column_len(column: &StringBuilder) -> usize {
    use arrow::array::ArrayBuilder;
    column.len()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use arrow::array::{Array, AsArray};

    use super::*;

    #[test]
    fn columns_grow_and_stay_and_a_mapped_column_is_there_though_no_row_has_it() {
        let mut rows = TextRows::new(&["mapped".to_owned()]);
        rows.push([("a", Some("1"))]);
        rows.push([("b", Some("")), ("a", None)]);
        let first = rows.finish().unwrap();
        assert_eq!(first.schema().fields().iter().map(|field| field.name().as_str()).collect::<Vec<_>>(), ["mapped", "a", "b"]);
        assert_eq!((first.column(0).null_count(), first.column(1).null_count(), first.column(2).null_count()), (2, 1, 1));
        assert_eq!(first.column(2).as_string::<i32>().value(1), "");
        rows.push([]);
        let second = rows.finish().unwrap();
        assert_eq!((second.num_rows(), second.schema()), (1, first.schema()));
    }

    #[test]
    fn of_two_fields_of_one_name_in_a_row_the_first_counts() {
        let mut rows = TextRows::default();
        rows.push([("a", Some("1")), ("a", Some("2"))]);
        assert_eq!(rows.finish().unwrap().column(0).as_string::<i32>().value(0), "1");
    }
}
