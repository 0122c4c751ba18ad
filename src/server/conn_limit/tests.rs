use std::task::Poll;

use futures_util::poll;

use super::*;

async fn is_revoked(slot: &mut HandshakeSlot) -> bool {
    matches!(poll!(std::pin::pin!(slot.revoked())), Poll::Ready(()))
}

#[tokio::test(start_paused = true)]
async fn the_end_of_a_handshake_releases_its_slot() {
    let limit = HandshakeLimit::new(2);
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
    let limit = HandshakeLimit::new(2);
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
    let limit = HandshakeLimit::new(1);
    let _silent = limit.acquire().await;
    let start = Instant::now();
    let waiting = (0..4).map(|_| async { drop(limit.acquire().await) });
    futures_util::future::join_all(waiting).await;
    assert!(start.elapsed() < HANDSHAKE_GRACE * 2, "{:?}", start.elapsed());
}
