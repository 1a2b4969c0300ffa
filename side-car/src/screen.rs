//! The terminal while `top` uses it: switched to raw mode, drawn on, and restored at the end or at a panic.

use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};

use crossterm::cursor::{Hide, MoveTo, Show};
use crossterm::style::{Attribute, Print, SetAttribute};
use crossterm::terminal::{
    self, BeginSynchronizedUpdate, Clear, ClearType, EndSynchronizedUpdate, EnterAlternateScreen,
    LeaveAlternateScreen,
};
use crossterm::{execute, queue};

use crate::table::fitted;

/// Whether the terminal must be restored, by the drop of [`Screen`] or by the panic hook.
static IS_TAKEN: AtomicBool = AtomicBool::new(false);

/// The terminal in raw mode on the alternate screen. Dropping it restores the terminal.
#[derive(Debug)]
pub(crate) struct Screen(());

/// A line to draw.
#[derive(Debug)]
pub(crate) enum Line {
    Plain(String),
    Highlighted(String),
}

impl Screen {
    pub(crate) fn take() -> io::Result<Self> {
        terminal::enable_raw_mode()?;
        // Relaxed: the same thread sets and clears the flag. A panic on another thread may see the change
        // late.
        IS_TAKEN.store(true, Ordering::Relaxed);
        let screen = Self(());
        execute!(io::stdout(), EnterAlternateScreen, Hide)?;
        Ok(screen)
    }

    /// Returns the number of columns and lines.
    pub(crate) fn size(&self) -> (usize, usize) {
        let (columns, lines) = terminal::size().unwrap_or((80, 24));
        (columns.into(), lines.into())
    }

    /// Draws the lines from the top, and clears the rest.
    pub(crate) fn draw(&self, lines: &[Line]) -> io::Result<()> {
        let (width, height) = self.size();
        let mut output = io::stdout().lock();
        queue!(output, BeginSynchronizedUpdate)?;
        for (row, line) in lines.iter().take(height).enumerate() {
            queue!(output, MoveTo(0, row as u16))?;
            match line {
                Line::Plain(text) => {
                    queue!(output, Print(fitted(text, width).trim_end()), Clear(ClearType::UntilNewLine))?;
                }
                Line::Highlighted(text) => queue!(
                    output,
                    SetAttribute(Attribute::Reverse),
                    Print(fitted(text, width)),
                    SetAttribute(Attribute::Reset)
                )?,
            }
        }
        if lines.len() < height {
            queue!(output, MoveTo(0, lines.len() as u16), Clear(ClearType::FromCursorDown))?;
        }
        queue!(output, EndSynchronizedUpdate)?;
        output.flush()
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        restore();
    }
}

/// Restores the terminal if it was taken.
pub(crate) fn restore() {
    // Relaxed: see `take`.
    if IS_TAKEN.swap(false, Ordering::Relaxed) {
        // Errors are ignored: a terminal that is gone needs no restoring.
        let _ = execute!(io::stdout(), EndSynchronizedUpdate, Show, LeaveAlternateScreen);
        let _ = terminal::disable_raw_mode();
    }
}
