//! What happened to a row, in Debezium's letters.

/// One row event. The discriminant is the letter that the envelope carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Op {
    /// The row was read by a snapshot.
    Read = b'r',
    /// The row was inserted.
    Create = b'c',
    /// The row was changed.
    Update = b'u',
    /// The row was deleted.
    Delete = b'd',
    /// All rows of the stream were removed at once; the row itself is all nulls.
    Truncate = b't',
}

impl Op {
    /// The letter of the envelope's `op` field.
    #[must_use]
    pub const fn letter(self) -> &'static str {
        match self {
            Self::Read => "r",
            Self::Create => "c",
            Self::Update => "u",
            Self::Delete => "d",
            Self::Truncate => "t",
        }
    }

    /// Whether the row of the batch is the state after the change (and not the one before it).
    #[must_use]
    pub const fn has_after(self) -> bool {
        matches!(self, Self::Read | Self::Create | Self::Update)
    }
}
