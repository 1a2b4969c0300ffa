//! The wire format of protobuf: the parts of it that the exposition needs.
//!
//! A field is its number and wire type in one varint, and then its value. A message inside another one, a
//! string, and each message of a delimited stream stand behind their length in bytes.

/// The wire type of varints.
const VARINT: u64 = 0;
/// The wire type of `double`.
const FIXED_64: u64 = 1;
/// The wire type of strings and messages.
const LENGTH_DELIMITED: u64 = 2;

/// Appends a number in groups of seven bits, the lowest first. All bytes but the last have the highest bit.
pub(super) fn push_varint(output: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        output.push(number as u8 | 0x80);
        number >>= 7;
    }
    output.push(number as u8);
}

fn push_key(output: &mut Vec<u8>, field: u64, wire_type: u64) {
    push_varint(output, field << 3 | wire_type);
}

/// Appends a field of the type `uint64` or of an enum.
pub(super) fn push_number(output: &mut Vec<u8>, field: u64, number: u64) {
    push_key(output, field, VARINT);
    push_varint(output, number);
}

/// Appends a field of the type `sint32`.
pub(super) fn push_signed(output: &mut Vec<u8>, field: u64, number: i32) {
    push_number(output, field, zigzag(i64::from(number)));
}

/// Maps a signed number to one that is small if the number is near 0.
pub(super) fn zigzag(number: i64) -> u64 {
    (number << 1 ^ number >> 63) as u64
}

/// Appends a field of the type `double`.
pub(super) fn push_double(output: &mut Vec<u8>, field: u64, number: f64) {
    push_key(output, field, FIXED_64);
    output.extend_from_slice(&number.to_le_bytes());
}

/// Appends a field of the type `string`.
pub(super) fn push_string(output: &mut Vec<u8>, field: u64, text: &str) {
    push_key(output, field, LENGTH_DELIMITED);
    push_varint(output, text.len() as u64);
    output.extend_from_slice(text.as_bytes());
}

/// Appends a field whose value is the message that `write` writes.
pub(super) fn push_message(output: &mut Vec<u8>, field: u64, write: impl FnOnce(&mut Vec<u8>)) {
    push_key(output, field, LENGTH_DELIMITED);
    push_delimited(output, write);
}

/// Appends what `write` writes, behind its length.
pub(super) fn push_delimited(output: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let start = output.len();
    // One byte is enough for the length of most messages. A longer message is moved.
    output.push(0);
    write(output);
    let length = output.len() - start - 1;
    if length < 0x80 {
        output[start] = length as u8;
        return;
    }
    let end = output.len();
    output[start] = length as u8 | 0x80;
    push_varint(output, length as u64 >> 7);
    let more = output.len() - end;
    output[start + 1..].rotate_right(more);
}
