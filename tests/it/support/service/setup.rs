//! The configuration of a service in a test.

use std::path::PathBuf;

use countermand::{
    app::{App, Config},
    config::Flags,
    credentials::Machine,
    server::settings::ListenAddress,
    systemd::PassedSockets,
};
use tempfile::TempDir;
use tokio::sync::oneshot;

use super::{AUDIT_LOG, CA_FILE, Service, TLS_FILES, UNIX_SOCKET, endpoint};
use crate::support::{
    account, issuer,
    tls::{Authority, Pair},
    upstream::Upstream,
};

/// A builder for a service.
pub(crate) struct Setup {
    flags: Flags,
    variables: Vec<(&'static str, String)>,
    files: TempDir,
}

impl Setup {
    /// A service for the API at `upstream_url`, with the credential file `credentials`.
    pub(crate) fn new(upstream_url: &str, credentials: &str) -> Self {
        let files = tempfile::tempdir().unwrap();
        let path = files.path().join("credentials.json");
        std::fs::write(&path, credentials).unwrap();
        let flags = Flags::default()
            .with("--listen", "127.0.0.1:0")
            .with("--admin-listen", "127.0.0.1:0")
            .with("--credentials", path)
            .with("--upstream-url", upstream_url);
        let audit_log = files.path().join(AUDIT_LOG).to_str().unwrap().to_owned();
        Self { flags, variables: vec![("COUNTERMAND_AUDIT_FILE", audit_log)], files }
    }

    /// A service for the API at `upstream`, which is the token endpoint too.
    pub(crate) fn of(upstream: &Upstream) -> Self {
        Self::with_token_endpoint(upstream, upstream.url())
    }

    /// A service for the API at `upstream_url`, with the token endpoint of `tokens`.
    pub(crate) fn with_token_endpoint(tokens: &Upstream, upstream_url: &str) -> Self {
        Self::new(upstream_url, &account::key_file(&tokens.token_url()))
    }

    /// Replaces the credential by several. Each has a name, further lines of its TOML section, and a token endpoint.
    pub(crate) fn credentials(mut self, list: &[(&str, &str, &Upstream)]) -> Self {
        let mut sections = String::new();
        for (name, settings, tokens) in list {
            let key = account::key_file(&tokens.token_url());
            self.write(&format!("{name}.json"), &key);
            sections += &format!("[[credentials]]\nname = \"{name}\"\nfile = \"{name}.json\"\n{settings}\n");
        }
        let path = self.write("countermand.toml", &sections);
        self.flags = self.flags.without("--credentials").with("--config", path);
        self
    }

    /// Adds a `[[quota]]` section with these lines.
    pub(crate) fn quota(mut self, settings: &str) -> Self {
        let path = self.files.path().join("countermand.toml");
        let before = std::fs::read_to_string(&path).unwrap_or_default();
        let path = self.write("countermand.toml", &format!("{before}[[quota]]\n{settings}\n"));
        self.flags = self.flags.without("--config").with("--config", path);
        self
    }

    /// Replaces the credential by the account of this machine, with the metadata server at `host`.
    pub(crate) fn metadata_server(mut self, host: &str) -> Self {
        self.flags = self.flags.without("--credentials");
        self.variable("GCE_METADATA_HOST", host)
    }

    /// Sets `upstream.ca_certificates`.
    pub(crate) fn ca(mut self, pem: &str) -> Self {
        let path = self.write(CA_FILE, pem);
        self.flags = self.flags.with("--upstream-ca", path);
        self
    }

    /// Sets any environment variable.
    pub(crate) fn variable(mut self, name: &'static str, value: &str) -> Self {
        self.variables.push((name, value.to_owned()));
        self
    }

    /// Sets `callers.jwt` to the test issuer, with its key set at `jwks`: a URL or a file.
    pub(crate) fn jwt_issuer(self, jwks: &str) -> Self {
        self.variable("COUNTERMAND_CALLERS_JWT_ISSUER", issuer::ISSUER)
            .variable("COUNTERMAND_CALLERS_JWT_AUDIENCE", issuer::AUDIENCE)
            .variable("COUNTERMAND_CALLERS_JWT_JWKS", jwks)
    }

    /// Sets `upstream.timeout`.
    pub(crate) fn timeout(self, timeout: &str) -> Self {
        self.variable("COUNTERMAND_UPSTREAM_TIMEOUT", timeout)
    }

    /// Sets `upstream.iam_credentials_url`.
    pub(crate) fn iam(self, url: &str) -> Self {
        self.variable("COUNTERMAND_UPSTREAM_IAM_CREDENTIALS_URL", url)
    }

    /// Sets `policy.file` to a file with this content.
    pub(crate) fn policy(mut self, text: &str) -> Self {
        let path = self.write("policy.cedar", text);
        self.flags = self.flags.with("--policy", path);
        self
    }

    /// Sets `callers.jwt` to the test issuer, with its key set in a file with this content.
    pub(crate) fn jwt_key_set(self, key_set: &str) -> Self {
        let path = self.write("jwks.json", key_set);
        self.jwt_issuer(path.to_str().unwrap())
    }

    /// Adds a listener on a unix socket.
    pub(crate) fn unix(mut self) -> Self {
        let address = format!("unix:{}", self.files.path().join(UNIX_SOCKET).display());
        self.flags = self.flags.with("--listen", address);
        self
    }

    /// Sets `server.max_concurrent_calls`.
    pub(crate) fn max_concurrent_calls(self, calls: usize) -> Self {
        self.variable("COUNTERMAND_MAX_CONCURRENT_CALLS", &calls.to_string())
    }

    /// Sets `server.tls` to `pair`, and `client_ca` to `clients` if there is one.
    pub(crate) fn tls(self, pair: &Pair, clients: Option<&Authority>) -> Self {
        let [certificate, key, ca] = TLS_FILES.map(|(_, file)| self.files.path().join(file));
        pair.write(&certificate, &key);
        let mut files = vec![certificate, key];
        if let Some(clients) = clients {
            std::fs::write(&ca, clients.pem()).unwrap();
            files.push(ca);
        }
        let settings = TLS_FILES.into_iter().zip(files);
        settings.fold(self, |setup, ((name, _), file)| setup.variable(name, file.to_str().unwrap()))
    }

    fn write(&self, name: &str, content: &str) -> PathBuf {
        let path = self.files.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    }

    /// Starts the service and waits until it has a token.
    pub(crate) async fn start(self) -> Service {
        let mut service = self.start_without_token().await;
        service.ready().await;
        service
    }

    /// Starts the service without waiting for a token.
    pub(crate) async fn start_without_token(self) -> Service {
        let Self { flags, variables, files } = self;
        let variables = variables.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
        let config =
            Config::load(flags, variables, Machine::Elsewhere).unwrap_or_else(|errors| panic!("{errors}"));
        let app = App::start(config, PassedSockets::default()).await.unwrap();
        let addresses = app.addresses();
        let [ListenAddress::Tcp(address), ..] = addresses[..] else { panic!("{addresses:?}") };
        let (serving, admin) = (app.serving(), app.admin_address().unwrap());
        let (stop, stopped) = oneshot::channel::<()>();
        let running = tokio::spawn(app.run(async { drop(stopped.await) }, std::future::pending()));
        // The connection is lazy because some tests count connections, and a TLS listener rejects plaintext.
        let channel = endpoint(address).connect_lazy();
        Service { address, admin, serving, stop, running, channel, files }
    }
}
