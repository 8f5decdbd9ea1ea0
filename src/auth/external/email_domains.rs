//! The domains whose e-mail addresses external issuers may verify.

use std::collections::HashSet;
use std::sync::Arc;

use crate::settings::AuthSettings;

/// The domains of one issuer, in lower case; `None` for all.
#[derive(Debug, Clone)]
pub(super) struct EmailDomains(pub(super) Option<HashSet<String>>);

impl EmailDomains {
    /// Whether the issuer may verify this address.
    pub(super) fn contain(&self, email: &str) -> bool {
        let domain = email.rsplit_once('@').map(|(_, domain)| domain.to_ascii_lowercase());
        self.0.as_ref().is_none_or(|domains| domain.is_some_and(|domain| domains.contains(&domain)))
    }
}

/// The domains of all trusted issuers. An identity is linked to the account with its address, so no user may take an
/// address of these domains by themselves. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct IssuerDomains(Arc<[EmailDomains]>);

impl IssuerDomains {
    pub fn new(settings: &AuthSettings) -> Self {
        Self(settings.trusted_issuers.iter().map(|issuer| EmailDomains(issuer.email_domains.clone())).collect())
    }

    /// Whether any issuer may verify this address.
    pub fn contain(&self, email: &str) -> bool {
        self.0.iter().any(|domains| domains.contain(email))
    }
}
