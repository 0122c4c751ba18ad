//! Proxy variables and proxies.

use std::{fs, net::SocketAddr, os::unix::fs::PermissionsExt};

use countermand::proto::longrunning::operations_client::OperationsClient;
use tempfile::TempDir;
use tokio::process::Command;
use tonic::{Code, Status, transport::Endpoint};

use crate::support::{
    account,
    details::assert_our_error,
    forward_proxy::ForwardProxy,
    process::{Ended, Process, countermand, run},
    reply::Reply,
    service,
    tls::{API_HOST, Authority, H2, HTTP1, TOKEN_HOST},
    upstream::Upstream,
};

const NAME: &str = "enterprises/LC01/devices/d1/operations/17";

/// The files of a configuration whose API and token endpoint are hosts that do not resolve.
struct Configured(TempDir);

impl Configured {
    fn new(authority: &Authority) -> Self {
        Self::with(authority, &format!("https://{API_HOST}"), &format!("https://{TOKEN_HOST}/token"))
    }

    fn with(authority: &Authority, api: &str, token_url: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let file = |name: &str| directory.path().join(name);
        fs::write(file("key.json"), account::key_file(token_url)).unwrap();
        fs::set_permissions(file("key.json"), fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(file("ca.pem"), authority.pem()).unwrap();
        let config = format!(
            "[server]\nlisten = [\"127.0.0.1:0\"]\n[admin]\nlisten = \"off\"\n[upstream]\nurl = \"{api}\"\n\
             ca_certificates = \"ca.pem\"\n[[credentials]]\nname = \"default\"\nfile = \"key.json\"\n"
        );
        fs::write(file("c.toml"), config).unwrap();
        Self(directory)
    }

    fn command(&self, name: &str, variables: &[(&str, &str)]) -> Command {
        let mut command = countermand(&[name, "--config", "c.toml"]);
        command.current_dir(&self.0).envs(variables.iter().copied());
        command
    }

    async fn check(&self, variables: &[(&str, &str)]) -> Ended {
        run(&mut self.command("check", variables)).await
    }

    /// Starts `serve`, and waits until it listens.
    async fn serve(&self, variables: &[(&str, &str)]) -> (Process, SocketAddr) {
        let process = Process::start(&mut self.command("serve", variables));
        let address = process.stderr.see(|log| {
            let (_, rest) = log.split_once("listening address=")?;
            rest.split_whitespace().next()?.parse().ok()
        });
        let address = address.await;
        (process, address)
    }
}

async fn cancel(address: SocketAddr) -> Result<(), Status> {
    let channel = Endpoint::from_shared(format!("http://{address}")).unwrap();
    let mut client = OperationsClient::new(channel.connect().await.unwrap());
    service::cancel(&mut client, NAME).await
}

/// Asserts that `check` reaches the token endpoint and the API through the proxy with these variables.
async fn assert_proxied(proxy: &ForwardProxy, configured: &Configured, variables: &[(&str, &str)]) {
    let ended = configured.check(variables).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let mut lines = proxy.request_lines();
    lines.sort();
    assert_eq!(lines, [API_HOST, TOKEN_HOST].map(|host| format!("CONNECT {host}:443 HTTP/1.1")));
}

/// typst/typst #2006: with special characters in the password of the proxy's variable, the proxy is not used.
/// hashicorp/consul-template #132 and docker/docs #15082: the value contains the quotes around it.
/// seanmonstar/reqwest #790: reqwest without its `socks` feature bypasses a `socks5://` proxy.
#[tokio::test]
async fn a_proxy_that_cannot_be_used_is_a_configuration_error() {
    let authority = Authority::new();
    let upstream = Upstream::start_tls(&authority, &[H2, HTTP1]).await;
    let token_url = format!("{}/token", upstream.url());
    let configured = Configured::with(&authority, upstream.url(), &token_url);
    for (proxy, hint) in [
        (r"http://corp\svc:p@s3cr3t:w/rd#1%@127.0.0.1:3128", "percent-encode"),
        ("http://svc:s3cr3t@127.0.0.1:3128\n", "remove it"),
        ("http://svc:s3cr3t@127.0.0.1:3128 ", "remove it"),
        ("\"http://svc:s3cr3t@127.0.0.1:3128\"", "remove the quotes"),
        ("socks5://svc:s3cr3t@127.0.0.1:1080", "give http://host:port"),
    ] {
        // A second error shows that all errors are reported at once.
        let variables = [("HTTPS_PROXY", proxy), ("COUNTERMAND_LISTEN", "nowhere")];
        for (command, code) in [("serve", 78), ("check", 1)] {
            let ended = run(&mut configured.command(command, &variables)).await;
            assert_eq!(ended.code, Some(code), "{proxy:?}: {ended:?}");
            let line = ended.stderr.lines().find(|line| line.starts_with("HTTPS_PROXY: ")).unwrap();
            assert!(line.contains(hint), "{line}");
            assert!(ended.stderr.contains("COUNTERMAND_LISTEN: "), "{ended:?}");
            assert!(!ended.stderr.contains("s3cr3t"), "{ended:?}");
        }
    }
    assert_eq!(upstream.connections(), 0);
}

/// JuliaWeb/HTTP.jl #671: an empty variable counts as set.
/// seanmonstar/reqwest #1568: under CGI, which a set `REQUEST_METHOD` indicates, every proxy is ignored.
#[tokio::test]
async fn an_empty_variable_and_request_method_do_not_disable_the_proxy() {
    let authority = Authority::new();
    let configured = Configured::new(&authority);
    for (variable, other) in [
        ("https_proxy", ("HTTPS_PROXY", "")),
        ("HTTPS_PROXY", ("https_proxy", "")),
        ("all_proxy", ("HTTPS_PROXY", "")),
        ("HTTPS_PROXY", ("REQUEST_METHOD", "GET")),
    ] {
        let upstream = Upstream::start_tls(&authority, &[H2, HTTP1]).await;
        upstream.answers([Reply::plain_error(404, "NOT_FOUND", "")]);
        let proxy = ForwardProxy::start(upstream.address).await;
        assert_proxied(&proxy, &configured, &[(variable, &proxy.url), other]).await;
    }
}

/// psf/requests #4579: it is not documented which of both cases is used when both are set.
#[tokio::test]
async fn the_variable_in_lower_case_is_used_and_the_other_is_reported() {
    let authority = Authority::new();
    let upstream = Upstream::start_tls(&authority, &[H2, HTTP1]).await;
    upstream.answers([Reply::plain_error(404, "NOT_FOUND", "")]);
    let (configured, proxy) = (Configured::new(&authority), ForwardProxy::start(upstream.address).await);
    let variables = [("https_proxy", &*proxy.url), ("HTTPS_PROXY", "http://other.test:3128")];
    let ended = configured.check(&variables).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let used = format!("https_proxy: the proxy {} is used for {API_HOST}, {TOKEN_HOST}", proxy.url);
    assert!(ended.stdout.lines().any(|line| line == used), "{ended:?}");
    let warning = "countermand: warning: HTTPS_PROXY: it is ignored, because https_proxy is also set, and differs; set \
                   both to the same value, or unset one of them";
    assert!(ended.stderr.lines().any(|line| line == warning), "{ended:?}");
    let (serve, _) = configured.serve(&variables).await;
    serve.stderr.has("ignored a proxy variable").await;
}

/// vectordotdev/vector #17125: the login in a proxy's URL is not percent-decoded.
/// hyperium/hyper #3972: a proxy's URL with a user and without a password is ignored.
#[tokio::test]
async fn the_login_of_the_proxy_is_decoded_and_not_printed() {
    let authority = Authority::new();
    let configured = Configured::new(&authority);
    // The Base64 of `corp\svc:p@ss:w/rd#1%` and of `svc:`.
    for (login, encoded) in
        [(r"corp%5Csvc:p%40ss%3Aw%2Frd%231%25", r"Y29ycFxzdmM6cEBzczp3L3JkIzEl"), ("svc", "c3ZjOg==")]
    {
        let upstream = Upstream::start_tls(&authority, &[H2, HTTP1]).await;
        upstream.answers([Reply::ok()]);
        let proxy = ForwardProxy::start_tls(upstream.address, &authority).await;
        let variables = [("HTTPS_PROXY", &*proxy.url_with(login)), ("RUST_LOG", "trace")];
        let (serve, address) = configured.serve(&variables).await;
        serve.stderr.has("serving").await;
        cancel(address).await.unwrap();
        let (heads, header) = (proxy.heads(), format!("Proxy-Authorization: Basic {encoded}\r\n"));
        let has_header = |head: &String| head.to_lowercase().contains(&header.to_lowercase());
        assert!(heads.len() == 2 && heads.iter().all(has_header), "{heads:?}");
        let log = serve.stderr.text();
        assert!(!log.contains(login) && !log.contains(encoded), "{log}");
    }
}

/// openai/openai-python #3303: a line end in NO_PROXY becomes a part of a host.
/// curl/curl #9773: NO_PROXY does not accept networks.
#[tokio::test]
async fn check_reports_the_hosts_that_no_proxy_excepts() {
    let authority = Authority::new();
    let proxy = ForwardProxy::refusing("403 Forbidden").await;
    let configured =
        Configured::with(&authority, "https://10.1.2.3:1", &format!("https://{TOKEN_HOST}/token"));
    let used_for = |hosts: &str| format!("HTTPS_PROXY: the proxy {} is {hosts}", proxy.url);
    for (no_proxy, hosts) in [
        ("", "used for 10.1.2.3:1, oauth2.test"),
        ("other.test\n.oauth2.test", "used for 10.1.2.3:1, and not for oauth2.test"),
        ("10.0.0.0/8", "used for oauth2.test, and not for 10.1.2.3:1"),
        ("10.1.2.3:2 *.test", "used for 10.1.2.3:1, and not for oauth2.test"),
        ("*", "not used for 10.1.2.3:1, oauth2.test"),
    ] {
        let process = Process::start(
            &mut configured.command("check", &[("HTTPS_PROXY", &proxy.url), ("NO_PROXY", no_proxy)]),
        );
        process.stdout.has(&used_for(hosts)).await;
    }
    let ended = configured.check(&[("HTTPS_PROXY", &proxy.url), ("NO_PROXY", "10.0.0.0/8, 10.*")]).await;
    assert!(ended.stderr.contains("NO_PROXY: entry 2 is not a host; "), "{ended:?}");
}

/// seanmonstar/reqwest #596 and golang/go #38143: the error of a refused tunnel has no status.
#[tokio::test]
async fn the_status_of_a_proxy_that_refuses_the_tunnel_is_logged() {
    let authority = Authority::new();
    let tokens = Upstream::start().await;
    let configured = Configured::with(&authority, &format!("https://{API_HOST}"), &tokens.token_url());
    for (status, login, more) in [
        ("502 Bad Gateway", "", ""),
        ("403 Forbidden", "", ""),
        (
            "407 Proxy Authentication Required",
            "",
            " (it wants a user and a password, and HTTPS_PROXY has none)",
        ),
        (
            "407 Proxy Authentication Required",
            "svc:s3cr3t",
            " (it does not accept the user and the password in HTTPS_PROXY)",
        ),
    ] {
        let proxy = ForwardProxy::refusing(status).await;
        let url = if login.is_empty() { proxy.url.clone() } else { proxy.url_with(login) };
        let (serve, address) = configured.serve(&[("HTTPS_PROXY", &url)]).await;
        serve.stderr.has("serving").await;
        let error = cancel(address).await.unwrap_err();
        assert_our_error(&error, Code::Unavailable, "UPSTREAM_UNREACHABLE");
        assert!(!error.message().contains("proxy"), "{error:?}");
        serve.stderr.has(&format!("the proxy {} answers CONNECT with {status}{more}", proxy.url)).await;
        assert!(!serve.stderr.text().contains("s3cr3t"));
    }
}

/// request/request #2471 and ngx_http_proxy_connect_module #137: a proxy's 502 looks like an error of the host.
#[tokio::test]
async fn check_reports_the_status_of_a_proxy_that_refuses_the_tunnel() {
    let authority = Authority::new();
    let configured = Configured::new(&authority);
    for proxy in [
        ForwardProxy::refusing("407 Proxy Authentication Required").await,
        ForwardProxy::refusing_tls("407 Proxy Authentication Required", &authority).await,
    ] {
        let ended = configured.check(&[("HTTPS_PROXY", &proxy.url)]).await;
        assert_eq!(ended.code, Some(1), "{ended:?}");
        let answer = format!(
            "the proxy {} answers CONNECT with 407 Proxy Authentication Required (it wants a user and a password",
            proxy.url
        );
        let hint = "its variable holds the user and the password";
        let reports = |subject: &str| {
            let mut lines = ended.stderr.lines();
            lines.any(|line| line.contains(subject) && line.contains(&answer) && line.contains(hint))
        };
        assert!(reports("upstream: ") && reports("credential default: "), "{ended:?}");
    }
}
