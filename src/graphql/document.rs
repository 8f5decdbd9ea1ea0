//! Documents: checked against the limits, parsed and validated once, then cached under the SHA-256 of their text.
//!
//! The cache also serves automatic persisted queries. Invariant: every document in it is valid and was
//! accepted by the limits, so a request by hash can't run a document that they refuse.

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex};

use apollo_compiler::ExecutableDocument;
use sha2::{Digest, Sha256};

use super::limits::document;
use super::operation::Operation;
use super::request_error::{NOT_PERSISTED, RequestError};
use super::validation::Types;
use super::weighted_cache::WeightedCache;

/// Most cached documents.
const MAX_DOCUMENTS: NonZeroUsize = NonZeroUsize::new(1_000).expect("not zero");
/// Most bytes of text of all cached documents. A valid document takes up to 90 times the
/// memory of its text.
const MAX_TEXT_BYTES: usize = 1 << 20;

/// SHA-256 of a document's text.
pub type Hash = [u8; 32];

/// A valid document that the limits accepted.
pub(super) struct Document {
    pub(super) hash: Hash,
    pub(super) executable: ExecutableDocument,
    pub(super) operations: Vec<Operation>,
    text_bytes: usize,
}

impl Document {
    fn parse(types: &Types, text: &str, hash: Hash) -> Result<Self, RequestError> {
        document::check(text)?;
        let executable = types.parse(text)?;
        let operations = executable.operations.iter().map(|operation| Operation::new(&executable, operation)).collect();
        Ok(Self { hash, executable, operations, text_bytes: text.len() })
    }

    /// The index of the selected operation.
    pub(super) fn select(&self, name: Option<&str>) -> Result<usize, RequestError> {
        match name {
            Some(name) => {
                self.operations.iter().position(|operation| operation.name() == Some(name)).ok_or_else(|| {
                    RequestError::parameter("operationName", "Unknown operation: the document has none of that name.")
                })
            }
            None if self.operations.len() == 1 => Ok(0),
            None if self.operations.is_empty() => Err(RequestError::parameter("query", "Must provide an operation.")),
            None => Err(RequestError::parameter(
                "operationName",
                "Must provide operation name if query contains multiple operations.",
            )),
        }
    }
}

/// Finds documents by their text or hash. Keeps the most recently used ones.
pub(super) struct Documents {
    types: Arc<Types>,
    cache: Mutex<WeightedCache<Hash, Document>>,
}

impl Documents {
    pub(super) fn new(types: Arc<Types>) -> Self {
        Self { types, cache: Mutex::new(WeightedCache::new(MAX_DOCUMENTS, MAX_TEXT_BYTES)) }
    }

    /// A document by its text. `claimed` is the hash that the client sent with it, if any.
    pub(super) fn by_text(&self, text: &str, claimed: Option<Hash>) -> Result<Arc<Document>, RequestError> {
        if text.len() > document::MAX_BYTES {
            // Refused before it is hashed.
            document::check(text)?;
        }
        let hash: Hash = Sha256::digest(text.as_bytes()).into();
        if claimed.is_some_and(|claimed| claimed != hash) {
            return Err(RequestError::parameter("extensions", "sha256Hash is not the SHA-256 of the query"));
        }
        if let Some(document) = self.cached(&hash) {
            return Ok(document);
        }
        let document = Arc::new(Document::parse(&self.types, text, hash)?);
        let weight = document.text_bytes;
        self.cache.lock().expect("document cache lock").insert(hash, document.clone(), weight);
        Ok(document)
    }

    /// A cached document by its hash.
    pub(super) fn by_hash(&self, hash: Hash) -> Result<Arc<Document>, RequestError> {
        self.cached(&hash).ok_or_else(|| RequestError::new(NOT_PERSISTED, "PersistedQueryNotFound"))
    }

    fn cached(&self, hash: &Hash) -> Option<Arc<Document>> {
        self.cache.lock().expect("document cache lock").get(hash)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graphql::OperationKind;

    fn types() -> Arc<Types> {
        let sdl = "type Query { a: Int b: Int } type Mutation { b: Int } type Subscription { a: Int b: Int }";
        Arc::new(Types::read(sdl, true))
    }

    #[test]
    fn a_document_is_parsed_once_and_found_by_its_hash() {
        let documents = Documents::new(types());
        let hash: Hash = Sha256::digest(b"{ a }").into();
        assert_eq!(documents.by_hash(hash).err().map(|r| r.code()), Some("PERSISTED_QUERY_NOT_FOUND"));
        let first = documents.by_text("{ a }", Some(hash)).unwrap();
        assert!(Arc::ptr_eq(&first, &documents.by_text("{ a }", None).unwrap()));
        assert!(Arc::ptr_eq(&first, &documents.by_hash(hash).unwrap()));
        assert!(documents.by_text("{ a }", Some([0; 32])).is_err());
    }

    #[test]
    fn exactly_one_operation_is_selected() {
        let parse = |text| Document::parse(&types(), text, Hash::default()).unwrap();
        let document = parse("query A { a } mutation B { b }");
        let selected = &document.operations[document.select(Some("B")).unwrap()];
        assert_eq!((selected.kind(), selected.introspects()), (OperationKind::Mutation, false));
        assert!(document.select(None).is_err());
        assert!(document.select(Some("C")).is_err());
        assert!(parse("{ __schema { types { name } } }").operations[0].introspects());
        assert!(parse("{ a }").select(Some("A")).is_err());
        assert_eq!(parse("{ a }").select(None), Ok(0));
    }
}
