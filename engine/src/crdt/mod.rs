//! The data types as replicated values: one mechanism, a dot store, and what each kind reads from its rows.
//!
//! Every kind is rows under a version vector; they differ only in what their rows mean to a reader.

mod dot_store;
mod key_view;

pub use dot_store::DotStore;
pub(crate) use key_view::is_document;
pub use key_view::{KeyView, Sibling, VisibleKind, integer};
