//! The odbc connector.
