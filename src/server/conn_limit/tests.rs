use std::task::Poll;

use tokio::net::UnixStream;

use super::*;

/// The server's end of a connection. The client has closed the other end.
fn socket() -> Connected {
    Connected::Unix(UnixStream::pair().unwrap().0)
}

async fn is_revoked(slot: &mut RevocableSlot) -> bool {
    matches!(poll!(std::pin::pin!(slot.revoked())), Poll::Ready(()))
}

#[tokio::test(start_paused = true)]
async fn the_end_of_a_handshake_releases_its_slot() {
    let limit = RevocableSlots::new(2);
    let first = limit.acquire().await;
    let mut second = limit.acquire().await;
    let mut third = std::pin::pin!(limit.acquire());
    assert!(poll!(&mut third).is_pending());
    drop(first);
    let start = Instant::now();
    let _third = third.await;
    assert_eq!(start.elapsed(), Duration::ZERO);
    assert!(!is_revoked(&mut second).await);
}

#[tokio::test(start_paused = true)]
async fn only_the_oldest_handshake_is_revoked_once_its_grace_is_over() {
    let limit = RevocableSlots::new(2);
    let mut first = limit.acquire().await;
    tokio::time::advance(HANDSHAKE_GRACE / 2).await;
    let mut second = limit.acquire().await;
    let start = Instant::now();
    let mut third = limit.acquire().await;
    let waited = start.elapsed();
    assert!(waited >= HANDSHAKE_GRACE / 2 && waited < HANDSHAKE_GRACE, "{waited:?}");
    assert!(is_revoked(&mut first).await);
    assert!(!is_revoked(&mut second).await && !is_revoked(&mut third).await);
    drop(first);
    let _fourth = limit.acquire().await;
    assert!(is_revoked(&mut second).await, "the end of a revoked handshake releases no second slot");
}

#[tokio::test(start_paused = true)]
async fn every_waiter_gets_a_slot_when_no_handshake_ends() {
    let limit = RevocableSlots::new(1);
    let _silent = limit.acquire().await;
    let start = Instant::now();
    let waiting = (0..4).map(|_| async { drop(limit.acquire().await) });
    futures_util::future::join_all(waiting).await;
    assert!(start.elapsed() < HANDSHAKE_GRACE * 2, "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_connection_over_the_limit_replaces_the_oldest_without_a_preface_when_that_closes() {
    let limit = ConnLimit::new(2, 1, None, ConnectionMetrics::unregistered());
    let first = limit.admit(socket()).await.unwrap();
    let mut second = limit.admit(socket()).await.unwrap();
    let mut third = pin!(limit.admit(socket()));
    assert!(poll!(&mut third).is_pending());
    assert!(!is_revoked(&mut second.preface).await);
    let Admitted { preface, permit, .. } = first;
    assert!(!preface.release(), "the preface has arrived too late");
    assert!(poll!(&mut third).is_pending());
    drop(permit);
    let third = third.await.unwrap();
    assert!(second.preface.release() && third.preface.release());
    assert!(limit.admit(socket()).await.is_none(), "connections with a preface are not replaced");
}

#[tokio::test(start_paused = true)]
async fn connections_that_send_nothing_do_not_delay_each_other() {
    let limit = ConnLimit::new(1, 1, None, ConnectionMetrics::unregistered());
    let mut silent = limit.admit(socket()).await.unwrap();
    let start = Instant::now();
    for _ in 0..100 {
        let close = async |mut silent: Admitted| silent.preface.revoked().await;
        let (next, ()) = tokio::join!(limit.admit(socket()), close(silent));
        silent = next.unwrap();
    }
    assert_eq!(start.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn each_waiting_connection_gets_the_permit_of_one_revoked_connection() {
    let limit = ConnLimit::new(2, 1, None, ConnectionMetrics::unregistered());
    let first = limit.admit(socket()).await.unwrap();
    let second = limit.admit(socket()).await.unwrap();
    let (mut third, mut fourth) = (pin!(limit.admit(socket())), pin!(limit.admit(socket())));
    assert!(poll!(&mut third).is_pending() && poll!(&mut fourth).is_pending());
    assert!(limit.admit(socket()).await.is_none(), "no connection is left to replace");
    drop((first, second));
    assert!(third.await.is_some() && fourth.await.is_some());
}
