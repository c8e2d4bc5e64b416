//! The mysql connector.
