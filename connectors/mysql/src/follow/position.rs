//! The checkpoint's partition of the log: what is told of it, and how to go on from there on this server or another.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Name of the checkpoint's partition that holds a [`LogPosition`].
pub(crate) const LOG_PARTITION: &str = "log";

/// Every transaction that ends at or before `file` and `offset` is told, and of the next one what `open` says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LogPosition {
    /// Of which server `file` and `offset` are.
    pub(crate) server: String,
    /// What is added to the places of that server's log, so that places go on growing after another server took over.
    pub(crate) base: u64,
    pub(crate) file: String,
    pub(crate) offset: u64,
    /// The GTIDs of all that is told; empty where the server has none.
    pub(crate) gtid: String,
    /// The transaction that is told in part.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) open: Option<Open>,
}

/// A transaction that is told in part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Open {
    /// Its place in the log.
    pub(crate) place: u64,
    /// Its own GTID; empty where it has none.
    pub(crate) gtid: String,
    /// How many of its rows are behind, by stream.
    pub(crate) told: BTreeMap<String, u64>,
}

impl LogPosition {
    /// The end of what is told whole, as a place.
    pub(crate) fn place(&self) -> u64 {
        let place = crate::server::LogPlace { file: self.file.clone(), offset: self.offset };
        self.base + place.number()
    }

    /// The latest place that is told of.
    pub(crate) fn latest(&self) -> u64 {
        self.place().max(self.open.as_ref().map_or(0, |open| open.place))
    }

    /// As the value of the checkpoint's partition.
    pub(crate) fn to_json(&self) -> serde_json::Value {
        serde_json::to_value(self).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn a_position_in_the_midst_of_a_transaction_reads_back() {
        let told = BTreeMap::from([("d.t".to_owned(), 17)]);
        let open = Open { place: (3 << 32) + 500, gtid: "0-1-6".to_owned(), told };
        let position = LogPosition {
            server: "1".to_owned(),
            base: 0,
            file: "binlog.000003".to_owned(),
            offset: 400,
            gtid: "0-1-5".to_owned(),
            open: Some(open),
        };
        assert_eq!(serde_json::from_value::<LogPosition>(position.to_json()).unwrap(), position);
        assert_eq!((position.place(), position.latest()), ((3 << 32) + 400, (3 << 32) + 500));
    }
}
