//! A pipeline thread: answers the questions of scrapes and reads, one at a time.
//!
//! Several of them take questions from one channel, so that a slow scrape does not delay the others.

use std::time::Instant;

use crossbeam_channel::Receiver;

use super::question::Question;
use super::reader::Reader;

/// Answers questions until the thread is told to stop.
pub(crate) fn run(reader: &mut Reader, questions: &Receiver<Question>) {
    while let Ok(Question::Read { wanted, deadline, answer }) = questions.recv() {
        // After the deadline the caller no longer waits.
        if Instant::now() < deadline {
            let _ = answer.send(reader.read(&wanted, deadline));
        }
    }
}
