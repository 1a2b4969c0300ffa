//! Reads what the server answers: text, numbers, the pairs of a hash, and errors.
//!
//! The senders, the readers and `check` use these functions, so that all of them judge a reply in the same
//! way.

use redis::{ServerError, ServerErrorKind, Value};

use crate::model::number::parse_number;

/// The code of the script's error for a key that does not hold values of a family.
pub(crate) const FOREIGN: &str = "FOREIGN";

/// The answer of TTL for a key that does not exist.
pub(crate) const NO_KEY: i64 = -2;

/// The code of the error that takes the place of a reply if the node of a cluster does not serve a key.
pub(crate) const NODE: &str = "NODE";

/// The code of the script's error for a writers' key of another type.
pub(crate) const WRITERS: &str = "WRITERS";

/// The most characters of a text from the server in one log record or error.
const LONGEST: usize = 300;

/// Returns the error as the server words it.
pub(crate) fn describe(error: &ServerError) -> String {
    shortened(&format!("{} {}", error.code(), details(error)))
}

/// Returns the error without its code.
pub(crate) fn details(error: &ServerError) -> String {
    // Redis 7 appends where in the script the error was raised, which does not help the reader of a log.
    let details = error.details().unwrap_or_default();
    shortened(details.split(" script: ").next().unwrap_or_default())
}

/// Returns the beginning of a text from the server, at most [`LONGEST`] characters.
pub(crate) fn shortened(text: &str) -> String {
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// Returns whether the server refuses one key only: the key belongs to another program, is of another type,
/// may not be accessed by the user, or is at a node of a cluster that does not serve it.
pub(crate) fn concerns_key(error: &ServerError) -> bool {
    // Redis 6 wraps the error of a script's command in an error of the script, so the code is not enough.
    let text = describe(error);
    text.starts_with(FOREIGN)
        || error.code() == NODE
        || text.contains("WRONGTYPE")
        || (text.contains("NOPERM") && text.contains("key"))
}

/// Returns whether a command does not fit the type of its key.
pub(crate) fn is_wrong_type(reply: &Value) -> bool {
    matches!(reply, Value::ServerError(error) if error.code() == "WRONGTYPE")
}

/// Returns whether the server does not know the script: it was flushed, or never loaded.
pub(crate) fn is_noscript(reply: &Value) -> bool {
    matches!(reply, Value::ServerError(error) if error.kind() == Some(ServerErrorKind::NoScript))
}

/// Returns the text of a string reply. `None` for other replies, and for bytes that are not UTF-8.
pub(crate) fn text(reply: Value) -> Option<String> {
    match reply {
        Value::BulkString(bytes) => String::from_utf8(bytes).ok(),
        // In RESP3 the answer to INFO.
        Value::SimpleString(text) | Value::VerbatimString { text, .. } => Some(text),
        _ => None,
    }
}

/// Formats any reply for a log record or an error.
pub(crate) fn shown(reply: &Value) -> String {
    match reply {
        Value::BulkString(bytes) => shortened(&String::from_utf8_lossy(bytes)),
        other => shortened(&format!("{other:?}")),
    }
}

/// Returns the fields of a hash and their values. Pairs that are not UTF-8 are left out.
pub(crate) fn pairs(reply: Value) -> Vec<(String, String)> {
    let mut values = match reply {
        Value::Array(values) => values,
        Value::Map(pairs) => pairs.into_iter().flat_map(|(name, value)| [name, value]).collect(),
        _ => Vec::new(),
    }
    .into_iter();
    let mut pairs = Vec::with_capacity(values.len() / 2);
    while let (Some(name), Some(value)) = (values.next(), values.next()) {
        pairs.extend(text(name).zip(text(value)));
    }
    pairs
}

/// Returns the value of a cell. A missing value counts as 0. If the reply is not a number, the error is its
/// text.
pub(crate) fn number(reply: Value) -> Result<f64, String> {
    if reply == Value::Nil {
        return Ok(0.0);
    }
    let text = text(reply).unwrap_or_default();
    parse_number(&text).ok_or(text)
}
