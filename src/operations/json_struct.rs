//! Converts JSON to `google.protobuf.Struct`, for Google's types whose protos are not published.

use prost_types::{ListValue, Struct, Value, value::Kind};
use serde_json::{Map, Number, Value as Json};

/// The maximum depth of nested values. Deeper objects and arrays become JSON text. Protobuf decoders allow 100
/// nested messages, and a nested object takes three of them.
const MAX_DEPTH: usize = 30;

/// Converts an object with every member. A `Struct` has only doubles. A number that a double cannot represent
/// exactly becomes a string, because an identifier must not change.
#[must_use]
pub(super) fn from_object(members: &Map<String, Json>) -> Struct {
    object(members, 1)
}

/// Converts any JSON as [`from_object`] does.
#[must_use]
pub(super) fn from_value(json: &Json) -> Value {
    value(json, 0)
}

fn object(members: &Map<String, Json>, depth: usize) -> Struct {
    let fields = members.iter().map(|(name, member)| (name.clone(), value(member, depth))).collect();
    Struct { fields }
}

fn value(json: &Json, depth: usize) -> Value {
    let kind = match json {
        Json::Null => Kind::NullValue(0),
        Json::Bool(value) => Kind::BoolValue(*value),
        Json::Number(value) => number(value),
        Json::String(value) => Kind::StringValue(value.clone()),
        Json::Array(_) | Json::Object(_) if depth >= MAX_DEPTH => Kind::StringValue(json.to_string()),
        Json::Array(items) => {
            Kind::ListValue(ListValue { values: items.iter().map(|item| value(item, depth + 1)).collect() })
        }
        Json::Object(members) => Kind::StructValue(object(members, depth + 1)),
    };
    Value { kind: Some(kind) }
}

fn number(number: &Number) -> Kind {
    let text = number.to_string();
    match text.parse::<f64>() {
        Ok(double) if is_exact(&text, double) => Kind::NumberValue(double),
        _ => Kind::StringValue(text),
    }
}

/// Whether a double equals its decimal text. The digits of a fraction must equal the shortest text of the double.
fn is_exact(text: &str, value: f64) -> bool {
    if let Ok(integer) = text.parse::<i128>() {
        // The cast saturates far beyond every 64-bit integer.
        #[allow(clippy::cast_possible_truncation)]
        return value as i128 == integer;
    }
    value.is_finite()
        && digits(text).is_some_and(|digits_of_text| digits(&format!("{value:e}")) == Some(digits_of_text))
}

/// The significant digits of a decimal number, and the power of ten of the last digit.
fn digits(text: &str) -> Option<(String, i64)> {
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let all = format!("{}{fraction}", whole.trim_start_matches('-'));
    let kept = all.trim_end_matches('0');
    if kept.is_empty() {
        return Some((String::new(), 0));
    }
    let dropped = i64::try_from(all.len() - kept.len()).ok()?;
    let last = exponent.parse::<i64>().ok()?.checked_sub(i64::try_from(fraction.len()).ok()?)? + dropped;
    Some((kept.trim_start_matches('0').to_owned(), last))
}

#[cfg(test)]
mod tests {
    use prost::Message;
    use serde_json::json;

    use super::*;

    #[test]
    fn every_kind_of_member_is_kept() {
        let json = json!({"@type": "t", "n": null, "b": true, "f": 1.5, "l": [-3, {"x": "y"}]});
        let Json::Object(members) = &json else { panic!("an object") };
        let of = |kind| Value { kind: Some(kind) };
        let inner = Struct { fields: [("x".to_owned(), of(Kind::StringValue("y".to_owned())))].into() };
        let values = vec![of(Kind::NumberValue(-3.0)), of(Kind::StructValue(inner))];
        let fields = [
            ("@type".to_owned(), of(Kind::StringValue("t".to_owned()))),
            ("n".to_owned(), of(Kind::NullValue(0))),
            ("b".to_owned(), of(Kind::BoolValue(true))),
            ("f".to_owned(), of(Kind::NumberValue(1.5))),
            ("l".to_owned(), of(Kind::ListValue(ListValue { values }))),
        ];
        assert_eq!(from_object(members), Struct { fields: fields.into() });
    }

    #[test]
    fn an_inexact_number_becomes_a_string() {
        for (json, want) in [
            ("9007199254740992", Kind::NumberValue(9_007_199_254_740_992.0)),
            ("-9007199254740992", Kind::NumberValue(-9_007_199_254_740_992.0)),
            ("9007199254740993", Kind::StringValue("9007199254740993".to_owned())),
            ("-9007199254740993", Kind::StringValue("-9007199254740993".to_owned())),
            ("18446744073709551615", Kind::StringValue("18446744073709551615".to_owned())),
            ("9223372036854775807", Kind::StringValue("9223372036854775807".to_owned())),
            ("1152921504606846976", Kind::NumberValue(1_152_921_504_606_846_976.0)),
            ("1e300", Kind::NumberValue(1e300)),
            ("1E+2", Kind::NumberValue(100.0)),
            ("-0.10", Kind::NumberValue(-0.1)),
            ("100.50", Kind::NumberValue(100.5)),
            ("0.0", Kind::NumberValue(0.0)),
            ("1e400", Kind::StringValue("1e+400".to_owned())),
            ("0.12345678901234567890", Kind::StringValue("0.12345678901234567890".to_owned())),
            (
                "123456789012345678901234567890123456789012345678901234567890",
                Kind::StringValue("123456789012345678901234567890123456789012345678901234567890".to_owned()),
            ),
        ] {
            let json: Json = serde_json::from_str(json).unwrap();
            assert_eq!(from_value(&json).kind, Some(want), "{json}");
        }
    }

    #[test]
    fn the_deepest_json_decodes() {
        for (open, close) in [("[", "]"), (r#"{"a":"#, "}")] {
            let text = format!(r#"{{"a":{}1{}}}"#, open.repeat(126), close.repeat(126));
            let Ok(Json::Object(members)) = serde_json::from_str(&text) else { panic!("{text}") };
            let bytes = from_object(&members).encode_to_vec();
            assert_eq!(Struct::decode(&bytes[..]), Ok(from_object(&members)));
        }
    }
}
