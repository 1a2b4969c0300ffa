//! Finds where each reply ends in the bytes that the server has sent.
//!
//! redis-rs parses the replies. Finding their ends first has two uses: the fields of a large hash can be read
//! from the bytes without a [`Value`] for each, and a reply that has arrived in parts is passed over only once.

use std::io::{self, Read};
use std::ops::Range;

use redis::Value;

/// How much room there is for one read from the connection.
const READ_SIZE: usize = 64 << 10;

/// The first byte of a push message.
const PUSH: u8 = b'>';

/// The most bytes of a line: of a short text, an error, or a length.
const LONGEST_LINE: usize = 64 << 10;

/// The bytes that have arrived, and how far they have been passed over.
#[derive(Debug, Default)]
pub(crate) struct Frames {
    bytes: Vec<u8>,
    /// Where the first frame that was not taken begins.
    start: usize,
    /// Up to where this frame has been passed over.
    position: usize,
    /// How many elements of this frame follow after `position`. 0 before its first byte.
    outstanding: u64,
}

/// One reply, or one push message, as the server has sent it.
#[derive(Debug)]
pub(crate) struct Frame(Vec<u8>);

impl Frames {
    /// Returns the next frame, and reads until it is complete. After an error of `reader`, what has arrived is kept.
    pub(crate) fn next(&mut self, reader: &mut impl Read) -> io::Result<Frame> {
        while !self.pass_over()? {
            let filled = self.bytes.len();
            self.bytes.resize(filled + READ_SIZE, 0);
            let count = loop {
                match reader.read(&mut self.bytes[filled..]) {
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    result => break result,
                }
            };
            self.bytes.truncate(filled + *count.as_ref().unwrap_or(&0));
            if count? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(self.take())
    }

    /// Returns whether a part of a reply has arrived. A part of a push message does not count.
    pub(crate) fn has_part_of_reply(&self) -> bool {
        self.bytes.get(self.start).is_some_and(|&kind| kind != PUSH)
    }

    /// Takes the frame that has been passed over.
    fn take(&mut self) -> Frame {
        let frame = &self.bytes[self.start..self.position];
        if self.position < self.bytes.len() {
            let frame = Frame(frame.to_vec());
            self.start = self.position;
            return frame;
        }
        // A large reply is not copied. After a small one, the memory is used again.
        let frame = match self.start {
            0 if frame.len() > READ_SIZE => Frame(std::mem::take(&mut self.bytes)),
            _ => Frame(frame.to_vec()),
        };
        self.bytes.clear();
        (self.start, self.position) = (0, 0);
        frame
    }

    /// Passes over what has arrived of the frame. Returns whether the frame is complete.
    fn pass_over(&mut self) -> io::Result<bool> {
        if self.outstanding == 0 {
            self.outstanding = 1;
        }
        while self.outstanding > 0 {
            let Some(element) = Element::read(&self.bytes[self.position..])? else { return Ok(false) };
            self.position += element.size;
            self.outstanding = (self.outstanding - 1).checked_add(element.children).ok_or_else(not_redis)?;
        }
        Ok(true)
    }
}

impl Frame {
    /// Returns the reply, as redis-rs parses it.
    pub(crate) fn value(&self) -> redis::RedisResult<Value> {
        redis::parse_redis_value(&self.0)
    }

    /// Returns whether this is not a reply but a message that the server sends unasked.
    pub(crate) fn is_push(&self) -> bool {
        self.0.first() == Some(&PUSH)
    }

    /// Returns the fields of a hash, or the frame itself if it is neither an array nor a map.
    pub(crate) fn into_fields(self) -> Result<Fields, Self> {
        let Ok(Some(head)) = Element::read(&self.0) else { return Err(self) };
        match self.0.first() {
            Some(b'*' | b'%') => Ok(Fields { start: head.size, frame: self }),
            _ => Err(self),
        }
    }
}

/// The fields of a hash and their values, as the server has sent them.
#[derive(Debug)]
pub(crate) struct Fields {
    frame: Frame,
    /// Where the first field begins.
    start: usize,
}

impl Fields {
    /// Returns the reply as redis-rs parses it.
    pub(crate) fn into_value(self) -> Value {
        self.frame.value().unwrap_or_default()
    }

    /// Returns the fields with their values. Pairs that are not UTF-8 texts are left out.
    pub(crate) fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        let mut texts = self.texts().map(|bytes| std::str::from_utf8(bytes?).ok());
        std::iter::from_fn(move || Some((texts.next()?, texts.next()?)))
            .filter_map(|(field, value)| field.zip(value))
    }

    /// Returns the texts of the elements in their order. `None` stands for an element without a value.
    pub(crate) fn texts(&self) -> impl Iterator<Item = Option<&[u8]>> {
        let mut rest = &self.frame.0[self.start..];
        std::iter::from_fn(move || {
            let element = Element::read(rest).ok()??;
            let text = element.text.map(|range| &rest[range]);
            rest = &rest[element.size..];
            Some(text)
        })
    }
}

/// One element of a frame: a text or a number, or the head of an array or map.
struct Element {
    /// In bytes, with the text.
    size: usize,
    /// `None` if it has no value.
    text: Option<Range<usize>>,
    /// How many elements follow that belong to this one.
    children: u64,
}

impl Element {
    /// Reads the element at the front of `bytes`. `None` if it has not arrived completely.
    fn read(bytes: &[u8]) -> io::Result<Option<Self>> {
        let Some(&kind) = bytes.first() else { return Ok(None) };
        let Some(end) = bytes.iter().position(|&byte| byte == b'\n') else {
            return if bytes.len() < LONGEST_LINE { Ok(None) } else { Err(not_redis()) };
        };
        let line = bytes.get(1..end).and_then(|line| line.strip_suffix(b"\r")).ok_or_else(not_redis)?;
        let head = end + 1;
        let (text, size, children) = match kind {
            b'_' => (None, Some(head), Some(0)),
            b'+' | b'-' | b':' | b'#' | b',' | b'(' => (Some(1..1 + line.len()), Some(head), Some(0)),
            b'$' | b'!' | b'=' => match usize::try_from(number(line)?) {
                Ok(length) => {
                    (Some(head..head.saturating_add(length)), length.checked_add(head + 2), Some(0))
                }
                Err(_) => (None, Some(head), Some(0)),
            },
            b'*' | b'~' | b'>' => (None, Some(head), Some(elements(line)?)),
            b'%' => (None, Some(head), elements(line)?.checked_mul(2)),
            // An attribute stands before the element that it belongs to.
            b'|' => (None, Some(head), elements(line)?.checked_mul(2).map(|count| count | 1)),
            _ => return Err(not_redis()),
        };
        let (size, children) = size.zip(children).ok_or_else(not_redis)?;
        Ok((size <= bytes.len()).then_some(Self { size, text, children }))
    }
}

fn number(line: &[u8]) -> io::Result<i64> {
    std::str::from_utf8(line).ok().and_then(|text| text.parse().ok()).ok_or_else(not_redis)
}

/// Reads a number of elements. A negative one stands for no value.
fn elements(line: &[u8]) -> io::Result<u64> {
    number(line).map(|count| u64::try_from(count).unwrap_or(0))
}

fn not_redis() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the peer does not speak the Redis protocol")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Yields one byte per read, so that every frame is incomplete again and again.
    struct OneByOne<'bytes>(&'bytes [u8]);

    impl Read for OneByOne<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let count = self.0.len().min(1);
            self.0.read(&mut buffer[..count])
        }
    }

    #[test]
    fn every_reply_ends_where_the_next_one_begins() {
        let replies: [&[u8]; 14] = [
            b"+OK\r\n",
            b"-ERR no\r\n",
            b":12\r\n",
            b"$-1\r\n",
            b"$0\r\n\r\n",
            b"$4\r\na\r\nb\r\n",
            b"*-1\r\n",
            b"*0\r\n",
            b"*2\r\n*1\r\n:1\r\n$1\r\nx\r\n",
            b"%1\r\n+a\r\n*2\r\n:1\r\n_\r\n",
            b"|1\r\n+ttl\r\n:3\r\n:7\r\n",
            b">2\r\n$10\r\ninvalidate\r\n*1\r\n$1\r\nk\r\n",
            b"=5\r\ntxt:a\r\n",
            b"#t\r\n",
        ];
        let all = replies.concat();
        for reader in [&mut OneByOne(&all) as &mut dyn Read, &mut &all[..]] {
            let mut frames = Frames::default();
            for reply in replies {
                let frame = frames.next(&mut &mut *reader).unwrap();
                assert_eq!(frame.0, reply, "{:?}", String::from_utf8_lossy(reply));
                frame.value().unwrap();
            }
            let error = frames.next(&mut &mut *reader).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        }
    }

    #[test]
    fn fields_are_those_that_redis_rs_would_parse() {
        for bytes in [
            &b"%2\r\n$1\r\na\r\n$1\r\n1\r\n$2\r\nb\xff\r\n$1\r\n2\r\n"[..],
            b"*4\r\n$1\r\na\r\n$1\r\n1\r\n$2\r\nb\xff\r\n$1\r\n2\r\n",
        ] {
            let fields = Frames::default().next(&mut &*bytes).unwrap().into_fields().unwrap();
            assert_eq!(
                fields.pairs().collect::<Vec<_>>(),
                [("a", "1")],
                "a field that is no text is left out"
            );
            assert_eq!(crate::store::redis::reply::pairs(fields.into_value()), [("a".into(), "1".into())]);
        }
    }

    #[test]
    fn what_is_no_reply_is_an_error() {
        for bytes in
            [&b"HTTP/1.1 400\r\n"[..], b"$x\r\n", b"*99999999999999999999\r\n", b"+a\n", b"\n", b"\r\n"]
        {
            assert_eq!(Frames::default().next(&mut &*bytes).unwrap_err().kind(), io::ErrorKind::InvalidData);
        }
        let endless = vec![b'+'; 2 * LONGEST_LINE];
        assert_eq!(Frames::default().next(&mut &*endless).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }
}
