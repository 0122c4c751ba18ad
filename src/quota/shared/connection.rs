//! Connects to the store, and logs in.

use std::{io, path::Path, sync::Arc, time::Duration};

use redis::{
    AsyncConnectionConfig, Cmd, FromRedisValue, RedisConnectionInfo, aio::MultiplexedConnection, cmd,
};
use rustls::{ClientConfig, RootCertStore, crypto::aws_lc_rs, pki_types::ServerName};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, UnixStream},
    time::timeout,
};
use tokio_rustls::TlsConnector;
use tokio_util::task::AbortOnDropHandle;
use url::Host;

use super::{
    login::{Login, Password},
    settings::{StoreConfig, StoreUrl, borrowed, port},
    store_error::StoreError,
};
use crate::loopback::is_loopback_host;

/// The time limit of a connection with its handshake and login.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// The time limit of the request to one sentinel.
const SENTINEL_TIMEOUT: Duration = Duration::from_millis(500);

/// A connection that is logged in. Cheap to clone. It closes when the last clone is dropped, so that a late reply is
/// never read.
#[derive(Clone)]
pub(super) struct StoreConnection {
    pub(super) commands: MultiplexedConnection,
    /// The address of the server.
    pub(super) address: Arc<str>,
    driver: Arc<AbortOnDropHandle<()>>,
}

/// Connects to the store, by way of a sentinel if that is set up. Tries the newest password first. Returns the number of
/// the password that the store accepts.
///
/// # Errors
///
/// The last error, of the oldest password or of the last sentinel. A rejected login has precedence.
pub(super) async fn connect(
    config: &StoreConfig,
    roots: &Arc<RootCertStore>,
    login: &Login,
) -> Result<(StoreConnection, usize), StoreError> {
    let mut accepted = 0;
    loop {
        let password = login.passwords.get(accepted);
        let attempt = Attempt { config, roots, username: login.username.as_deref(), password };
        match attempt.run().await {
            Ok(connection) => return Ok((connection, accepted)),
            Err(error) if error.is_login() && accepted + 1 < login.passwords.len() => accepted += 1,
            Err(error) => return Err(error),
        }
    }
}

/// An attempt to connect with one password.
#[derive(Clone, Copy)]
struct Attempt<'a> {
    config: &'a StoreConfig,
    roots: &'a Arc<RootCertStore>,
    username: Option<&'a str>,
    password: Option<&'a Password>,
}

impl Attempt<'_> {
    async fn run(self) -> Result<StoreConnection, StoreError> {
        let (hosts, has_tls, database) = match &self.config.url {
            StoreUrl::Unix(path) => return self.timed(CONNECT_TIMEOUT, self.open_unix(path)).await,
            StoreUrl::Network { hosts, has_tls, database } => (hosts, *has_tls, *database),
        };
        let Some(master) = &self.config.sentinel_master else {
            let mut result = Err(StoreError::Malformed);
            // There is one host.
            for (host, given) in hosts {
                let opened = self.open_network(host, port(*given, false), has_tls, database);
                result = self.timed(CONNECT_TIMEOUT, opened).await;
            }
            return result;
        };
        let mut cause = String::new();
        let mut rejected = None;
        for (host, given) in hosts {
            let opened = self.open_by_sentinel(host, port(*given, true), has_tls, database, master);
            match opened.await {
                Ok(connection) => return Ok(connection),
                Err(error) if error.is_login() => rejected = Some(error),
                Err(error) => cause = error.to_string(),
            }
        }
        // Another password may help.
        Err(rejected.unwrap_or_else(|| StoreError::Sentinels { master: master.clone(), cause }))
    }

    /// Connects to the master that a sentinel reports. A sentinel that missed a failover reports the old master, so an error
    /// does not end the search.
    async fn open_by_sentinel(
        self,
        sentinel: &Host,
        sentinel_port: u16,
        has_tls: bool,
        database: u16,
        master: &str,
    ) -> Result<StoreConnection, StoreError> {
        let found = self.master(sentinel, sentinel_port, has_tls, master);
        let (host, port) = self.timed(SENTINEL_TIMEOUT, found).await?;
        self.timed(CONNECT_TIMEOUT, self.open_network(&host, port, has_tls, database)).await
    }

    async fn timed<T>(
        self,
        limit: Duration,
        step: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let timed_out = || {
            let (address, cause) = (self.config.url.to_string(), StoreError::Timeout(limit).to_string());
            StoreError::Connect { address, cause }
        };
        timeout(limit, step).await.unwrap_or_else(|_| Err(timed_out()))
    }

    /// Returns the address of the master that a sentinel reports.
    async fn master(
        self,
        host: &Host,
        port: u16,
        has_tls: bool,
        name: &str,
    ) -> Result<(Host, u16), StoreError> {
        let mut sentinel = self.connect_network(host, port, has_tls).await?;
        let mut request = cmd("SENTINEL");
        request.arg("GET-MASTER-ADDR-BY-NAME").arg(name);
        let reply: Result<Option<(String, u16)>, _> = sentinel.query(&request).await;
        let reply = match reply {
            // A sentinel has a login only if it was given one.
            Err(StoreError::NoPassword) if self.password.is_some() => {
                self.log_in(&mut sentinel).await?;
                sentinel.query(&request).await?
            }
            other => other?,
        };
        let Some((host, port)) = reply else {
            return Err(StoreError::Command(format!("{} does not know the master", sentinel.address)));
        };
        let host = parse_host(&host).ok_or(StoreError::Malformed)?;
        if !has_tls && !is_loopback_host(&borrowed(&host)) {
            let problem = format!("redis:// would send the password to {host} in clear over the network");
            return Err(StoreError::Command(problem));
        }
        Ok((host, port))
    }

    async fn open_network(
        self,
        host: &Host,
        port: u16,
        has_tls: bool,
        database: u16,
    ) -> Result<StoreConnection, StoreError> {
        let mut connection = self.connect_network(host, port, has_tls).await?;
        self.log_in(&mut connection).await?;
        if database != 0 {
            connection.query::<()>(cmd("SELECT").arg(database)).await?;
        }
        Ok(connection)
    }

    async fn open_unix(self, path: &Path) -> Result<StoreConnection, StoreError> {
        let address = self.config.url.to_string();
        let failed =
            |error: io::Error| StoreError::Connect { address: address.clone(), cause: error.to_string() };
        let stream = UnixStream::connect(path).await.map_err(failed)?;
        let mut connection = StoreConnection::over(stream, &address).await?;
        self.log_in(&mut connection).await?;
        Ok(connection)
    }

    async fn connect_network(
        self,
        host: &Host,
        port: u16,
        has_tls: bool,
    ) -> Result<StoreConnection, StoreError> {
        let scheme = if has_tls { "rediss" } else { "redis" };
        let address = format!("{scheme}://{host}:{port}");
        let failed = |cause: String| StoreError::Connect { address: address.clone(), cause };
        let name = match host {
            Host::Domain(name) => name.clone(),
            Host::Ipv4(address) => address.to_string(),
            Host::Ipv6(address) => address.to_string(),
        };
        let stream = TcpStream::connect((&*name, port)).await.map_err(|error| failed(error.to_string()))?;
        stream.set_nodelay(true).map_err(|error| failed(error.to_string()))?;
        if !has_tls {
            return StoreConnection::over(stream, &address).await;
        }
        let config = tls_config(self.roots).map_err(|error| failed(error.to_string()))?;
        let name = ServerName::try_from(name).map_err(|error| failed(error.to_string()))?;
        let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await;
        StoreConnection::over(stream.map_err(|error| failed(error.to_string()))?, &address).await
    }

    async fn log_in(self, connection: &mut StoreConnection) -> Result<(), StoreError> {
        let Some(password) = self.password else { return Ok(()) };
        let mut auth = cmd("AUTH");
        if let Some(username) = self.username {
            auth.arg(username);
        }
        auth.arg(password.as_str());
        let reply: Result<(), _> = auth.query_async(&mut connection.commands).await;
        reply.map_err(|error| StoreError::of_login(&error))
    }
}

impl StoreConnection {
    async fn over(
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        address: &str,
    ) -> Result<Self, StoreError> {
        // The callers have time limits.
        let config = AsyncConnectionConfig::new().set_connection_timeout(None).set_response_timeout(None);
        let info = RedisConnectionInfo::default().set_skip_set_lib_name();
        let (commands, driver) = MultiplexedConnection::new_with_config(&info, stream, config)
            .await
            .map_err(|error| StoreError::from(&error))?;
        let driver = Arc::new(AbortOnDropHandle::new(tokio::spawn(driver)));
        Ok(Self { commands, address: address.into(), driver })
    }

    /// Whether this is a clone of `other`.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.driver, &other.driver)
    }

    /// Runs a command whose arguments are no secrets.
    pub(super) async fn query<T: FromRedisValue>(&mut self, command: &Cmd) -> Result<T, StoreError> {
        command.query_async(&mut self.commands).await.map_err(|error| StoreError::from(&error))
    }
}

fn tls_config(roots: &Arc<RootCertStore>) -> Result<ClientConfig, rustls::Error> {
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()?;
    Ok(builder.with_root_certificates(Arc::clone(roots)).with_no_client_auth())
}

/// The host in a reply of a sentinel. An IPv6 address has no brackets there.
fn parse_host(text: &str) -> Option<Host> {
    match text.parse() {
        Ok(address) => Some(Host::Ipv6(address)),
        Err(_) => Host::parse(text).ok(),
    }
}
