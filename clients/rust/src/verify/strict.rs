//! A strict JSON parser for the reader's side: what parsers disagree about is refused here.
//!
//! `serde_json` takes doubled members silently, refuses long numbers and lone surrogates that are JSON all the same
//! (so the reason for refusing them would be another than in other languages), and knows no limit of levels short of
//! its own. So the text is read here, into a [`serde_json::Value`] and a note whether all of it is *plain*: of the
//! subset of JSON that canonical events are made of (docs/events.md).

use serde_json::{Map, Number, Value};

/// Levels of objects and arrays, the outermost included.
pub(crate) const DEPTH_MOST: usize = 16;

/// A sign and the 16 digits of 2^53: what is longer is out of range anyway.
const EXACT_DIGITS: usize = 17;
const INTEGER_LIMIT: i64 = 1 << 53;

/// What isn't one JSON object in UTF-8, or what parsers disagree about.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct NotJson;

/// A parsed object. Where `plain` is false, numbers and texts outside the subset are replaced by something else.
#[derive(Debug)]
pub(crate) struct Parsed {
    pub(crate) object: Map<String, Value>,
    pub(crate) plain: bool,
}

/// Returns the JSON object in `data`.
///
/// Fails for bad UTF-8, a byte order mark, no JSON, a doubled member, NaN and its kin, more than 16 levels, and for
/// anything but an object.
pub(crate) fn parse(data: &[u8]) -> Result<Parsed, NotJson> {
    let text = std::str::from_utf8(data).map_err(|_| NotJson)?;
    let mut reader = Reader {
        rest: text,
        plain: true,
    };
    let value = reader.value(DEPTH_MOST)?;
    reader.space();
    match value {
        Value::Object(object) if reader.rest.is_empty() => Ok(Parsed {
            object,
            plain: reader.plain,
        }),
        _ => Err(NotJson),
    }
}

struct Reader<'a> {
    rest: &'a str,
    plain: bool,
}

impl Reader<'_> {
    fn space(&mut self) {
        self.rest = self.rest.trim_start_matches([' ', '\t', '\n', '\r']);
    }

    fn take(&mut self, token: &str) -> bool {
        match self.rest.strip_prefix(token) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn expect(&mut self, token: &str) -> Result<(), NotJson> {
        if self.take(token) {
            Ok(())
        } else {
            Err(NotJson)
        }
    }

    /// The next character, which is taken.
    fn next(&mut self) -> Result<char, NotJson> {
        let character = self.rest.chars().next().ok_or(NotJson)?;
        self.rest = self.rest.get(character.len_utf8()..).ok_or(NotJson)?;
        Ok(character)
    }

    fn value(&mut self, levels: usize) -> Result<Value, NotJson> {
        self.space();
        match self.rest.as_bytes().first() {
            Some(b'{') => self.object(levels.checked_sub(1).ok_or(NotJson)?),
            Some(b'[') => self.array(levels.checked_sub(1).ok_or(NotJson)?),
            Some(b'"') => self.string().map(Value::String),
            Some(b't') => self.expect("true").map(|()| Value::Bool(true)),
            Some(b'f') => self.expect("false").map(|()| Value::Bool(false)),
            Some(b'n') => self.expect("null").map(|()| Value::Null),
            _ => self.number(),
        }
    }

    fn object(&mut self, levels: usize) -> Result<Value, NotJson> {
        let mut members = Map::new();
        self.expect("{")?;
        self.space();
        if self.take("}") {
            return Ok(Value::Object(members));
        }
        loop {
            self.space();
            let name = self.string()?;
            self.plain &= name.is_ascii();
            self.space();
            self.expect(":")?;
            let value = self.value(levels)?;
            if members.insert(name, value).is_some() {
                return Err(NotJson);
            }
            self.space();
            if self.take("}") {
                return Ok(Value::Object(members));
            }
            self.expect(",")?;
        }
    }

    fn array(&mut self, levels: usize) -> Result<Value, NotJson> {
        let mut elements = Vec::new();
        self.expect("[")?;
        self.space();
        if self.take("]") {
            return Ok(Value::Array(elements));
        }
        loop {
            elements.push(self.value(levels)?);
            self.space();
            if self.take("]") {
                return Ok(Value::Array(elements));
            }
            self.expect(",")?;
        }
    }

    fn string(&mut self) -> Result<String, NotJson> {
        self.expect("\"")?;
        let mut text = String::new();
        loop {
            match self.next()? {
                '"' => return Ok(text),
                '\\' => {
                    let character = self.escape(&mut text)?;
                    self.plain &= !is_control(character);
                    text.push(character);
                }
                character if character < ' ' => return Err(NotJson),
                character => {
                    self.plain &= !is_control(character);
                    text.push(character);
                }
            }
        }
    }

    /// What stands behind a backslash; half of a surrogate pair alone has no character, so its place is taken by others.
    fn escape(&mut self, text: &mut String) -> Result<char, NotJson> {
        Ok(match self.next()? {
            '"' => '"',
            '\\' => '\\',
            '/' => '/',
            'b' => '\u{8}',
            'f' => '\u{c}',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'u' => {
                let unit = self.four_digits()?;
                if let Some(character) = char::from_u32(unit) {
                    return Ok(character);
                }
                let before = self.rest;
                if unit < 0xDC00 && self.take("\\u") {
                    let low = self.four_digits()?;
                    if (0xDC00..0xE000).contains(&low) {
                        let point = 0x10000 + ((unit - 0xD800) << 10) + (low - 0xDC00);
                        return char::from_u32(point).ok_or(NotJson);
                    }
                    self.rest = before;
                }
                self.plain = false;
                text.push_str(&format!("{unit:04x}"));
                char::REPLACEMENT_CHARACTER
            }
            _ => return Err(NotJson),
        })
    }

    fn four_digits(&mut self) -> Result<u32, NotJson> {
        let digits = self.rest.get(..4).ok_or(NotJson)?;
        if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return Err(NotJson);
        }
        self.rest = self.rest.get(4..).ok_or(NotJson)?;
        u32::from_str_radix(digits, 16).map_err(|_| NotJson)
    }

    fn number(&mut self) -> Result<Value, NotJson> {
        let whole = self.rest;
        self.take("-");
        if !self.take("0") {
            self.digits()?;
        }
        let integer = length_of(whole, self.rest);
        if self.take(".") {
            self.digits()?;
        }
        if self.take("e") || self.take("E") {
            let _sign = self.take("+") || self.take("-");
            self.digits()?;
        }
        let spelled = whole.get(..length_of(whole, self.rest)).ok_or(NotJson)?;
        if spelled.len() == integer && spelled.len() <= EXACT_DIGITS {
            if let Ok(number) = spelled.parse::<i64>() {
                if number.abs() < INTEGER_LIMIT {
                    return Ok(Value::Number(Number::from(number)));
                }
            }
        }
        self.plain = false;
        Ok(Value::Null)
    }

    fn digits(&mut self) -> Result<(), NotJson> {
        let rest = self.rest.trim_start_matches(|digit: char| digit.is_ascii_digit());
        if rest.len() == self.rest.len() {
            return Err(NotJson);
        }
        self.rest = rest;
        Ok(())
    }
}

fn length_of(whole: &str, rest: &str) -> usize {
    whole.len() - rest.len()
}

fn is_control(character: char) -> bool {
    character < ' ' || character == '\u{7f}'
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(text: &str) -> Option<bool> {
        parse(text.as_bytes()).ok().map(|parsed| parsed.plain)
    }

    #[test]
    fn what_is_no_json_object_is_refused() {
        for text in [
            "",
            "[]",
            "1",
            "{",
            "{}}",
            "{} {}",
            r#"{"a":1,"a":2}"#,
            r#"{"a":01}"#,
            r#"{"a":.5}"#,
            r#"{"a":1.}"#,
            r#"{"a":-}"#,
            r#"{"a":+1}"#,
            r#"{"a":NaN}"#,
            r#"{"a":Infinity}"#,
            r#"{"a":-Infinity}"#,
            r#"{"a":1,}"#,
            r#"{"a"}"#,
            r#"{a:1}"#,
            "{\"a\":\"\n\"}",
            r#"{"a":"\x"}"#,
            r#"{"a":"\u12"}"#,
            r#"{"a":"\u+123"}"#,
            r#"{"a":nul}"#,
            "\u{feff}{}",
            "{\u{a0}}",
        ] {
            assert_eq!(plain(text), None, "{text}");
        }
        assert!(parse(b"{\"a\":\"\xff\"}").is_err());
    }

    #[test]
    fn json_outside_the_subset_is_json_and_not_plain() {
        for text in [
            r#"{"a":1.0}"#,
            r#"{"a":1e0}"#,
            r#"{"a":9007199254740992}"#,
            r#"{"a":-9007199254740992}"#,
            r#"{"a":"\n"}"#,
            r#"{"a":"\u007f"}"#,
            r#"{"a":"\ud800"}"#,
            r#"{"a":"\ud800\u0041"}"#,
            r#"{"a":"\udc00"}"#,
            r#"{"é":1}"#,
            r#"{"\u00e9":1}"#,
        ] {
            assert_eq!(plain(text), Some(false), "{text}");
        }
        assert_eq!(plain(&format!("{{\"a\":{}}}", "9".repeat(5000))), Some(false));
    }

    #[test]
    fn the_subset_is_plain() {
        for text in [
            "{}",
            r#" {"a" : [1, -2, true, null, {"b": "é😀\u00e9\ud83d\ude00\\\"/"}]} "#,
            r#"{"a":9007199254740991,"b":-9007199254740991}"#,
        ] {
            assert_eq!(plain(text), Some(true), "{text}");
        }
    }

    #[test]
    fn more_than_sixteen_levels_are_refused() {
        let nested = |levels: usize| format!("{}1{}", "{\"a\":".repeat(levels), "}".repeat(levels));
        assert_eq!(plain(&nested(DEPTH_MOST)), Some(true));
        assert_eq!(plain(&nested(DEPTH_MOST + 1)), None);
        assert_eq!(plain(&nested(100_000)), None);
    }
}
