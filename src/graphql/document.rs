//! Documents: gated, parsed and weighed once, then kept under the SHA-256 of their text.
//!
//! The same cache answers automatic persisted queries. Invariant: whatever is in it has passed the
//! gate, so nothing expensive can be run by its hash either.

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex};

use async_graphql::parser::types::{ExecutableDocument, OperationType};
use lru::LruCache;
use sha2::{Digest, Sha256};

use super::limits::{document, selections};
use super::request_error::RequestError;

/// Most documents kept.
const MAX_DOCUMENTS: NonZeroUsize = NonZeroUsize::new(1_000).expect("not zero");
/// Most bytes of text of all documents kept; a parsed document takes roughly ten times its text.
const MAX_TEXT_BYTES: usize = 1 << 20;

/// SHA-256 of a document's text.
pub type Hash = [u8; 32];

/// What an operation does, known before it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OperationKind {
    /// Reads.
    Query,
    /// Changes something.
    Mutation,
    /// Goes on.
    Subscription,
}

/// A parsed document that has passed the gate.
pub(super) struct Document {
    pub(super) parsed: ExecutableDocument,
    text_bytes: usize,
}

impl Document {
    fn parse(text: &str) -> Result<Self, RequestError> {
        document::check(text)?;
        let parsed = async_graphql::parser::parse_query(text).map_err(|error| RequestError::syntax(&error))?;
        selections::check(&parsed)?;
        Ok(Self { parsed, text_bytes: text.len() })
    }

    /// The one operation that is meant, and whether it introspects.
    pub(super) fn select(&self, name: Option<&str>) -> Result<(OperationKind, bool), RequestError> {
        let mut meant = self
            .parsed
            .operations
            .iter()
            .filter(|(own, _)| name.is_none_or(|name| own.is_some_and(|own| own.as_str() == name)));
        let operation = match (meant.next(), meant.next()) {
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

/// The documents seen last.
pub(super) struct Documents {
    kept: Mutex<Kept>,
}

struct Kept {
    by_hash: LruCache<Hash, Arc<Document>>,
    text_bytes: usize,
}

impl Documents {
    pub(super) fn new() -> Self {
        Self { kept: Mutex::new(Kept { by_hash: LruCache::new(MAX_DOCUMENTS), text_bytes: 0 }) }
    }

    /// A document by its text; `claimed` is the hash the client gives with it, if it does.
    pub(super) fn by_text(&self, text: &str, claimed: Option<Hash>) -> Result<Arc<Document>, RequestError> {
        if text.len() > document::MAX_BYTES {
            // Before hashing it.
            document::check(text)?;
        }
        let hash: Hash = Sha256::digest(text.as_bytes()).into();
        if claimed.is_some_and(|claimed| claimed != hash) {
            return Err(RequestError::parameter("extensions", "sha256Hash is not the SHA-256 of the query"));
        }
        if let Some(document) = self.kept.lock().expect("document cache lock").by_hash.get(&hash) {
            return Ok(document.clone());
        }
        let document = Arc::new(Document::parse(text)?);
        self.keep(hash, document.clone());
        Ok(document)
    }

    /// A document sent before, by its hash alone.
    pub(super) fn by_hash(&self, hash: Hash) -> Result<Arc<Document>, RequestError> {
        let found = self.kept.lock().expect("document cache lock").by_hash.get(&hash).cloned();
        found.ok_or_else(|| RequestError::new("PERSISTED_QUERY_NOT_FOUND", "PersistedQueryNotFound"))
    }

    fn keep(&self, hash: Hash, document: Arc<Document>) {
        let mut kept = self.kept.lock().expect("document cache lock");
        kept.text_bytes += document.text_bytes;
        if let Some((_, old)) = kept.by_hash.push(hash, document) {
            kept.text_bytes -= old.text_bytes;
        }
        while kept.text_bytes > MAX_TEXT_BYTES {
            let Some((_, old)) = kept.by_hash.pop_lru() else { return };
            kept.text_bytes -= old.text_bytes;
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
        assert_eq!(documents.kept.lock().unwrap().by_hash.len(), MAX_DOCUMENTS.get());
        for n in 0..100 {
            documents.by_text(&format!("{{ a{n} }} #{}", "x".repeat(document::MAX_BYTES - 20)), None).unwrap();
        }
        let kept = documents.kept.lock().unwrap();
        assert!(kept.text_bytes <= MAX_TEXT_BYTES);
        assert_eq!(kept.text_bytes, kept.by_hash.iter().map(|(_, d)| d.text_bytes).sum::<usize>());
    }

    #[test]
    fn exactly_one_operation_is_meant() {
        let document = Document::parse("query A { a } mutation B { b }").unwrap();
        assert_eq!(document.select(Some("B")), Ok((OperationKind::Mutation, false)));
        assert!(document.select(None).is_err());
        assert!(document.select(Some("C")).is_err());
        assert_eq!(Document::parse("{ __schema { a } }").unwrap().select(None), Ok((OperationKind::Query, true)));
        assert!(Document::parse("{ a }").unwrap().select(Some("A")).is_err());
        assert!(Document::parse("subscription { a b }").unwrap().select(None).is_err());
    }
}
