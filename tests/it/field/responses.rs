//! Responses of the API and of proxies before it, and the files of the configuration.
