//! `top`: live values and rates, in the terminal or as plain tables.
//!
//! A separate thread scrapes, because a server may be slow; the main thread draws and reads keys. If the
//! store becomes unavailable, the screen shows a line that says so.

use std::io::{self, IsTerminal};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use clap::{Arg, ArgMatches, Command, ValueHint, value_parser};
use crossbeam_channel::{Receiver, RecvTimeoutError, bounded};
use crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use pytheus_backend_rs::Backend;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::dump::print;
use crate::failure::Failure;
use crate::json;
use crate::rates::{Rates, Row};
use crate::screen::{Line, Screen};
use crate::store::{self, Presence};
use crate::table::{Order, Table};
use crate::with_common_options;

/// The longest time until a key, a signal or a new scrape is noticed.
const ATTENTION: Duration = Duration::from_millis(100);

/// The lines of the screen besides the table rows: title, state, header, keys.
const OTHER_LINES: usize = 4;

/// The rows of a scrape, or the reason why it failed.
type Scrape = Result<Vec<Row>, String>;

pub(crate) fn command() -> Command {
    with_common_options(
        Command::new("top").about("Show live values and rates in the terminal").after_help(
            "Keys: q quit, s sort by rate, value or name, / filter by a part of name or labels, p pause, \
             arrows, page up and down, home and end scroll.\n\
             RATE/s is the growth of a counter, or of the _count of a histogram or summary, since the last \
             scrape; MEAN, P50 and P99 are of what was observed since then, the last two estimated from buckets.\n\
             If stdin or stdout is no terminal, plain tables are printed, the first after one interval.",
        ),
    )
    .arg(
        Arg::new("interval")
            .long("interval")
            .short('i')
            .value_name("SECONDS")
            .value_hint(ValueHint::Other)
            .default_value("2")
            .value_parser(interval)
            .help("Time between two scrapes"),
    )
    .arg(
        Arg::new("count")
            .long("count")
            .short('c')
            .value_name("N")
            .value_hint(ValueHint::Other)
            .value_parser(value_parser!(u64).range(1..))
            .help("End after so many tables"),
    )
    .arg(json::argument(
        "Print each table as a list on one line, with series, value, rate, mean, p50 and p99 of each row; what is \
         unknown is null. It ends after one unless --count says otherwise",
    ))
}

pub(crate) fn run(matches: &ArgMatches) -> Result<(), Failure> {
    let is_json = json::is_wanted(matches);
    let top = Top {
        interval: matches.get_one("interval").copied().unwrap_or(Duration::from_secs(2)),
        count: matches.get_one("count").copied().unwrap_or(if is_json { 1 } else { u64::MAX }),
        is_json,
        is_told_to_end: Arc::new(AtomicBool::new(false)),
    };
    for signal in [SIGTERM, SIGINT, SIGHUP] {
        signal_hook::flag::register(signal, Arc::clone(&top.is_told_to_end))
            .map_err(|error| Failure::failed(format!("cannot listen for signals: {error}")))?;
    }
    let is_interactive = !is_json && io::stdout().is_terminal() && io::stdin().is_terminal();
    if is_interactive {
        // The screen shows failures itself, and log lines would garble it.
        log::set_max_level(log::LevelFilter::Off);
    }
    let scrapes = top.scrape(store::open(matches, Presence::Awaited)?)?;
    match is_interactive {
        true => top.show(&store::shown(matches), &scrapes),
        false => top.print(&scrapes),
    }
}

fn interval(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().filter(|seconds| (0.1..=86_400.0).contains(seconds));
    seconds.map(Duration::from_secs_f64).ok_or_else(|| "expected seconds from 0.1 to 86400".to_owned())
}

struct Top {
    interval: Duration,
    count: u64,
    is_json: bool,
    is_told_to_end: Arc<AtomicBool>,
}

impl Top {
    /// Starts the thread that scrapes. The thread ends when the receiver is dropped.
    fn scrape(&self, backend: Backend) -> Result<Receiver<Scrape>, Failure> {
        let (sender, receiver) = bounded(1);
        let interval = self.interval;
        let body = move || {
            let mut rates = Rates::default();
            let mut next = Instant::now();
            loop {
                let scrape = backend.collect(None).map(|snapshot| rates.rows(Instant::now(), &snapshot));
                if sender.send(scrape.map_err(|error| error.message().to_owned())).is_err() {
                    break;
                }
                // After a scrape that took longer than the interval, missed scrapes are not made up for.
                next = (next + interval).max(Instant::now());
                std::thread::sleep(next.saturating_duration_since(Instant::now()));
            }
        };
        std::thread::Builder::new()
            .name("scrape".to_owned())
            .spawn(body)
            .map_err(|error| Failure::failed(format!("cannot start a thread: {error}")))?;
        Ok(receiver)
    }

    /// Waits for the next scrape. Returns `None` when the command must end.
    fn next(&self, scrapes: &Receiver<Scrape>) -> Option<Scrape> {
        // Relaxed: the flag publishes no other data.
        while !self.is_told_to_end.load(Ordering::Relaxed) {
            match scrapes.recv_timeout(ATTENTION) {
                Ok(scrape) => return Some(scrape),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return None,
            }
        }
        None
    }

    /// Returns the rows as lines, or in JSON as one line.
    fn table(&self, mut rows: Vec<Row>) -> String {
        Order::Rate.sort(&mut rows);
        if self.is_json {
            return json::line(&json::rows(&rows));
        }
        let table = Table::new(&rows, None);
        [table.header].into_iter().chain(table.lines).map(|line| line + "\n").collect()
    }

    /// Prints a table after each interval. If a scrape fails, prints the reason and continues. The command
    /// fails if the last scrape failed.
    fn print(&self, scrapes: &Receiver<Scrape>) -> Result<(), Failure> {
        let Some(first) = self.next(scrapes) else { return Ok(()) };
        // The first scrape is not printed; it is the baseline for the rates of the first table.
        let mut has_failed = first.is_err();
        for number in 0..self.count {
            let Some(scrape) = self.next(scrapes) else { return Ok(()) };
            has_failed = scrape.is_err();
            match scrape {
                Ok(rows) => {
                    let gap = if number > 0 && !self.is_json { "\n" } else { "" };
                    if print(&format!("{gap}{}", self.table(rows)))?.is_break() {
                        return Ok(());
                    }
                }
                Err(reason) => Failure::failed(reason).tell(&mut io::stderr()),
            }
        }
        if has_failed { Err(Failure::failed("")) } else { Ok(()) }
    }

    /// Shows the table on the screen until a key, a signal or the count ends it.
    fn show(&self, store: &str, scrapes: &Receiver<Scrape>) -> Result<(), Failure> {
        let failed = |error: io::Error| Failure::failed(format!("the terminal cannot be used: {error}"));
        let screen = Screen::take().map_err(failed)?;
        let mut view =
            View::new(format!("{}, every {} s: {store}", crate::NAME, self.interval.as_secs_f64()));
        let mut seen = 0;
        let mut is_stale = true;
        // Relaxed: see `next`.
        while !self.is_told_to_end.load(Ordering::Relaxed) && !view.has_quit && seen < self.count {
            if is_stale {
                screen.draw(&view.lines(screen.size())).map_err(failed)?;
                is_stale = false;
            }
            if event::poll(ATTENTION).map_err(failed)? {
                view.take_event(&event::read().map_err(failed)?);
                is_stale = true;
            }
            if let Ok(scrape) = scrapes.try_recv() {
                view.take_scrape(scrape);
                seen += 1;
                is_stale = true;
            }
        }
        Ok(())
    }
}

/// The content of the screen, and the state that keys have changed.
struct View {
    title: String,
    rows: Vec<Row>,
    /// `None` before the first scrape.
    state: Option<Result<(), String>>,
    order: Order,
    filter: String,
    is_typing: bool,
    is_paused: bool,
    has_quit: bool,
    first_line: usize,
    page: usize,
}

impl View {
    fn new(title: String) -> Self {
        Self {
            title,
            rows: Vec::new(),
            state: None,
            order: Order::Rate,
            filter: String::new(),
            is_typing: false,
            is_paused: false,
            has_quit: false,
            first_line: 0,
            page: 1,
        }
    }

    fn take_scrape(&mut self, scrape: Scrape) {
        if self.is_paused {
            return;
        }
        self.state = Some(scrape.map(|rows| {
            self.rows = rows;
            self.order.sort(&mut self.rows);
        }));
    }

    fn take_event(&mut self, event: &Event) {
        // Any other event, such as a resize, only redraws the screen.
        let Event::Key(key) = event else { return };
        if key.kind == KeyEventKind::Release {
            return;
        }
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            // A terminal in raw mode delivers Ctrl-C and Ctrl-D as keys, not as signals.
            self.has_quit |= matches!(key.code, KeyCode::Char('c' | 'd'));
        } else if self.is_typing {
            self.type_key(key);
        } else {
            self.press(key.code);
        }
    }

    fn type_key(&mut self, key: &KeyEvent) {
        match key.code {
            KeyCode::Enter => self.is_typing = false,
            KeyCode::Esc => {
                self.is_typing = false;
                self.filter.clear();
            }
            KeyCode::Backspace => drop(self.filter.pop()),
            KeyCode::Char(character) => self.filter.push(character),
            _ => {}
        }
        self.first_line = 0;
    }

    fn press(&mut self, code: KeyCode) {
        match code {
            KeyCode::Char('q') => self.has_quit = true,
            KeyCode::Char('p') => self.is_paused = !self.is_paused,
            KeyCode::Char('/') => self.is_typing = true,
            KeyCode::Esc => self.filter.clear(),
            KeyCode::Char('s') => {
                self.order = self.order.next();
                self.order.sort(&mut self.rows);
            }
            KeyCode::Up | KeyCode::Char('k') => self.first_line = self.first_line.saturating_sub(1),
            KeyCode::Down | KeyCode::Char('j') => self.first_line = self.first_line.saturating_add(1),
            KeyCode::PageUp => self.first_line = self.first_line.saturating_sub(self.page),
            KeyCode::PageDown | KeyCode::Char(' ') => {
                self.first_line = self.first_line.saturating_add(self.page)
            }
            KeyCode::Home => self.first_line = 0,
            KeyCode::End => self.first_line = usize::MAX,
            _ => {}
        }
    }

    /// Returns the lines of the screen.
    fn lines(&mut self, (width, height): (usize, usize)) -> Vec<Line> {
        let rows: Vec<Row> = self.rows.iter().filter(|row| self.is_wanted(row)).cloned().collect();
        self.page = height.saturating_sub(OTHER_LINES).max(1);
        self.first_line = self.first_line.min(rows.len().saturating_sub(self.page));
        let shown = &rows[self.first_line..rows.len().min(self.first_line + self.page)];
        let table = Table::new(shown, Some(width));
        let mut lines = vec![
            Line::Plain(self.title.clone()),
            Line::Plain(self.state_line(shown.len(), rows.len())),
            Line::Highlighted(table.header),
        ];
        lines.extend(table.lines.into_iter().map(Line::Plain));
        while lines.len() + 1 < height {
            lines.push(Line::Plain(String::new()));
        }
        lines.push(Line::Plain(self.key_line()));
        lines
    }

    fn is_wanted(&self, row: &Row) -> bool {
        row.name.contains(&self.filter) || row.labels.contains(&self.filter)
    }

    fn state_line(&self, shown: usize, wanted: usize) -> String {
        match &self.state {
            None => "waiting for the first values".to_owned(),
            // The table below still shows the values of the last successful scrape.
            Some(Err(reason)) => format!("no new values: {reason}"),
            Some(Ok(())) => {
                let from = if shown == 0 { 0 } else { self.first_line + 1 };
                let filtered = match self.filter.as_str() {
                    "" => String::new(),
                    filter => format!(" of {} that have {filter:?}", self.rows.len()),
                };
                let paused = if self.is_paused { ", paused" } else { "" };
                let order = self.order.name();
                format!(
                    "metrics {from} to {} of {wanted}{filtered}, by {order}{paused}",
                    self.first_line + shown
                )
            }
        }
    }

    fn key_line(&self) -> String {
        match self.is_typing {
            true => format!("/{}_  (enter: keep, escape: all metrics)", self.filter),
            false => "q quit  s sort  / filter  p pause  arrows, page up and down: scroll".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(count: usize) -> Vec<Row> {
        let row = |number: usize| Row {
            name: format!("m{number:03}_total"),
            labels: format!("a=\"{}\"", number % 2),
            value: number as f64,
            rate: Some(number as f64),
            mean: None,
            p50: None,
            p99: None,
        };
        (0..count).map(row).collect()
    }

    fn view(count: usize) -> View {
        let mut view = View::new("title".to_owned());
        view.take_scrape(Ok(rows(count)));
        view
    }

    fn press(view: &mut View, codes: &[KeyCode]) {
        for &code in codes {
            view.take_event(&Event::Key(KeyEvent::new(code, KeyModifiers::NONE)));
            screen(view);
        }
    }

    fn screen(view: &mut View) -> Vec<String> {
        let text = |line| match line {
            Line::Plain(text) | Line::Highlighted(text) => text,
        };
        view.lines((60, 10)).into_iter().map(text).collect()
    }

    /// Returns the names that the table shows.
    fn shown(view: &mut View) -> Vec<String> {
        let lines = screen(view);
        assert_eq!(lines.len(), 10);
        let lines = lines[3..9].iter().filter(|line| !line.is_empty());
        lines.map(|line| line.split('_').next().unwrap().to_owned()).collect()
    }

    #[test]
    fn the_fastest_are_shown_and_the_rest_is_scrolled_to() {
        let mut view = view(20);
        assert_eq!(shown(&mut view), ["m019", "m018", "m017", "m016", "m015", "m014"]);
        assert_eq!(screen(&mut view)[1], "metrics 1 to 6 of 20, by rate");
        press(&mut view, &[KeyCode::Down, KeyCode::PageDown]);
        assert_eq!(shown(&mut view)[0], "m012");
        press(&mut view, &[KeyCode::End]);
        assert_eq!(shown(&mut view), ["m005", "m004", "m003", "m002", "m001", "m000"]);
        press(&mut view, &[KeyCode::Down, KeyCode::Up]);
        assert_eq!(shown(&mut view)[0], "m006", "not beyond the end");
        press(&mut view, &[KeyCode::Home]);
        assert_eq!(shown(&mut view)[0], "m019");
    }

    #[test]
    fn s_sorts_by_value_and_by_name() {
        let mut view = view(3);
        press(&mut view, &[KeyCode::Char('s'), KeyCode::Char('s')]);
        assert_eq!(shown(&mut view), ["m000", "m001", "m002"]);
        view.take_scrape(Ok(rows(4)));
        assert_eq!(shown(&mut view), ["m000", "m001", "m002", "m003"]);
    }

    #[test]
    fn a_filter_is_typed_and_taken_back() {
        let mut view = view(20);
        press(&mut view, &"/m01q".chars().map(KeyCode::Char).collect::<Vec<_>>());
        assert!(!view.has_quit);
        press(&mut view, &[KeyCode::Backspace, KeyCode::Char('9'), KeyCode::Enter]);
        assert_eq!(shown(&mut view), ["m019"]);
        assert!(
            screen(&mut view)[1].contains("1 of 1 of 20 that have \"m019\""),
            "{:?}",
            screen(&mut view)[1]
        );
        press(&mut view, &[KeyCode::Esc]);
        assert_eq!(shown(&mut view).len(), 6);
    }

    #[test]
    fn a_paused_view_keeps_what_it_shows() {
        let mut view = view(1);
        press(&mut view, &[KeyCode::Char('p')]);
        view.take_scrape(Ok(rows(3)));
        assert_eq!(shown(&mut view), ["m000"]);
        assert!(screen(&mut view)[1].ends_with(", paused"));
        press(&mut view, &[KeyCode::Char('p')]);
        view.take_scrape(Ok(rows(3)));
        assert_eq!(shown(&mut view).len(), 3);
    }

    #[test]
    fn a_store_that_goes_away_leaves_the_last_values_and_its_reason() {
        let mut view = view(2);
        view.take_scrape(Err("cannot connect".to_owned()));
        assert_eq!(shown(&mut view).len(), 2);
        assert_eq!(screen(&mut view)[1], "no new values: cannot connect");
    }

    #[test]
    fn a_screen_of_any_size_is_drawn() {
        for (width, height) in [(0, 0), (1, 1), (5, 3), (20, 5), (300, 100)] {
            let lines = view(20).lines((width, height));
            assert!(lines.len() <= height.max(OTHER_LINES + 1), "{height}: {}", lines.len());
        }
    }

    #[test]
    fn intervals_have_sense() {
        assert_eq!(interval("0.5"), Ok(Duration::from_millis(500)));
        for bad in ["0", "-1", "nan", "inf", "x", "100000"] {
            assert!(interval(bad).is_err(), "{bad}");
        }
    }
}
