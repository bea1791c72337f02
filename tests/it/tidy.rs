//! What ARCHITECTURE.md promises of the crate's shape.
