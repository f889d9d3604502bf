//! What this process does with a request.

/// What this process does with a request. The span kind follows from it, and what an error means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// It answers a request of another process.
    Server,
    /// It sends the request to another server.
    Client,
    /// It runs the model for itself.
    Local,
}

impl Role {
    pub(crate) const fn is_client(self) -> bool {
        matches!(self, Self::Client)
    }
}
