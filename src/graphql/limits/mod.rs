//! The limits of one request, in the order in which it meets them:
//!
//! | step | module | bounds |
//! |---|---|---|
//! | read | `http::limits` | bytes of the request |
//! | before parsing | `document` | bytes, tokens, name length and nesting of the document's text |
//! | after parsing | `selections` | selections, depth, aliases, directives and root fields, with fragments expanded |
//! | after normalising | `complexity` | the assumed number of fields in the response |
//! | before execution | [`crate::turns`] | operations of one user at once |
//! | execution | [`budget`] | objects and bytes that the operation really loads |
//! | execution | [`super::engine`] | time of a query |
//! | writing | [`super::response`] | bytes of the response, number and size of its errors |
//!
//! The first three cost at most a walk over the text, once for each document. They protect the parser, validation and
//! normalising, whose work grows with the selections. Complexity is an estimate, because list lengths are known only
//! while executing; the budget counts them. Each refusal names the limit, what was found, and how to stay below.

pub mod budget;
pub(super) mod complexity;
pub(super) mod document;
pub(super) mod selections;
