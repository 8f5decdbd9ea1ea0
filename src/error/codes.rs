//! What the error codes mean to clients. `docs/errors.md` is made from these tables.

/// One value of `extensions.code`.
pub struct ErrorCode {
    pub name: &'static str,
    /// What happened.
    pub meaning: &'static str,
    /// The HTTP status of a response that is refused as a whole. An error of single fields has status 200.
    pub http_status: &'static str,
    /// The close code of a socket that ends with this error.
    pub close_code: &'static str,
    /// Whether the same request can succeed.
    pub retry: &'static str,
    /// What a client does next.
    pub advice: &'static str,
    /// Further fields of `extensions`.
    pub fields: &'static str,
}

/// One value of `extensions.reason`.
pub struct Reason {
    pub name: &'static str,
    pub meaning: &'static str,
    pub advice: &'static str,
}

pub const CODES: [ErrorCode; 12] = [
    ErrorCode {
        name: "BAD_USER_INPUT",
        meaning: "The request, its document, a variable or an input value is wrong.",
        http_status: "400, 405, 406, 408, 415",
        close_code: "4400",
        retry: "no",
        advice: "Show the message at the input `field`.",
        fields: "`field`",
    },
    ErrorCode {
        name: "UNAUTHENTICATED",
        meaning: "The operation needs credentials, or those of the request are refused. See the reasons below.",
        http_status: "401",
        close_code: "4401, 4403",
        retry: "with other credentials",
        advice: "See the reasons below.",
        fields: "`reason`",
    },
    ErrorCode {
        name: "FORBIDDEN",
        meaning: "You may see the object, but not do this with it. At the end of a subscription: your rights in the home \
                  have ended or changed.",
        http_status: "403 (a socket from a foreign origin), 400 (introspection is off)",
        close_code: "",
        retry: "no",
        advice: "After a subscription, read the home again, and subscribe again if you still may.",
        fields: "",
    },
    ErrorCode {
        name: "NOT_FOUND",
        meaning: "The object does not exist, or you may not know that it does. At the end of a subscription: the home or \
                  the device was deleted.",
        http_status: "404 (an unknown path)",
        close_code: "",
        retry: "no",
        advice: "Forget the object.",
        fields: "",
    },
    ErrorCode {
        name: "CONFLICT",
        meaning: "The change conflicts with the present state, such as a name that is taken or a limit that is reached.",
        http_status: "",
        close_code: "",
        retry: "no",
        advice: "Read the object again, then decide. `deleteAccount` names homes that would have no owner in `homeIds`.",
        fields: "`homeIds`",
    },
    ErrorCode {
        name: "PAYLOAD_TOO_LARGE",
        meaning: "The request, an input value or the response is too large.",
        http_status: "413",
        close_code: "1009",
        retry: "no",
        advice: "Send or ask for less at a time.",
        fields: "`field`",
    },
    ErrorCode {
        name: "RATE_LIMITED",
        meaning: "You, your address or your socket has sent too much, or has too much open.",
        http_status: "429, with `Retry-After` if the time is known",
        close_code: "1013, 4429",
        retry: "later",
        advice: "Wait `retryAfterSeconds`. Without that field, end another subscription or socket first.",
        fields: "`retryAfterSeconds`",
    },
    ErrorCode {
        name: "LAGGED",
        meaning: "A subscription was more than 10,000 events behind and has ended.",
        http_status: "",
        close_code: "",
        retry: "at once",
        advice: "Subscribe again. For readings, with `afterId` set to the last ID that you received.",
        fields: "",
    },
    ErrorCode {
        name: "UNAVAILABLE",
        meaning: "The server, its database or its broker can't do it now. Nothing was changed.",
        http_status: "503",
        close_code: "1013",
        retry: "later",
        advice: "Wait `retryAfterSeconds`, or a pause that grows.",
        fields: "`retryAfterSeconds`",
    },
    ErrorCode {
        name: "OUTCOME_UNKNOWN",
        meaning: "The connection to the database was lost during the commit. The change may have been made.",
        http_status: "",
        close_code: "",
        retry: "no",
        advice: "Read what you wanted to change, then decide. A command with an `idempotencyKey` can be repeated.",
        fields: "",
    },
    ErrorCode {
        name: "INTERNAL",
        meaning: "A fault of the server, which is in its log.",
        http_status: "500",
        close_code: "",
        retry: "no",
        advice: "Report it with the `x-request-id` of the response.",
        fields: "",
    },
    ErrorCode {
        name: "PERSISTED_QUERY_NOT_FOUND",
        meaning: "The server does not know the document of this hash.",
        http_status: "400",
        close_code: "",
        retry: "with the document",
        advice: "Send the document with its hash. Clients with persisted queries do so by themselves.",
        fields: "",
    },
];

pub const REASONS: [Reason; 5] = [
    Reason {
        name: "TOKEN_MISSING",
        meaning: "No access token came with the request.",
        advice: "Sign in, and send the access token.",
    },
    Reason {
        name: "TOKEN_EXPIRED",
        meaning: "The access token has expired.",
        advice: "Call `refreshToken`, then repeat the request.",
    },
    Reason {
        name: "TOKEN_INVALID",
        meaning: "The access token or the refresh token is not valid here, or its session has ended.",
        advice: "For an access token, call `refreshToken` once. For a refresh token, sign in again.",
    },
    Reason {
        name: "INVALID_CREDENTIALS",
        meaning: "The e-mail address or the password is wrong.",
        advice: "Ask for them again.",
    },
    Reason {
        name: "REFRESH_REUSED",
        meaning: "The refresh token was used before: more than 30 seconds ago, by somebody who has refreshed again since, \
                  or, where one exchange gave several tokens, from another network. The session was ended.",
        advice: "Sign in again.",
    },
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{CredentialsError, Error};

    #[test]
    fn the_tables_have_every_error_and_every_reason() {
        let bad = || Error::bad_input("a", "b");
        let errors = [
            Error::ACCOUNT_DELETED,
            Error::Forbidden(""),
            Error::NotFound(""),
            bad(),
            Error::TooLarge { field: "", message: String::new() },
            Error::Conflict(String::new()),
            Error::TooSoon { retry_after_seconds: 1 },
            Error::Lagged,
            Error::Standby,
            Error::unavailable(bad()),
            Error::OutcomeUnknown(Box::new(bad())),
            Error::internal(bad()),
        ];
        for error in errors {
            assert!(CODES.iter().any(|code| code.name == error.code()), "{error:?}");
        }
        use CredentialsError::{InvalidCredentials, RefreshReused, TokenExpired, TokenInvalid, TokenMissing};
        let reasons = [TokenMissing, TokenExpired, TokenInvalid, InvalidCredentials, RefreshReused];
        assert_eq!(reasons.map(CredentialsError::name), REASONS.each_ref().map(|reason| reason.name));
    }
}
