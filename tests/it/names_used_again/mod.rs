//! Names that are used again: what belonged to a deleted home or device reaches nobody who comes after it.

mod retained;
