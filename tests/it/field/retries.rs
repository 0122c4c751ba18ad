//! Requests that cannot be built, and the retry budget.
