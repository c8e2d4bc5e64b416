//! The http connector.
