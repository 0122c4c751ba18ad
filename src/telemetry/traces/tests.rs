use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue};

use super::{Queue, Sampler, SpanContext, Trace, Tracer, TracerInner, trace_state};
use crate::{
    proto::otlp::trace::span::SpanKind,
    trace_id::{TraceId, TraceParent},
};

const PARENT: &[u8] = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

fn tracer(ratio: f64) -> Tracer {
    let (sampler, queue) = (Sampler::new(ratio, true), Arc::new(Queue::new(1000, 1000)));
    Tracer(Arc::new(TracerInner { sampler, propagates: true, queue }))
}

fn states(values: &[&str]) -> HeaderMap {
    let values = values.iter().map(|value| HeaderValue::from_str(value).expect("valid"));
    values.map(|value| (HeaderName::from_static("tracestate"), value)).collect()
}

#[test]
fn a_trace_state_is_forwarded_only_with_its_parent_and_if_it_is_short() {
    let parent = TraceParent::parse(PARENT);
    let long = "a=".to_owned() + &"x".repeat(511);
    for (given, want) in [
        (&["a=1"][..], Some("a=1")),
        (&["a=1", "b=2"], Some("a=1,b=2")),
        (&[""], None),
        (&[&long], None),
        (&[&long[..512]], Some(&long[..512])),
        (&[], None),
    ] {
        let state = trace_state(parent, &states(given));
        assert_eq!(state.as_ref().map(|state| state.to_str().expect("ASCII")), want, "{given:?}");
        assert_eq!(trace_state(None, &states(given)), None);
    }
}

#[test]
fn a_call_that_is_not_sampled_has_a_context_and_no_spans() {
    let tracer = tracer(0.0);
    let call = tracer.start_call("GetOperation", TraceId::random(), None, &HeaderMap::new());
    let trace = Trace { id: None, span: Some(call.context().clone()) };
    assert!(!call.is_recorded() && trace.child(SpanKind::Internal, "policy").is_none());
    assert!(SpanContext::linked(&[call.context().clone()], "poll").is_none());
    let mut headers = HeaderMap::new();
    trace.inject(None, &mut headers);
    assert!(headers["traceparent"].to_str().expect("ASCII").ends_with("-02"), "{headers:?}");
    drop((call, trace));
    assert!(tracer.0.queue.take_batch().is_empty());
}

#[test]
fn a_span_has_at_most_128_links() {
    let tracer = tracer(1.0);
    let calls =
        (0..130).map(|_| tracer.start_call("WaitOperation", TraceId::random(), None, &HeaderMap::new()));
    let calls: Vec<_> = calls.collect();
    let contexts: Vec<_> = calls.iter().map(|call| call.context().clone()).collect();
    drop(SpanContext::linked(&contexts, "poll"));
    let [poll] = &tracer.0.queue.take_batch()[..] else { panic!("one span has ended") };
    assert_eq!((poll.links.len(), poll.dropped_links_count), (128, 2));
}

#[test]
fn a_waiter_that_has_left_is_not_linked() {
    let call = tracer(1.0).start_call("WaitOperation", TraceId::random(), None, &HeaderMap::new());
    let waiter = call.context().downgrade();
    assert!(waiter.upgrade().is_some());
    drop(call);
    assert!(waiter.upgrade().is_none());
}
