//! Documents: checked against the limits and parsed once, then cached under the SHA-256 of their text.
//!
//! The cache also serves automatic persisted queries. Invariant: every document in it was accepted by the limits,
//! so a request by hash can't run a document that they refuse.

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex};

use async_graphql::parser::types::{ExecutableDocument, OperationType};
use lru::LruCache;
use sha2::{Digest, Sha256};

use super::limits::{document, selections};
use super::request_error::RequestError;
use super::rows;

/// Most cached documents.
const MAX_DOCUMENTS: NonZeroUsize = NonZeroUsize::new(1_000).expect("not zero");
/// Most bytes of text of all cached documents. A parsed document takes about ten times the memory of its text.
const MAX_TEXT_BYTES: usize = 1 << 20;

/// SHA-256 of a document's text.
pub type Hash = [u8; 32];

/// The type of an operation, known before it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OperationKind {
    Query,
    Mutation,
    Subscription,
}

/// A parsed document that the limits accepted.
pub(super) struct Document {
    pub(super) parsed: ExecutableDocument,
    /// Whether objects of this document can be written as rows.
    pub(super) is_normal: bool,
    text_bytes: usize,
}

impl Document {
    fn parse(text: &str) -> Result<Self, RequestError> {
        document::check(text)?;
        let parsed = async_graphql::parser::parse_query(text).map_err(|error| RequestError::syntax(&error))?;
        selections::check(&parsed)?;
        Ok(Self { is_normal: rows::is_normal(&parsed), parsed, text_bytes: text.len() })
    }

    /// The type of the selected operation, and whether it contains introspection.
    pub(super) fn select(&self, name: Option<&str>) -> Result<(OperationKind, bool), RequestError> {
        let mut selected = self
            .parsed
            .operations
            .iter()
            .filter(|(own, _)| name.is_none_or(|name| own.is_some_and(|own| own.as_str() == name)));
        let operation = match (selected.next(), selected.next()) {
            (Some((_, operation)), None) => &operation.node,
            (None, _) => {
                return Err(RequestError::parameter("operationName", "the document has no operation of that name"));
            }
            (Some(_), Some(_)) => {
                return Err(RequestError::parameter("operationName", "the document has several operations: name one"));
            }
        };
        let kind = match operation.ty {
            OperationType::Query => OperationKind::Query,
            OperationType::Mutation => OperationKind::Mutation,
            OperationType::Subscription => OperationKind::Subscription,
        };
        let roots = selections::root_fields(&self.parsed, &operation.selection_set.node);
        if kind == OperationKind::Subscription && roots.len() != 1 {
            return Err(RequestError::parameter("query", "a subscription selects exactly one root field"));
        }
        Ok((kind, roots.iter().any(|root| matches!(*root, "__schema" | "__type"))))
    }
}

/// The most recently used documents.
pub(super) struct Documents {
    cache: Mutex<Cache>,
}

struct Cache {
    by_hash: LruCache<Hash, Arc<Document>>,
    text_bytes: usize,
}

impl Documents {
    pub(super) fn new() -> Self {
        Self { cache: Mutex::new(Cache { by_hash: LruCache::new(MAX_DOCUMENTS), text_bytes: 0 }) }
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
        if let Some(document) = self.cache.lock().expect("document cache lock").by_hash.get(&hash) {
            return Ok(document.clone());
        }
        let document = Arc::new(Document::parse(text)?);
        self.insert(hash, document.clone());
        Ok(document)
    }

    /// A cached document by its hash.
    pub(super) fn by_hash(&self, hash: Hash) -> Result<Arc<Document>, RequestError> {
        let found = self.cache.lock().expect("document cache lock").by_hash.get(&hash).cloned();
        found.ok_or_else(|| RequestError::new("PERSISTED_QUERY_NOT_FOUND", "PersistedQueryNotFound"))
    }

    fn insert(&self, hash: Hash, document: Arc<Document>) {
        let mut cache = self.cache.lock().expect("document cache lock");
        cache.text_bytes += document.text_bytes;
        if let Some((_, old)) = cache.by_hash.push(hash, document) {
            cache.text_bytes -= old.text_bytes;
        }
        while cache.text_bytes > MAX_TEXT_BYTES {
            let Some((_, old)) = cache.by_hash.pop_lru() else { return };
            cache.text_bytes -= old.text_bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_is_parsed_once_and_found_by_its_hash() {
        let documents = Documents::new();
        let hash: Hash = Sha256::digest(b"{ me }").into();
        assert_eq!(documents.by_hash(hash).err().map(|r| r.code()), Some("PERSISTED_QUERY_NOT_FOUND"));
        let first = documents.by_text("{ me }", Some(hash)).unwrap();
        assert!(Arc::ptr_eq(&first, &documents.by_text("{ me }", None).unwrap()));
        assert!(Arc::ptr_eq(&first, &documents.by_hash(hash).unwrap()));
        assert!(documents.by_text("{ me }", Some([0; 32])).is_err());
    }

    #[test]
    fn the_cache_is_bounded_by_entries_and_by_bytes() {
        let documents = Documents::new();
        for n in 0..MAX_DOCUMENTS.get() + 10 {
            documents.by_text(&format!("{{ a{n} }}"), None).unwrap();
        }
        assert_eq!(documents.cache.lock().unwrap().by_hash.len(), MAX_DOCUMENTS.get());
        for n in 0..100 {
            documents.by_text(&format!("{{ a{n} }} #{}", "x".repeat(document::MAX_BYTES - 20)), None).unwrap();
        }
        let cache = documents.cache.lock().unwrap();
        assert!(cache.text_bytes <= MAX_TEXT_BYTES);
        assert_eq!(cache.text_bytes, cache.by_hash.iter().map(|(_, d)| d.text_bytes).sum::<usize>());
    }

    #[test]
    fn exactly_one_operation_is_selected() {
        let document = Document::parse("query A { a } mutation B { b }").unwrap();
        assert_eq!(document.select(Some("B")), Ok((OperationKind::Mutation, false)));
        assert!(document.select(None).is_err());
        assert!(document.select(Some("C")).is_err());
        assert_eq!(Document::parse("{ __schema { a } }").unwrap().select(None), Ok((OperationKind::Query, true)));
        assert!(Document::parse("{ a }").unwrap().select(Some("A")).is_err());
        assert!(Document::parse("subscription { a b }").unwrap().select(None).is_err());
    }
}
