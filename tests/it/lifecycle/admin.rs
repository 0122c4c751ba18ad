//! The admin port as an HTTP server. `readiness` and `credentials` test its pages.

use crate::{
    lifecycle::{
        google::Google,
        service::{SERVE, Service},
    },
    support::process::countermand_after,
};

#[tokio::test]
async fn the_admin_port_has_three_pages_for_every_host() {
    let google = Google::start().await;
    let service = Service::start(&google).await;
    service.ready().await;

    let (_, head, body) = service.request("GET", "/livez?verbose", "*/*").await;
    assert!(head.starts_with("http/1.1 200") && head.contains("content-type: text/plain; charset=utf-8"));
    assert_eq!(body, "ok\n");
    let (_, head, _) = service.request("GET", "/readyz", "application/json").await;
    assert!(head.contains("content-type: application/json"), "{head}");

    for path in ["/livez", "/readyz", "/metrics"] {
        let (status, head, body) = service.request("HEAD", path, "*/*").await;
        assert_eq!((status, body.as_str()), (200, ""), "{head}");
        assert!(head.contains("content-length: ") && !head.contains("content-length: 0"), "{head}");
        for method in ["POST", "DELETE", "OPTIONS"] {
            let (status, head, body) = service.request(method, path, "*/*").await;
            assert_eq!((status, body.as_str()), (405, ""), "{method} {path}");
            assert!(head.contains("allow: get,head"), "{head}");
        }
    }
    for path in ["/livez/", "/metrics/", "/statusz/", "/favicon.ico"] {
        for method in ["GET", "POST"] {
            let (status, _, body) = service.request(method, path, "*/*").await;
            assert_eq!((status, body.as_str()), (404, ""), "{method} {path}");
        }
    }
    assert_eq!(service.request("GET", "/livez", &"x".repeat(16 * 1024)).await.0, 431);
}

#[tokio::test]
async fn idle_clients_do_not_keep_a_probe_out() {
    let google = Google::start().await;
    // More idle connections than the process may have descriptors.
    let command = countermand_after("ulimit -n 64", &SERVE);
    let service = Service::start_as(&google, command, |_| {}).await;
    service.ready().await;
    let mut idle = Vec::new();
    for _ in 0..100 {
        idle.push(tokio::net::TcpStream::connect(service.admin).await.unwrap());
        assert_eq!(service.request("GET", "/livez", "*/*").await.0, 200);
    }
}
