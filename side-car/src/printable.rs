//! Text from a store or a server, made safe for a terminal.
//!
//! Label values and server replies are untrusted text. A terminal would execute escape sequences in them, and
//! bidirectional control characters could disguise the rest of the line.

/// Returns the text on one line. Escapes every character that a terminal does not display as itself.
pub(crate) fn one_line(text: &str) -> String {
    escaped(text, is_invisible)
}

/// Keeps line feeds, and escapes every other invisible character.
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
