//! Proxy variables and proxies.
