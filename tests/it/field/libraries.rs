//! Open issues of the libraries on the path of a call.
