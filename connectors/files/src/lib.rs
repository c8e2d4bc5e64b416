//! Files as a source: delivered into a folder, local or mounted, one after the other or each as a whole.

mod board;
mod capture;
mod columns;
mod config;
mod connector;
mod digests;
mod edxml;
mod lines;
mod probe;
mod reading;
mod row;
mod rows;
mod sheet;
mod store;
mod table;
mod taken;
mod text;

pub use config::{Encoding, FileStream, FilesConfig, FixedColumn, Format, Mode, S3Place, SftpPlace, SheetChoice};
pub use connector::Files;
