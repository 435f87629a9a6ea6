//! Declared types as text: reading the catalogue's, and our own, which is one text per kind and back.
//!
//! Display widths and ZEROFILL are left out: they change no value. UTF-8 (`utf8mb4`) is the character set when none is
//! named.
use std::fmt::{self, Write as _};
use std::sync::Arc;

use super::charset::Charset;
use super::kind::{Kind, Text, Unsupported};

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = |unsigned: bool| if unsigned { " unsigned" } else { "" };
        match self {
            Self::Integer { bytes, unsigned } => {
                let name = match bytes {
                    1 => "tinyint",
                    2 => "smallint",
                    3 => "mediumint",
                    4 => "int",
                    _ => "bigint",
                };
                write!(f, "{name}{}", sign(*unsigned))
            }
            Self::Year => f.write_str("year"),
            Self::Decimal { precision, scale, unsigned } => {
                write!(f, "decimal({precision},{scale}){}", sign(*unsigned))
            }
            Self::Float => f.write_str("float"),
            Self::Double => f.write_str("double"),
            Self::Date => f.write_str("date"),
            Self::Time(digits) => fraction(f, "time", *digits),
            Self::DateTime(digits) => fraction(f, "datetime", *digits),
            Self::Timestamp(digits) => fraction(f, "timestamp", *digits),
            Self::Text(shape, charset) => {
                match shape {
                    Text::Fixed(length) => write!(f, "char({length})")?,
                    Text::Variable(length) => write!(f, "varchar({length})")?,
                    Text::Large(size) => write!(f, "{}text", large(*size))?,
                }
                match charset {
                    Charset::Utf8mb4 => Ok(()),
                    other => write!(f, " character set {}", other.name()),
                }
            }
            Self::Binary(Text::Fixed(length)) => write!(f, "binary({length})"),
            Self::Binary(Text::Variable(length)) => write!(f, "varbinary({length})"),
            Self::Binary(Text::Large(size)) => write!(f, "{}blob", large(*size)),
            Self::Bit(bits) => write!(f, "bit({bits})"),
            Self::Enum(labels) => list(f, "enum", labels),
            Self::Set(labels) => list(f, "set", labels),
            Self::Json => f.write_str("json"),
            Self::Geometry => f.write_str("geometry"),
            Self::Uuid => f.write_str("uuid"),
            Self::Inet4 => f.write_str("inet4"),
            Self::Inet6 => f.write_str("inet6"),
        }
    }
}

fn fraction(f: &mut fmt::Formatter<'_>, name: &str, digits: u8) -> fmt::Result {
    if digits == 0 { f.write_str(name) } else { write!(f, "{name}({digits})") }
}

fn large(size: u8) -> &'static str {
    match size {
        1 => "tiny",
        2 => "",
        3 => "medium",
        _ => "long",
    }
}

fn list(f: &mut fmt::Formatter<'_>, name: &str, labels: &[String]) -> fmt::Result {
    write!(f, "{name}(")?;
    for (index, label) in labels.iter().enumerate() {
        if index > 0 {
            f.write_char(',')?;
        }
        write!(f, "'{}'", label.replace('\\', "\\\\").replace('\'', "''"))?;
    }
    f.write_char(')')
}

impl Kind {
    /// Our own text of a kind, back.
    pub fn of_declared(declared: &str) -> Option<Self> {
        Self::of_catalogue(declared, None).ok()
    }

    /// `information_schema.COLUMNS.COLUMN_TYPE`, with `CHARACTER_SET_NAME`.
    ///
    /// # Errors
    /// [`Unsupported`].
    pub fn of_catalogue(column_type: &str, charset: Option<&str>) -> Result<Self, Unsupported> {
        let unsupported = || Unsupported(column_type.to_owned());
        let declared = Declared::parse(column_type).ok_or_else(unsupported)?;
        let unsigned = declared.has("unsigned") || declared.has("zerofill");
        let integer = |bytes| Self::Integer { bytes, unsigned };
        let digits = declared.number(0).unwrap_or(0).min(6) as u8;
        let text = |shape| {
            let name = charset.or(declared.charset()).unwrap_or("utf8mb4");
            let known = Charset::named(name);
            let known = known
                .ok_or_else(|| Unsupported(format!("{column_type} of character set {name}")))?;
            Ok(Self::Text(shape, known))
        };
        Ok(match declared.name.as_str() {
            "tinyint" => integer(1),
            "smallint" => integer(2),
            "mediumint" => integer(3),
            "int" | "integer" => integer(4),
            "bigint" => integer(8),
            "year" => Self::Year,
            "decimal" | "numeric" => Self::Decimal {
                precision: declared.number(0).unwrap_or(10).min(u32::from(u8::MAX)) as u8,
                scale: declared.number(1).unwrap_or(0).min(u32::from(u8::MAX)) as u8,
                unsigned,
            },
            "float" => Self::Float,
            "double" | "real" => Self::Double,
            "date" => Self::Date,
            "time" => Self::Time(digits),
            "datetime" => Self::DateTime(digits),
            "timestamp" => Self::Timestamp(digits),
            "char" => text(Text::Fixed(declared.number(0).unwrap_or(1)))?,
            "varchar" => text(Text::Variable(declared.number(0).ok_or_else(unsupported)?))?,
            "tinytext" => text(Text::Large(1))?,
            "text" => text(Text::Large(2))?,
            "mediumtext" => text(Text::Large(3))?,
            "longtext" => text(Text::Large(4))?,
            "binary" => Self::Binary(Text::Fixed(declared.number(0).unwrap_or(1))),
            "varbinary" => {
                Self::Binary(Text::Variable(declared.number(0).ok_or_else(unsupported)?))
            }
            "tinyblob" => Self::Binary(Text::Large(1)),
            "blob" => Self::Binary(Text::Large(2)),
            "mediumblob" => Self::Binary(Text::Large(3)),
            "longblob" => Self::Binary(Text::Large(4)),
            "bit" => Self::Bit(declared.number(0).unwrap_or(1).min(64) as u8),
            "enum" => Self::Enum(declared.labels().ok_or_else(unsupported)?),
            "set" => Self::Set(declared.labels().ok_or_else(unsupported)?),
            "json" => Self::Json,
            "geometry" | "point" | "linestring" | "polygon" | "multipoint" | "multilinestring"
            | "multipolygon" | "geometrycollection" | "geomcollection" => Self::Geometry,
            "uuid" => Self::Uuid,
            "inet4" => Self::Inet4,
            "inet6" => Self::Inet6,
            _ => return Err(unsupported()),
        })
    }
}

/// `name(arguments) words`.
struct Declared<'a> {
    name: String,
    arguments: &'a str,
    words: Vec<&'a str>,
}

impl<'a> Declared<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let end = text.find(['(', ' ']).unwrap_or(text.len());
        let (name, rest) = text.split_at(end);
        let (arguments, rest) = match rest.strip_prefix('(') {
            Some(inner) => inner.split_at(closing(inner)?),
            None => ("", rest),
        };
        let words = rest.strip_prefix(')').unwrap_or(rest).split_whitespace().collect();
        Some(Self { name: name.to_ascii_lowercase(), arguments, words })
    }

    fn has(&self, word: &str) -> bool {
        self.words.iter().any(|w| w.eq_ignore_ascii_case(word))
    }

    fn charset(&self) -> Option<&'a str> {
        self.words.iter().position(|w| *w == "set").and_then(|at| self.words.get(at + 1).copied())
    }

    fn number(&self, index: usize) -> Option<u32> {
        self.arguments.split(',').nth(index)?.trim().parse().ok()
    }

    fn labels(&self) -> Option<Arc<[String]>> {
        let mut labels = Vec::new();
        let mut rest = self.arguments;
        while !rest.is_empty() {
            let (label, after) = literal(rest)?;
            labels.push(label);
            rest = after.strip_prefix(',').unwrap_or(after);
        }
        Some(labels.into())
    }
}

/// Where the bracket that is open closes, outside of quotes.
fn closing(text: &str) -> Option<usize> {
    let mut at = 0;
    while let Some(rest) = text.get(at..) {
        match rest.chars().next()? {
            ')' => return Some(at),
            '\'' => at = text.len() - literal(rest)?.1.len(),
            other => at += other.len_utf8(),
        }
    }
    None
}

/// A quoted literal at the front of `text`: its value, and what stands behind it. Quotes are doubled or escaped.
pub fn literal(text: &str) -> Option<(String, &str)> {
    let mut rest = text.strip_prefix('\'')?.char_indices();
    let mut value = String::new();
    while let Some((at, character)) = rest.next() {
        match character {
            '\'' if rest.as_str().starts_with('\'') => {
                rest.next();
                value.push('\'');
            }
            '\'' => return text.get(at + 2..).map(|behind| (value, behind)),
            '\\' => value.push(escaped(rest.next()?.1)),
            other => value.push(other),
        }
    }
    None
}

fn escaped(character: char) -> char {
    match character {
        '0' => '\0',
        'b' => '\u{8}',
        'n' => '\n',
        'r' => '\r',
        't' => '\t',
        'Z' => '\u{1a}',
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_text_comes_back() {
        for declared in [
            "tinyint",
            "smallint unsigned",
            "mediumint",
            "int",
            "bigint unsigned",
            "year",
            "decimal(10,2) unsigned",
            "float",
            "double",
            "date",
            "time",
            "datetime(3)",
            "timestamp(6)",
            "char(3)",
            "varchar(255) character set latin1",
            "mediumtext",
            "longtext character set utf8mb3",
            "binary(16)",
            "varbinary(7)",
            "tinyblob",
            "bit(64)",
            r"enum('a','b''c','d\\e',')(')",
            "set('x','')",
            "json",
            "geometry",
            "uuid",
            "inet6",
        ] {
            assert_eq!(Kind::of_declared(declared).unwrap().to_string(), declared);
        }
    }

    #[test]
    fn what_changes_no_value_is_left_out() {
        let text = |column_type: &str, charset| {
            Kind::of_catalogue(column_type, charset).map(|k| k.to_string())
        };
        assert_eq!(text("int(10) unsigned zerofill", None).unwrap(), "int unsigned");
        assert_eq!(text("tinyint(1)", None).unwrap(), "tinyint");
        assert_eq!(text("float(7,4)", None).unwrap(), "float");
        assert_eq!(text("year(4)", None).unwrap(), "year");
        assert_eq!(
            text("varchar(5)", Some("utf8mb3")).unwrap(),
            "varchar(5) character set utf8mb3"
        );
        assert_eq!(text("point", None).unwrap(), "geometry");
        let sjis = text("char(5)", Some("sjis")).unwrap_err();
        assert_eq!(sjis.to_string(), "the type char(5) of character set sjis cannot be followed");
        assert!(text("vector(3)", None).is_err());
        assert_eq!(text("text /*M!100301 COMPRESSED*/", Some("utf8mb4")).unwrap(), "text");
    }

    #[test]
    fn literals_lose_quotes_and_escapes() {
        assert_eq!(literal(r"'a''b\'c\n' rest"), Some(("a'b'c\n".into(), " rest")));
        assert_eq!(literal("'ü'"), Some(("ü".into(), "")));
        assert_eq!(literal("'open"), None);
        assert_eq!(literal("no"), None);
    }
}
