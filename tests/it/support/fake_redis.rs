//! A Redis server for the shared quota: it runs the script of the service in Lua 5.1, as Redis does.

use std::{
    collections::{BTreeMap, HashMap},
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard},
    time::{SystemTime, UNIX_EPOCH},
};

use tokio::{
    io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
};

use super::{lua_redis::LuaRedis, process::eventually, tls::Authority};

/// A running server. Dropping it ends it.
pub(crate) struct FakeRedis {
    pub(crate) address: SocketAddr,
    server: Arc<Server>,
    /// The listener and the connections, while the server is up.
    tasks: Option<JoinSet<()>>,
}

#[derive(Default)]
struct Server {
    data: Mutex<Data>,
    is_stalled: watch::Sender<bool>,
    /// Secures the connections.
    authority: Option<Authority>,
}

#[derive(Default)]
struct Data {
    redis: LuaRedis,
    /// By their hash.
    scripts: HashMap<String, String>,
    /// The passwords that are accepted. Empty if none is required.
    passwords: Vec<String>,
    /// The address of the master that a sentinel reports, by name.
    masters: HashMap<String, SocketAddr>,
}

/// A reply in RESP2.
enum RespValue {
    Status(&'static str),
    Error(String),
    Integer(i64),
    Text(String),
    List(Vec<String>),
    Nil,
}

impl FakeRedis {
    /// Serves plaintext on loopback, without a password.
    pub(crate) async fn start() -> Self {
        Self::serve(None).await
    }

    /// Serves TLS with a certificate of `authority`.
    pub(crate) async fn start_tls(authority: Authority) -> Self {
        Self::serve(Some(authority)).await
    }

    async fn serve(authority: Option<Authority>) -> Self {
        let server = Arc::new(Server { authority, ..Server::default() });
        let mut redis = Self { address: ([127, 0, 0, 1], 0).into(), server, tasks: None };
        redis.up().await;
        redis
    }

    /// The URL without TLS.
    pub(crate) fn url(&self) -> String {
        format!("redis://{}", self.address)
    }

    /// Requires one of these passwords of new connections.
    pub(crate) fn require_passwords(&self, passwords: &[&str]) {
        self.data().passwords = passwords.iter().map(|&password| password.to_owned()).collect();
    }

    /// Reports the address of a master, as a sentinel does.
    pub(crate) fn report_master(&self, name: &str, address: SocketAddr) {
        self.data().masters.insert(name.to_owned(), address);
    }

    /// Stops or continues to answer. A stopped server accepts connections and reads nothing, as after SIGSTOP.
    pub(crate) fn stall(&self, is_stalled: bool) {
        self.server.is_stalled.send_replace(is_stalled);
    }

    /// Ends the server. All data is lost.
    pub(crate) async fn down(&mut self) {
        if let Some(mut tasks) = self.tasks.take() {
            tasks.shutdown().await;
        }
        let mut data = self.data();
        data.redis.hashes.clear();
        data.scripts.clear();
    }

    /// Starts the server again, at the same address.
    pub(crate) async fn up(&mut self) {
        let listener = TcpListener::bind(self.address).await.unwrap();
        self.address = listener.local_addr().unwrap();
        let mut tasks = JoinSet::new();
        tasks.spawn(Arc::clone(&self.server).accept(listener));
        self.tasks = Some(tasks);
    }

    /// Forgets the scripts, as `SCRIPT FLUSH` does.
    pub(crate) fn flush_scripts(&self) {
        self.data().scripts.clear();
    }

    /// Forgets the hashes, as `FLUSHALL` does.
    pub(crate) fn flush_hashes(&self) {
        self.data().redis.hashes.clear();
    }

    /// The hash of a project.
    pub(crate) fn hash(&self, project: &str) -> BTreeMap<String, String> {
        let key = format!("countermand:quota:{project}");
        self.data().redis.hashes.get(&key).cloned().unwrap_or_default()
    }

    /// Waits until this number of replicas has sent a heartbeat for a project.
    pub(crate) async fn has_replicas(&self, project: &str, number: usize) {
        eventually("the heartbeats of the replicas", async || {
            let hash = self.hash(project);
            (hash.keys().filter(|field| field.starts_with("replica:")).count() == number).then_some(())
        })
        .await;
    }

    fn data(&self) -> MutexGuard<'_, Data> {
        self.server.data.lock().unwrap()
    }
}

impl Server {
    async fn accept(self: Arc<Self>, listener: TcpListener) {
        // Dropped with this task.
        let mut connections = JoinSet::new();
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            connections.spawn(Arc::clone(&self).secure(socket));
        }
    }

    async fn secure(self: Arc<Self>, socket: TcpStream) {
        // A client may reject the certificate, and closes its connection at any time.
        let _ = match &self.authority {
            None => self.connection(socket).await,
            Some(authority) => match authority.acceptor(&[]).accept(socket).await {
                Ok(socket) => self.connection(socket).await,
                Err(error) => Err(error),
            },
        };
    }

    async fn connection(&self, socket: impl AsyncRead + AsyncWrite + Unpin) -> io::Result<()> {
        let mut socket = BufReader::new(socket);
        let mut stalled = self.is_stalled.subscribe();
        let mut is_authenticated = self.data.lock().unwrap().passwords.is_empty();
        loop {
            let command = read_command(&mut socket).await?;
            let _ = stalled.wait_for(|stalled| !stalled).await;
            let reply = self.data.lock().unwrap().run(&command, &mut is_authenticated);
            socket.write_all(&reply.encode()).await?;
            socket.flush().await?;
        }
    }
}

impl Data {
    fn run(&mut self, command: &[String], is_authenticated: &mut bool) -> RespValue {
        let command: Vec<&str> = command.iter().map(String::as_str).collect();
        let [name, ref arguments @ ..] = *command else { return error("ERR no command") };
        let name = name.to_ascii_uppercase();
        if name != "AUTH" && !*is_authenticated {
            return error("NOAUTH Authentication required.");
        }
        match (&*name, arguments) {
            ("AUTH", [.., password]) if self.passwords.iter().any(|accepted| accepted == password) => {
                *is_authenticated = true;
                RespValue::Status("OK")
            }
            // Redis quotes the arguments of a command that it does not know. A renamed AUTH is one.
            ("AUTH", arguments) if self.passwords.is_empty() => {
                error(&format!("ERR unknown command 'AUTH', with args beginning with: {arguments:?}"))
            }
            ("AUTH", _) => error("WRONGPASS invalid username-password pair or user is disabled."),
            ("SELECT", [_]) => RespValue::Status("OK"),
            ("SCRIPT", ["LOAD", source]) => {
                let hash = redis::Script::new(source).get_hash().to_owned();
                self.scripts.insert(hash.clone(), (*source).to_owned());
                RespValue::Text(hash)
            }
            ("EVALSHA", [hash, "1", key, arguments @ ..]) => match self.scripts.get(*hash) {
                None => error("NOSCRIPT No matching script. Please use EVAL."),
                Some(source) => {
                    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros();
                    self.redis.now = now.try_into().unwrap();
                    let arguments: Vec<_> = arguments.iter().map(|&argument| argument.to_owned()).collect();
                    match self.redis.eval(source, &[(*key).to_owned()], &arguments) {
                        Ok(reply) => RespValue::List(reply),
                        Err(problem) => error(&format!("ERR {}", problem.replace(['\r', '\n'], " "))),
                    }
                }
            },
            ("PEXPIRE", [key, _]) => RespValue::Integer(self.redis.hashes.remove(*key).is_some().into()),
            ("SENTINEL", [_, master]) => match self.masters.get(*master) {
                Some(address) => RespValue::List(vec![address.ip().to_string(), address.port().to_string()]),
                None => RespValue::Nil,
            },
            _ => error("ERR unknown command"),
        }
    }
}

fn error(text: &str) -> RespValue {
    RespValue::Error(text.to_owned())
}

impl RespValue {
    fn encode(&self) -> Vec<u8> {
        let text = |text: &str| format!("${}\r\n{text}\r\n", text.len());
        let reply = match self {
            Self::Status(status) => format!("+{status}\r\n"),
            Self::Error(error) => format!("-{error}\r\n"),
            Self::Integer(number) => format!(":{number}\r\n"),
            Self::Text(value) => text(value),
            Self::List(list) => {
                let values: String = list.iter().map(|value| text(value)).collect();
                format!("*{}\r\n{values}", list.len())
            }
            Self::Nil => "*-1\r\n".to_owned(),
        };
        reply.into_bytes()
    }
}

/// Reads a command: a list of texts.
async fn read_command(socket: &mut (impl AsyncBufReadExt + Unpin)) -> io::Result<Vec<String>> {
    let mut command = Vec::new();
    for _ in 0..read_number(socket, '*').await? {
        let mut text = vec![0; read_number(socket, '$').await? + 2];
        socket.read_exact(&mut text).await?;
        text.truncate(text.len() - 2);
        command.push(String::from_utf8(text).unwrap());
    }
    Ok(command)
}

async fn read_number(socket: &mut (impl AsyncBufReadExt + Unpin), kind: char) -> io::Result<usize> {
    let mut line = String::new();
    if socket.read_line(&mut line).await? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let number = line.trim_end().strip_prefix(kind).and_then(|number| number.parse().ok());
    Ok(number.unwrap_or_else(|| panic!("not RESP: {line:?}")))
}
