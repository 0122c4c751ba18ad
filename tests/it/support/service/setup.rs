//! How a service is set up.

use std::path::PathBuf;

use countermand::{
    app::{App, Config},
    config::Flags,
    credentials::Machine,
    server::settings::ListenAddress,
};
use tempfile::TempDir;
use tokio::sync::oneshot;

use super::{AUDIT_LOG, CA_FILE, Service, TLS_FILES, UNIX_SOCKET, endpoint};
use crate::support::{
    account, issuer,
    tls::{Authority, Pair},
    upstream::Upstream,
};

/// How a service is to be started.
pub(crate) struct Setup {
    flags: Flags,
    variables: Vec<(&'static str, String)>,
    files: TempDir,
}

impl Setup {
    /// In front of an API, with the key file `credentials`.
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

    /// In front of `upstream`, which serves the tokens too.
    pub(crate) fn of(upstream: &Upstream) -> Self {
        Self::with_tokens_of(upstream, upstream.url())
    }

    /// In front of an API, with tokens of `tokens`.
    pub(crate) fn with_tokens_of(tokens: &Upstream, upstream_url: &str) -> Self {
        Self::new(upstream_url, &account::key_file(&tokens.token_url()))
    }

    /// With several credentials in place of the one: for each its name, what else the configuration says
    /// of it, and who gives it tokens.
    pub(crate) fn credentials(mut self, list: &[(&str, &str, &Upstream)]) -> Self {
        let mut sections = String::new();
        for (name, more, tokens) in list {
            let key = account::key_file(&tokens.token_url());
            self.write(&format!("{name}.json"), &key);
            sections += &format!("[[credentials]]\nname = \"{name}\"\nfile = \"{name}.json\"\n{more}\n");
        }
        let path = self.write("countermand.toml", &sections);
        self.flags = self.flags.without("--credentials").with("--config", path);
        self
    }

    /// `upstream.ca_certificates`.
    pub(crate) fn ca(mut self, pem: &str) -> Self {
        let path = self.write(CA_FILE, pem);
        self.flags = self.flags.with("--upstream-ca", path);
        self
    }

    /// Any setting, by its variable.
    pub(crate) fn variable(mut self, name: &'static str, value: &str) -> Self {
        self.variables.push((name, value.to_owned()));
        self
    }

    /// `callers.jwt`, of the issuer of the tests, whose keys are at `jwks`: a URL or a file.
    pub(crate) fn tokens_of_issuer(self, jwks: &str) -> Self {
        self.variable("COUNTERMAND_CALLERS_JWT_ISSUER", issuer::ISSUER)
            .variable("COUNTERMAND_CALLERS_JWT_AUDIENCE", issuer::AUDIENCE)
            .variable("COUNTERMAND_CALLERS_JWT_JWKS", jwks)
    }

    /// `upstream.timeout`, as a configuration writes it.
    pub(crate) fn timeout(self, timeout: &str) -> Self {
        self.variable("COUNTERMAND_UPSTREAM_TIMEOUT", timeout)
    }

    /// `upstream.iam_credentials_url`.
    pub(crate) fn iam(self, url: &str) -> Self {
        self.variable("COUNTERMAND_UPSTREAM_IAM_CREDENTIALS_URL", url)
    }

    /// `policy.file`, of this content.
    pub(crate) fn policy(mut self, text: &str) -> Self {
        let path = self.write("policy.cedar", text);
        self.flags = self.flags.with("--policy", path);
        self
    }

    /// `callers.jwt`, of the issuer of the tests, whose keys are in a file of this content.
    pub(crate) fn tokens_by(self, key_set: &str) -> Self {
        let path = self.write("jwks.json", key_set);
        self.tokens_of_issuer(path.to_str().unwrap())
    }

    /// Listens on a unix socket too.
    pub(crate) fn unix(mut self) -> Self {
        let address = format!("unix:{}", self.files.path().join(UNIX_SOCKET).display());
        self.flags = self.flags.with("--listen", address);
        self
    }

    /// `server.max_concurrent_calls`.
    pub(crate) fn places(self, calls: usize) -> Self {
        self.variable("COUNTERMAND_MAX_CONCURRENT_CALLS", &calls.to_string())
    }

    /// `server.tls`: serves by `pair`, and demands certificates of `clients` where there is one.
    pub(crate) fn tls(self, pair: &Pair, clients: Option<&Authority>) -> Self {
        let [certificate, key, ca] = TLS_FILES.map(|(_, file)| self.files.path().join(file));
        pair.write(&certificate, &key);
        let mut files = vec![certificate, key];
        if let Some(clients) = clients {
            std::fs::write(&ca, clients.pem()).unwrap();
            files.push(ca);
        }
        let given = TLS_FILES.into_iter().zip(files);
        given.fold(self, |setup, ((name, _), file)| setup.variable(name, file.to_str().unwrap()))
    }

    fn write(&self, name: &str, content: &str) -> PathBuf {
        let path = self.files.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    }

    /// Starts it, and waits until it has a token.
    pub(crate) async fn start(self) -> Service {
        let mut service = self.start_without_token().await;
        service.ready().await;
        service
    }

    /// Starts it; whether it gets a token is another matter.
    pub(crate) async fn start_without_token(self) -> Service {
        let Self { flags, variables, files } = self;
        let variables = variables.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
        let config =
            Config::load(flags, variables, Machine::Elsewhere).unwrap_or_else(|errors| panic!("{errors}"));
        let app = App::start(config).await.unwrap();
        let addresses = app.addresses();
        let [ListenAddress::Tcp(address), ..] = addresses[..] else { panic!("{addresses:?}") };
        let serving = app.serving();
        let (stop, stopped) = oneshot::channel::<()>();
        let running = tokio::spawn(app.run(async { drop(stopped.await) }, std::future::pending()));
        // Not before it is used: some tests count connections, and over TLS it would not do.
        let channel = endpoint(address).connect_lazy();
        Service { address, serving, stop, running, channel, files }
    }
}
