//! A pipeline thread: answers the questions of scrapes and reads, one at a time.
//!
//! Several of them take questions from one channel, so that a slow scrape does not delay the others.

use std::time::Instant;

use crossbeam_channel::{Receiver, RecvTimeoutError};

use super::question::Question;
use super::read_routes::KEPT_FOR;
use super::reader::Reader;

/// Answers questions until the thread is told to stop.
pub(crate) fn run(reader: &mut Reader, questions: &Receiver<Question>) {
    let mut next = questions.recv().ok();
    while let Some(Question::Read { wanted, deadline, answer }) = next {
        // After the deadline the caller no longer waits.
        if Instant::now() < deadline {
            let _ = answer.send(reader.read(&wanted, deadline));
        }
        next = match questions.recv_timeout(KEPT_FOR) {
            Err(RecvTimeoutError::Timeout) => {
                // The thread that used a connection last comes here when it was unused for long.
                reader.close_unused();
                questions.recv().ok()
            }
            question => question.ok(),
        };
    }
}
