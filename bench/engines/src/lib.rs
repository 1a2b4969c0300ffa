//! One round of a benchmark program: the same loops around what each program measures.
//!
//! Each program in `src/bin` calls [`serve`] once. bench/engine_calls.py writes one line to its standard input
//! for each round, so that the rounds of all programs alternate, and reads lines of `engine, work, ns`
//! up to an empty one. The programs in C and C++ do the same with `c/round.h`: a change here is one there.

use std::io::Write;
use std::sync::Barrier;
use std::time::Instant;

const PARTS: usize = 21;

/// The number of calls in a round.
pub struct Round {
    calls: u64,
}

/// Answers each line of standard input with one round.
pub fn serve(mut measure: impl FnMut(&Round)) {
    let calls = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(1_000_000);
    let round = Round { calls };
    for _ in std::io::stdin().lines() {
        measure(&round);
        println!();
        let _ = std::io::stdout().flush();
    }
}

impl Round {
    /// Counting: one thread, two threads on one metric, two threads on a metric each.
    pub fn increments(&self, engine: &str, one: impl Fn() + Sync, other: impl Fn() + Sync) {
        self.increments_apart(engine, &one, &other, &one);
    }

    /// As [`increments`](Self::increments), for an engine in which a metric at which threads have collided is slower
    /// from then on: two threads collide at a metric of their own.
    pub fn increments_apart(
        &self,
        engine: &str,
        one: impl Fn() + Sync,
        other: impl Fn() + Sync,
        contended: impl Fn() + Sync,
    ) {
        print(engine, "inc", self.alone(&one));
        print(engine, "inc, 2 threads on one", self.two_threads(&contended, &contended));
        print(engine, "inc, 2 threads on two", self.two_threads(&one, &other));
    }

    /// Observing: one thread, two threads on one histogram.
    pub fn observations(&self, engine: &str, observe: impl Fn() + Sync) {
        self.observations_apart(engine, &observe, &observe);
    }

    /// As [`increments_apart`](Self::increments_apart).
    pub fn observations_apart(&self, engine: &str, one: impl Fn() + Sync, contended: impl Fn() + Sync) {
        print(engine, "observe", self.alone(&one));
        print(engine, "observe, 2 threads on one", self.two_threads(&contended, &contended));
    }

    /// Returns the median of parts that are shorter than a time slice of the scheduler, so that a preemption affects few.
    fn alone(&self, call: impl Fn()) -> f64 {
        let calls = self.calls / PARTS as u64;
        let mut parts = [0.0; PARTS];
        for part in &mut parts {
            let start = Instant::now();
            for _ in 0..calls {
                call();
            }
            *part = start.elapsed().as_nanos() as f64 / calls as f64;
        }
        parts.sort_by(f64::total_cmp);
        parts[PARTS / 2]
    }

    /// Returns the cost of a call to the thread that makes it, while another thread does the same.
    fn two_threads(&self, one: impl Fn() + Sync, other: impl Fn() + Sync) -> f64 {
        let both = Barrier::new(2);
        std::thread::scope(|scope| {
            let second = scope.spawn(|| {
                both.wait();
                self.alone(&other)
            });
            both.wait();
            let first = self.alone(&one);
            (first + second.join().unwrap_or(f64::NAN)) / 2.0
        })
    }
}

fn print(engine: &str, work: &str, ns: f64) {
    println!("{engine}\t{work}\t{ns:.3}");
}
