//! The filter of a list over all devices: a subset of AIP-160, evaluated on Google's JSON.
//!
//! `OR` binds tighter than `AND`, as AIP-160 says. A comparison with a missing field does not match.

use std::{cell::LazyCell, fmt, str::FromStr};

use serde_json::Value;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::amapi::Json;

/// The maximum length of a filter, in bytes.
pub(crate) const MAX_LENGTH: usize = 8 * 1024;

/// The maximum depth of nested parentheses.
const MAX_DEPTH: usize = 32;

/// The maximum number of comparisons. The task of a call compares thousands of operations without a pause.
pub(crate) const MAX_COMPARISONS: usize = 64;

/// The maximum length of a quoted part of the filter in an error, in bytes.
const MAX_QUOTE: usize = 64;

/// The filters that are supported, as the end of an error.
const SUPPORTED: &str = "supported are done = true, done = false, metadata.type with = or !=, metadata.createTime with \
                         =, !=, <, <=, > or >= and an RFC 3339 time, and AND, OR, NOT, - and parentheses";

/// A filter of operations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Filter(Expression);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Expression {
    All(Vec<Self>),
    Any(Vec<Self>),
    Not(Box<Self>),
    Done(bool),
    Type { is_equal: bool, name: String },
    CreateTime(Comparator, OffsetDateTime),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Comparator {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// The reason why a text is not a supported filter. `Display` is for the caller.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FilterError {
    #[error("longer than {MAX_LENGTH} bytes")]
    TooLong,
    #[error("more than {MAX_DEPTH} nested parentheses")]
    TooDeep,
    #[error("more than {MAX_COMPARISONS} comparisons")]
    TooManyComparisons,
    #[error("a string without its closing quotation mark")]
    OpenString,
    #[error("{found} where {expected} is expected; {SUPPORTED}")]
    Unexpected { found: String, expected: &'static str },
    #[error("unsupported field {0}; {SUPPORTED}")]
    Field(String),
    #[error("unsupported operator {operator} of {field}; {SUPPORTED}")]
    Operator { field: &'static str, operator: &'static str },
    #[error("unsupported value {value} of {field}; {SUPPORTED}")]
    Value { field: &'static str, value: String },
}

/// A token of the filter's text.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Open,
    Close,
    Minus,
    Has,
    Comparator(Comparator),
    /// A text without quotation marks, which may be a keyword.
    Word(String),
    /// A text in quotation marks.
    Quoted(String),
}

impl Filter {
    /// Whether the filter is empty, so that it matches each operation.
    pub(super) fn is_empty(&self) -> bool {
        matches!(&self.0, Expression::All(all) if all.is_empty())
    }

    /// Whether the filter matches an operation in Google's JSON.
    pub(super) fn matches(&self, operation: &Json) -> bool {
        // Several comparisons of the time parse it once.
        let created = LazyCell::new(|| {
            metadata(operation, "createTime").and_then(|text| OffsetDateTime::parse(text, &Rfc3339).ok())
        });
        self.0.matches(operation, &created)
    }
}

fn metadata<'a>(operation: &'a Json, field: &str) -> Option<&'a str> {
    operation.get("metadata")?.get(field)?.as_str()
}

impl Expression {
    /// Whether the expression is true for an operation that was `created` at this time.
    fn matches<F>(&self, operation: &Json, created: &LazyCell<Option<OffsetDateTime>, F>) -> bool
    where
        F: FnOnce() -> Option<OffsetDateTime>,
    {
        match self {
            Self::All(all) => all.iter().all(|one| one.matches(operation, created)),
            Self::Any(any) => any.iter().any(|one| one.matches(operation, created)),
            Self::Not(inner) => !inner.matches(operation, created),
            // In protobuf's JSON form, a member that is false is absent.
            Self::Done(done) => (operation.get("done") == Some(&Value::Bool(true))) == *done,
            Self::Type { is_equal, name } => {
                metadata(operation, "type").is_some_and(|found| (found == name) == *is_equal)
            }
            Self::CreateTime(comparator, time) => {
                created.is_some_and(|created| comparator.holds(created, *time))
            }
        }
    }
}

impl Comparator {
    fn holds(self, left: OffsetDateTime, right: OffsetDateTime) -> bool {
        match self {
            Self::Equal => left == right,
            Self::NotEqual => left != right,
            Self::Less => left < right,
            Self::LessOrEqual => left <= right,
            Self::Greater => left > right,
            Self::GreaterOrEqual => left >= right,
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Equal => "=",
            Self::NotEqual => "!=",
            Self::Less => "<",
            Self::LessOrEqual => "<=",
            Self::Greater => ">",
            Self::GreaterOrEqual => ">=",
        }
    }
}

impl FromStr for Filter {
    type Err = FilterError;

    fn from_str(text: &str) -> Result<Self, FilterError> {
        if text.len() > MAX_LENGTH {
            return Err(FilterError::TooLong);
        }
        let mut parser = Parser { tokens: tokens(text)?.into_iter().peekable(), depth: 0, comparisons: 0 };
        if parser.tokens.peek().is_none() {
            return Ok(Self(Expression::All(Vec::new())));
        }
        let expression = parser.expression()?;
        match parser.tokens.next() {
            None => Ok(Self(expression)),
            Some(token) => Err(unexpected(Some(&token), "AND or OR")),
        }
    }
}

/// Splits a filter into its tokens.
fn tokens(text: &str) -> Result<Vec<Token>, FilterError> {
    let mut tokens = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let (token, length) = match first {
            '(' => (Token::Open, 1),
            ')' => (Token::Close, 1),
            '-' => (Token::Minus, 1),
            ':' => (Token::Has, 1),
            '"' | '\'' => {
                let (value, length) = quoted(rest, first).ok_or(FilterError::OpenString)?;
                (Token::Quoted(value), length)
            }
            _ => match comparator(rest) {
                Some(comparator) => (Token::Comparator(comparator), comparator.as_str().len()),
                None => {
                    // A time has colons, and a field ends at one.
                    let is_value = matches!(tokens.last(), Some(Token::Comparator(_)));
                    let is_end =
                        |c: char| c.is_whitespace() || "()\"'=<>!".contains(c) || (c == ':' && !is_value);
                    // A `!` without a `=` is a word of its own, so that the parser reports it.
                    let length = rest.find(is_end).unwrap_or(rest.len()).max(first.len_utf8());
                    (Token::Word(rest[..length].to_owned()), length)
                }
            },
        };
        tokens.push(token);
        rest = rest[length..].trim_start();
    }
    Ok(tokens)
}

fn comparator(text: &str) -> Option<Comparator> {
    // The longer operators come first, because they begin with the shorter ones.
    [
        Comparator::NotEqual,
        Comparator::LessOrEqual,
        Comparator::GreaterOrEqual,
        Comparator::Equal,
        Comparator::Less,
        Comparator::Greater,
    ]
    .into_iter()
    .find(|comparator| text.starts_with(comparator.as_str()))
}

/// The value of the string that begins `text`, and its length with the quotation marks. A backslash escapes the next
/// character. `None` if the string does not end.
fn quoted(text: &str, mark: char) -> Option<(String, usize)> {
    let mut value = String::new();
    let mut characters = text.char_indices().skip(1);
    while let Some((index, character)) = characters.next() {
        match character {
            '\\' => value.push(characters.next()?.1),
            _ if character == mark => return Some((value, index + mark.len_utf8())),
            _ => value.push(character),
        }
    }
    None
}

/// A parser of AIP-160's grammar, without sequences of terms that no `AND` joins, functions and `:`.
struct Parser {
    tokens: std::iter::Peekable<std::vec::IntoIter<Token>>,
    depth: usize,
    comparisons: usize,
}

impl Parser {
    /// Factors that `AND` joins.
    fn expression(&mut self) -> Result<Expression, FilterError> {
        let mut factors = vec![self.factor()?];
        while self.skip_keyword("AND") {
            factors.push(self.factor()?);
        }
        Ok(Expression::All(factors))
    }

    /// Terms that `OR` joins.
    fn factor(&mut self) -> Result<Expression, FilterError> {
        let mut terms = vec![self.term()?];
        while self.skip_keyword("OR") {
            terms.push(self.term()?);
        }
        Ok(Expression::Any(terms))
    }

    /// A comparison or an expression in parentheses, which may be negated.
    fn term(&mut self) -> Result<Expression, FilterError> {
        let is_negated = self.tokens.next_if_eq(&Token::Minus).is_some() || self.skip_keyword("NOT");
        let inner = match self.tokens.next() {
            Some(Token::Open) => self.parenthesized()?,
            Some(Token::Word(field)) => self.comparison(&field)?,
            other => return Err(unexpected(other.as_ref(), "a field")),
        };
        Ok(if is_negated { Expression::Not(Box::new(inner)) } else { inner })
    }

    fn parenthesized(&mut self) -> Result<Expression, FilterError> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(FilterError::TooDeep);
        }
        let inner = self.expression()?;
        self.depth -= 1;
        match self.tokens.next() {
            Some(Token::Close) => Ok(inner),
            other => Err(unexpected(other.as_ref(), "AND, OR or a closing parenthesis")),
        }
    }

    /// The rest of a comparison, after its field.
    fn comparison(&mut self, field: &str) -> Result<Expression, FilterError> {
        self.comparisons += 1;
        if self.comparisons > MAX_COMPARISONS {
            return Err(FilterError::TooManyComparisons);
        }
        let field = ["done", "metadata.type", "metadata.createTime"]
            .into_iter()
            .find(|known| *known == field)
            .ok_or_else(|| FilterError::Field(quote(field)))?;
        let comparator = match self.tokens.next() {
            Some(Token::Comparator(comparator)) => comparator,
            Some(Token::Has) => return Err(FilterError::Operator { field, operator: ":" }),
            other => return Err(unexpected(other.as_ref(), "an operator")),
        };
        let (value, is_quoted) = match self.tokens.next() {
            Some(Token::Word(value)) => (value, false),
            Some(Token::Quoted(value)) => (value, true),
            other => return Err(unexpected(other.as_ref(), "a value")),
        };
        let invalid = || FilterError::Value { field, value: quote(&value) };
        let is_type = |c: u8| c.is_ascii_uppercase() || c.is_ascii_digit() || c == b'_';
        match (field, comparator) {
            ("done", Comparator::Equal) => match &*value {
                "true" if !is_quoted => Ok(Expression::Done(true)),
                "false" if !is_quoted => Ok(Expression::Done(false)),
                _ => Err(invalid()),
            },
            ("metadata.type", Comparator::Equal | Comparator::NotEqual) => {
                // A type in another spelling would match nothing without an error.
                if value.is_empty() || !value.bytes().all(is_type) {
                    return Err(invalid());
                }
                Ok(Expression::Type { is_equal: comparator == Comparator::Equal, name: value })
            }
            ("metadata.createTime", _) => {
                let time = OffsetDateTime::parse(&value, &Rfc3339).map_err(|_| invalid())?;
                Ok(Expression::CreateTime(comparator, time))
            }
            _ => Err(FilterError::Operator { field, operator: comparator.as_str() }),
        }
    }

    fn skip_keyword(&mut self, keyword: &str) -> bool {
        self.tokens.next_if(|token| matches!(token, Token::Word(word) if word == keyword)).is_some()
    }
}

fn unexpected(found: Option<&Token>, expected: &'static str) -> FilterError {
    let found = found.map_or_else(|| "the end".to_owned(), ToString::to_string);
    FilterError::Unexpected { found, expected }
}

/// A part of the filter for an error, cut if it is long.
fn quote(text: &str) -> String {
    format!("{:?}", &text[..text.floor_char_boundary(MAX_QUOTE)])
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open => f.write_str("\"(\""),
            Self::Close => f.write_str("\")\""),
            Self::Minus => f.write_str("\"-\""),
            Self::Has => f.write_str("\":\""),
            Self::Comparator(comparator) => write!(f, "{:?}", comparator.as_str()),
            Self::Word(text) | Self::Quoted(text) => f.write_str(&quote(text)),
        }
    }
}

#[cfg(test)]
mod tests;
