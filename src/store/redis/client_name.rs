//! The name that the server's CLIENT LIST shows for the connections of this process, unless the program
//! chooses another one.

use std::path::Path;
use std::process;

/// The most characters of the program's name, and of the host's, that are used.
const LONGEST: usize = 48;

/// Returns the name of the program, the host and the process id, as in `gunicorn:web-7:1234`.
///
/// Process ids repeat between machines and containers, so an operator needs the host to find the process.
pub(crate) fn client_name() -> String {
    let arguments: Vec<String> =
        std::env::args_os().take(8).map(|argument| argument.to_string_lossy().into_owned()).collect();
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    format!("{}:{}:{}", program(&arguments), usable(&host), process::id())
}

/// Returns the process id at the end of such a name. `None` if the program has chosen another name.
pub(crate) fn pid(name: &str) -> Option<u32> {
    let mut parts = name.rsplitn(3, ':');
    let pid = parts.next()?.parse().ok()?;
    parts.nth(1).map(|_| pid)
}

/// Returns the name of the program that was started with these arguments. For an interpreter, that is the
/// script.
fn program(arguments: &[String]) -> String {
    let file = |path: &String| {
        Path::new(path).file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
    };
    let mut rest = arguments.iter();
    let mut name = rest.next().map(file).unwrap_or_default();
    if ["python", "ruby", "pypy"].iter().any(|interpreter| name.starts_with(interpreter)) {
        let script = rest.find(|argument| !argument.starts_with('-') || *argument == "-c");
        if let Some(script) = script.filter(|script| *script != "-c") {
            name = file(script);
        }
    }
    usable(&name)
}

/// Returns the name without spaces and control characters, which the server refuses, and without the colons
/// that separate the parts.
fn usable(name: &str) -> String {
    let is_usable = |letter: char| letter.is_ascii_graphic() && letter != ':';
    let name: String =
        name.chars().take(LONGEST).map(|letter| if is_usable(letter) { letter } else { '_' }).collect();
    if name.is_empty() { "unknown".to_owned() } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_is_the_script_of_an_interpreter() {
        for (line, expected) in [
            ("/usr/bin/server --port 1", "server"),
            ("python3.11 -u /srv/app.py x", "app.py"),
            ("/usr/bin/python3 /usr/local/bin/gunicorn app:app", "gunicorn"),
            ("python -m celery worker", "celery"),
            ("python -c print", "python"),
            ("python", "python"),
            ("", "unknown"),
        ] {
            let arguments: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
            assert_eq!(program(&arguments), expected, "{line}");
        }
        assert_eq!(program(&["my server é".to_owned()]), "my_server__");
    }
}
