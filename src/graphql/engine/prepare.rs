//! Prepares requests: finds or validates the document, selects the operation, coerces the variables and normalises.

use std::sync::Arc;

use async_graphql::Variables;
use async_graphql::parser::types::ExecutableDocument;

use super::Engine;
use crate::graphql::document::{Document, Hash};
use crate::graphql::limits::complexity;
use crate::graphql::operation::{Normalised, Operation, OperationKind, Selected};
use crate::graphql::request::GraphQLRequest;
use crate::graphql::request_error::RequestError;

/// Most memory of all arguments of one operation, in bytes. A variable counts as often as it is used.
const MAX_ARGUMENT_BYTES: usize = 2 << 20;

/// A normalised selection depends on the document, on the operation, and on the variables in directives.
pub(super) type SelectionKey = (Hash, usize, Vec<bool>);

/// A request that was accepted and can run.
pub struct Prepared {
    /// The document, and the index of the operation in it.
    source: (Arc<Document>, usize),
    pub(super) kind: OperationKind,
    pub(super) complexity: usize,
    pub(super) selection: Arc<Normalised>,
    /// The normalised operation with the values of the variables.
    pub(super) operation: ExecutableDocument,
}

/// Mutations that are judged by the password or the token in their arguments, or need neither.
const WITH_OWN_CREDENTIALS: [&str; 7] =
    ["login", "register", "refreshToken", "logout", "requestPasswordReset", "resetPassword", "verifyEmail"];

impl Prepared {
    pub fn kind(&self) -> OperationKind {
        self.kind
    }

    /// The name that the document gives the operation.
    pub fn name(&self) -> Option<&str> {
        let (document, selected) = &self.source;
        document.operations[*selected].name()
    }

    /// Whether the operation needs no access token, because every field of it carries its own credentials. Many clients
    /// send the token that they have stored with every request, also when it has expired.
    pub fn has_own_credentials(&self) -> bool {
        let mut names = self.selection.roots.iter().map(Selected::name).filter(|name| *name != "__typename").peekable();
        self.kind == OperationKind::Mutation
            && names.peek().is_some()
            && names.all(|name| WITH_OWN_CREDENTIALS.contains(&name))
    }
}

impl Engine {
    /// Finds the document, selects the operation and coerces the variables. Nothing runs yet.
    pub fn prepare(&self, request: GraphQLRequest) -> Result<Prepared, RequestError> {
        let document = match (request.query, request.persisted) {
            (Some(text), claimed) => self.documents.by_text(&text, claimed)?,
            (None, Some(hash)) => self.documents.by_hash(hash)?,
            (None, None) => return Err(RequestError::parameter("query", "the request has no query")),
        };
        // Some clients send an empty name in place of none.
        let name = request.operation_name.filter(|name| !name.is_empty());
        let selected = document.select(name.as_deref())?;
        let operation = &document.operations[selected];
        if operation.introspects() && !self.introspection {
            return Err(RequestError::new("FORBIDDEN", "introspection is off on this server"));
        }
        let variables = operation.coerce(&self.types, &document.executable, &request.variables)?;
        let key = (document.hash, selected, operation.conditions(&variables)?);
        let selection = self.selection(key, &document, operation, &variables)?;
        check_arguments(&selection, &variables)?;
        let (kind, complexity) = (operation.kind(), selection.complexity(&variables));
        complexity::check(complexity)?;
        let operation = selection.document(&variables);
        Ok(Prepared { source: (document, selected), kind, complexity, operation, selection })
    }

    fn selection(
        &self,
        key: SelectionKey,
        document: &Document,
        operation: &Operation,
        variables: &Variables,
    ) -> Result<Arc<Normalised>, RequestError> {
        if let Some(selection) = self.selections.lock().expect("selection cache lock").get(&key) {
            return Ok(selection);
        }
        let selection = Arc::new(operation.normalise(&self.types, &document.executable, variables));
        check_arguments(&selection, &Variables::default())?;
        let weight = selection.bytes();
        self.selections.lock().expect("selection cache lock").insert(key, selection.clone(), weight);
        Ok(selection)
    }
}

/// Refuses arguments whose values would take too much memory where they are inserted.
fn check_arguments(selection: &Normalised, variables: &Variables) -> Result<(), RequestError> {
    let bytes = selection.argument_bytes(variables);
    if bytes <= MAX_ARGUMENT_BYTES {
        return Ok(());
    }
    Err(RequestError::too_large(format!(
        "the arguments take {bytes} bytes with fragments and variables inserted, but at most {MAX_ARGUMENT_BYTES} are \
         allowed: use large values in fewer places"
    )))
}
