//! The exec connector.
