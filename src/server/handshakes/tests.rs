use std::task::Poll;

use futures_util::poll;

use super::*;

async fn gave_way(handshake: &mut Handshake) -> bool {
    matches!(poll!(std::pin::pin!(handshake.gives_way())), Poll::Ready(()))
}

#[tokio::test(start_paused = true)]
async fn a_place_is_free_again_when_its_handshake_ends() {
    let all = Handshakes::new(2);
    let first = all.begin().await;
    let mut second = all.begin().await;
    let mut third = std::pin::pin!(all.begin());
    assert!(poll!(&mut third).is_pending());
    drop(first);
    let began = Instant::now();
    let _third = third.await;
    assert_eq!(began.elapsed(), Duration::ZERO);
    assert!(!gave_way(&mut second).await);
}

#[tokio::test(start_paused = true)]
async fn the_oldest_gives_way_once_it_is_out_of_patience_and_no_other() {
    let all = Handshakes::new(2);
    let mut first = all.begin().await;
    tokio::time::advance(PATIENCE / 2).await;
    let mut second = all.begin().await;
    let began = Instant::now();
    let mut third = all.begin().await;
    assert!(began.elapsed() >= PATIENCE / 2 && began.elapsed() < PATIENCE, "{:?}", began.elapsed());
    assert!(gave_way(&mut first).await);
    assert!(!gave_way(&mut second).await && !gave_way(&mut third).await);
    drop(first);
    let _fourth = all.begin().await;
    assert!(gave_way(&mut second).await, "the one that left before counts for nothing");
}

#[tokio::test(start_paused = true)]
async fn all_who_wait_get_a_place_though_nobody_leaves() {
    let all = Handshakes::new(1);
    let _mute = all.begin().await;
    let began = Instant::now();
    let waiting = (0..4).map(|_| async { drop(all.begin().await) });
    futures_util::future::join_all(waiting).await;
    assert!(began.elapsed() < PATIENCE * 2, "{:?}", began.elapsed());
}
