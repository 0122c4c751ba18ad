//! Errors of the API that the operator must mend.
