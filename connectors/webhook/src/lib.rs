//! The webhook connector.
