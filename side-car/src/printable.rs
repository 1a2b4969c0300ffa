//! Text from a store or a server, made safe for a terminal.
//!
//! Whoever can name a label or answer as a server chooses such text. A terminal obeys escape sequences in it, and
//! characters that change the direction of writing hide what the rest says.

/// Returns the text on one line, with every character escaped that a terminal does not show as it is.
pub(crate) fn one_line(text: &str) -> String {
    escaped(text, is_invisible)
}

/// Returns the text with its line feeds, and every other invisible character escaped.
pub(crate) fn lines(text: &str) -> String {
    escaped(text, |character| character != '\n' && is_invisible(character))
}

fn is_invisible(character: char) -> bool {
    let directions_and_joiners =
        matches!(character, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}');
    character.is_control() || directions_and_joiners || character == '\u{feff}'
}

fn escaped(text: &str, is_escaped: impl Fn(char) -> bool) -> String {
    let mut printable = String::with_capacity(text.len());
    for character in text.chars() {
        match is_escaped(character) {
            true => printable.extend(character.escape_default()),
            false => printable.push(character),
        }
    }
    printable
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_character_reaches_the_terminal_that_it_would_obey() {
        let text = "a\u{1b}[2J\r\u{7}\u{9b}31m\u{202e}b\nü\u{1F600}\t";
        assert_eq!(one_line(text), "a\\u{1b}[2J\\r\\u{7}\\u{9b}31m\\u{202e}b\\nü\u{1F600}\\t");
        assert_eq!(lines(text).matches('\n').count(), 1);
        assert!(lines(text).chars().all(|character| character == '\n' || !is_invisible(character)));
    }
}
