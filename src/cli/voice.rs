//! How the command line speaks: one form for what went wrong and its cure, one for lines of news.

use anstyle::{AnsiColor, Style};
use stagedrop::destination::DestinationError;
use stagedrop::following::{Line, Tone};
use stagedrop::object::InvalidName;
use stagedrop::service_error::{Kind, ServiceError};

/// What went badly.
pub const BAD: Style = AnsiColor::Red.on_default().bold();
/// What may bite.
pub const WARN: Style = AnsiColor::Yellow.on_default().bold();
/// What went well.
pub const GOOD: Style = AnsiColor::Green.on_default().bold();
/// Headings.
pub const TITLE: Style = Style::new().bold();
/// What is beside the point.
pub const DIM: Style = Style::new().dimmed();

/// Prints a line to standard output; a reader that has gone away, such as `head`, is no trouble.
macro_rules! outln {
    ($($text:tt)*) => { $crate::cli::voice::put(format_args!($($text)*)) };
}
pub(crate) use outln;

/// See [`outln`].
pub fn put(line: std::fmt::Arguments<'_>) {
    use std::io::Write;
    let _ = writeln!(anstream::stdout(), "{line}");
}

/// Columns of a line's first word.
const WORD_WIDTH: usize = 10;

/// Why a command could not be carried out, and what to do about it.
#[derive(Debug)]
pub struct Trouble {
    /// What is wrong: object first, lower case, no full stop.
    pub message: String,
    /// What to do.
    pub cure: Option<String>,
}

impl Trouble {
    /// Trouble with its cure.
    pub fn new(message: impl Into<String>, cure: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            cure: Some(cure.into()),
        }
    }

    /// A file that cannot be read or written.
    pub fn with_file(path: &std::path::Path, error: &std::io::Error) -> Self {
        let cure = match error.kind() {
            std::io::ErrorKind::NotFound => "correct the path",
            std::io::ErrorKind::PermissionDenied => "look at the file's owner and mode",
            _ => "look at the file and the disk that it lies on",
        };
        Self::new(format!("{}: {error}", path.display()), cure)
    }

    /// Prints it to standard error.
    pub fn print(&self) {
        anstream::eprintln!("{BAD}stagedrop:{BAD:#} {}", self.message);
        if let Some(cure) = &self.cure {
            anstream::eprintln!("           {cure}");
        }
    }
}

impl From<String> for Trouble {
    fn from(message: String) -> Self {
        Self {
            message,
            cure: None,
        }
    }
}

impl From<DestinationError> for Trouble {
    fn from(error: DestinationError) -> Self {
        Self::new(error.to_string(), error.cure())
    }
}

impl From<InvalidName> for Trouble {
    fn from(error: InvalidName) -> Self {
        let cure = format!("write a valid {}", error.noun);
        Self::new(error.to_string(), cure)
    }
}

impl From<ServiceError> for Trouble {
    fn from(error: ServiceError) -> Self {
        let elsewhere = ["PermanentRedirect", "AuthorizationHeaderMalformed"]
            .iter()
            .any(|code| error.has_code(code));
        let cure = match error.kind {
            _ if elsewhere => "set AWS_REGION, or --region, to the bucket's region",
            _ if error.has_code("NoSuchBucket") => "correct the bucket's name",
            Kind::AccessDenied => {
                "look at the credentials, and whether their policy allows this call on this key (`stagedrop policy` prints it)"
            }
            Kind::NotFound => "correct the bucket and the key",
            Kind::Throttled => "try again in a while",
            Kind::Unavailable => {
                "look at the network, the credentials and AWS_ENDPOINT_URL, then try again"
            }
            Kind::PreconditionFailed | Kind::Conflict => {
                "the object changed meanwhile: start again"
            }
            Kind::Refused => "correct what the message names",
        };
        Self::new(error.to_string(), cure)
    }
}

/// A line of news as text, coloured; a terminal or `NO_COLOR` decides on output what stays of that.
pub fn text_of(line: &Line) -> String {
    let style = match line.tone {
        Tone::Plain => Style::new(),
        Tone::Good => GOOD,
        Tone::Bad => BAD,
        Tone::Warn => WARN,
    };
    let indent = " ".repeat(WORD_WIDTH.saturating_sub(line.word.chars().count()));
    format!("{style}{}{style:#}{indent} {}", line.word, line.text)
}

/// Prints a line of news to standard output.
pub fn say(line: &Line) {
    outln!("{}", text_of(line));
}

/// Prints a line that begins with a plain word.
pub fn tell(word: &str, text: &str) {
    say(&Line {
        tone: Tone::Plain,
        word: word.to_owned(),
        text: text.to_owned(),
    });
}

/// Prints a value as JSON.
pub fn print_json(value: &serde_json::Value) -> Result<(), Trouble> {
    let text = serde_json::to_string_pretty(value).map_err(|error| error.to_string())?;
    outln!("{text}");
    Ok(())
}

/// `12.3 MB`.
pub fn megabytes(bytes: u64) -> String {
    const KILO: u64 = 1_000;
    match bytes {
        0..KILO => format!("{bytes} bytes"),
        KILO..1_000_000 => format!("{:.1} kB", bytes as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", bytes as f64 / 1e6),
        _ => format!("{:.2} GB", bytes as f64 / 1e9),
    }
}

/// `1 file`, `2 files`, `60,000 files`.
pub fn count(number: usize, noun: &str) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    let plural = if number == 1 { "" } else { "s" };
    format!("{text} {noun}{plural}")
}
