use proptest::prelude::*;
use prost_types::Struct;

use super::*;

/// What HTTP/2 counts for the status as tonic writes it, when the answer is nothing but trailers.
fn on_the_wire(status: &Status) -> usize {
    let response: http::Response<()> = status.clone().into_http();
    let date = ("date".len(), "Sun, 06 Nov 1994 08:49:37 GMT".len());
    let pseudo = (":status".len(), "200".len());
    response
        .headers()
        .iter()
        .map(|(name, value)| (name.as_str().len(), value.len()))
        .chain([date, pseudo])
        .map(|(name, value)| name + value + FIELD)
        .sum()
}

fn info(reason: &str, metadata: &[(&str, usize)]) -> Any {
    let metadata = metadata.iter().map(|&(key, length)| (key.to_owned(), "v".repeat(length)));
    let info =
        pb::ErrorInfo { reason: reason.to_owned(), domain: "d".to_owned(), metadata: metadata.collect() };
    details::pack("google.rpc.ErrorInfo", &info)
}

fn retry() -> Any {
    let retry_delay = Some(prost_types::Duration { seconds: 1, nanos: 0 });
    details::pack("google.rpc.RetryInfo", &pb::RetryInfo { retry_delay })
}

fn localized(length: usize) -> Any {
    let message = pb::LocalizedMessage { locale: "en".to_owned(), message: "m".repeat(length) };
    details::pack("google.rpc.LocalizedMessage", &message)
}

fn bad_request(length: usize) -> Any {
    let violation = pb::bad_request::FieldViolation { field: "f".repeat(length), ..Default::default() };
    let message = pb::BadRequest { field_violations: vec![violation] };
    details::pack("google.rpc.BadRequest", &message)
}

fn inner(status: &Status) -> pb::Status {
    let inner = pb::Status::decode(status.details()).unwrap();
    assert_eq!(inner.code, i32::from(status.code()));
    assert_eq!(inner.message, status.message());
    assert!(on_the_wire(status) < MAX_TRAILERS, "{}", on_the_wire(status));
    inner
}

#[test]
fn what_fits_goes_unchanged_in_its_order() {
    let structure = details::pack("google.protobuf.Struct", &Struct::default());
    let all = vec![structure, localized(1500), retry(), bad_request(1500), info("R", &[("k", 500)])];
    let built = status(Code::NotFound, "gone", all.clone());
    assert_eq!(inner(&built).details, all);
    assert_eq!(built.message(), "gone");
}

#[test]
fn a_long_message_is_cut_between_characters() {
    for (message, kept) in [
        ("a".repeat(1024), 1024),
        ("a".repeat(5000), 1024),
        (format!("a{}", "é".repeat(2560)), 1023),
        ("€".repeat(1700), 1023),
        (format!("ab{}", "😀".repeat(1280)), 1022),
    ] {
        let built = status(Code::Internal, &message, vec![info("R", &[])]);
        assert_eq!(built.message(), &message[..kept]);
        assert_eq!(inner(&built).details, [info("R", &[])]);
    }
}

#[test]
fn the_least_useful_details_go_first() {
    let structure = details::pack("google.protobuf.Struct", &Struct::default());
    let all = vec![localized(3000), structure.clone(), bad_request(3000), retry(), info("R", &[])];
    let built = status(Code::NotFound, "gone", all);
    let want = [structure, bad_request(3000), retry(), info("R", &[])];
    assert_eq!(inner(&built).details, want);
}

#[test]
fn two_hundred_details_keep_the_first_of_a_kind() {
    let mut all = vec![localized(100); 200];
    all.push(retry());
    all.push(info("R", &[]));
    let kept = inner(&status(Code::NotFound, &"é".repeat(2000), all)).details;
    assert_eq!(kept[kept.len() - 2..], [retry(), info("R", &[])]);
    assert!(kept.len() > 10, "{}", kept.len());
}

#[test]
fn an_error_info_too_big_loses_its_largest_metadata() {
    let big = info("R", &[("a", 10), ("b", 9000), ("c", 20), ("d", 11_000)]);
    let kept = inner(&status(Code::NotFound, "gone", vec![big, retry()])).details;
    assert_eq!(kept.len(), 2);
    assert_eq!(kept[1], retry());
    let info = pb::ErrorInfo::decode(&kept[0].value[..]).unwrap();
    let mut keys: Vec<_> = info.metadata.keys().map(String::as_str).collect();
    keys.sort_unstable();
    assert_eq!(keys, ["a", "c"]);
    assert_eq!(info.reason, "R");
}

#[test]
fn a_monstrous_reason_is_cut() {
    let kept = inner(&status(Code::NotFound, "gone", vec![info(&"é".repeat(9000), &[("a", 9)])])).details;
    assert_eq!(kept, [info(&"é".repeat(31), &[])]);
}

#[test]
fn percent_encoding_is_counted_as_tonic_writes_it() {
    let message: String = (1..0x250_u32).filter_map(char::from_u32).collect();
    let response: http::Response<()> = Status::new(Code::Internal, &message).into_http();
    assert_eq!(response.headers()["grpc-message"].len(), percent_encoded(&message));
}

/// Text of one to four bytes a character, short and long.
fn text() -> impl Strategy<Value = String> {
    ("[\\x01 %aé€😀]{0,9}", 0..500_usize).prop_map(|(text, times)| text.repeat(times))
}

proptest! {
    #[test]
    fn the_limits_hold_for_anything(
        message in text(),
        reason in text(),
        metadata in prop::collection::hash_map("\\PC{0,9}", text(), 0..12),
        others in prop::collection::vec((0..3_u8, 0..6000_usize), 0..40),
    ) {
        let info = pb::ErrorInfo { reason, domain: "d".to_owned(), metadata };
        let mut all = vec![details::pack("google.rpc.ErrorInfo", &info)];
        all.extend(others.into_iter().map(|(kind, length)| match kind {
            0 => retry(),
            1 => bad_request(length),
            _ => localized(length),
        }));
        let retries = all.iter().any(|any| rank(any) == 1);
        let kept = inner(&status(Code::Aborted, &message, all)).details;
        prop_assert_eq!(kept.iter().filter(|any| rank(any) == 0).count(), 1);
        prop_assert_eq!(kept.iter().any(|any| rank(any) == 1), retries);
    }
}
