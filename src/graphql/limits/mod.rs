//! The limits of one request, in the order in which it meets them:
//!
//! | step | module | bounds |
//! |---|---|---|
//! | read | `http::limits` | bytes of the request |
//! | before parsing | `document` | bytes, tokens, name length and nesting of the document's text |
//! | after parsing | `selections` | selections, depth, aliases and directives, with fragments expanded |
//! | validation | `complexity` | the assumed number of fields in the response |
//! | execution | [`budget`] | objects and bytes that the operation really loads |
//! | execution | [`super::engine`] | time of a query |
//! | writing | [`super::response`] | bytes of the response, number and size of its errors |
//!
//! The first three cost at most a walk over the text. They protect the parser and everything that walks the
//! document later. Complexity is an estimate, because list lengths are known only while executing; the budget
//! counts them.

pub mod budget;
pub(super) mod complexity;
pub(super) mod document;
pub(super) mod selections;
