//! The limits of one request.

pub mod budget;
pub mod document;
pub mod selections;
