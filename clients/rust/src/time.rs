//! Times as the daemon writes them, and the clock that this client lives by.

use std::time::Instant;

/// Returns epoch milliseconds of an RFC 3339 time in UTC (`Z`), finer digits cut off; None for anything else.
pub(crate) fn parse_time(text: &str) -> Option<i64> {
    let (date, clock) = text.strip_suffix('Z')?.split_once('T')?;
    let (clock, fraction) = match clock.split_once('.') {
        Some((clock, fraction)) if (1..=9).contains(&fraction.len()) && are_digits(fraction) => (clock, fraction),
        Some(_) => return None,
        None => (clock, ""),
    };
    let [year, month, day] = numbers(date, '-', [4, 2, 2])?;
    let [hour, minute, second] = numbers(clock, ':', [2, 2, 2])?;
    if year < 1 || !(1..=12).contains(&month) || day < 1 || day > days_in(year, month) {
        return None;
    }
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let seconds = (days_since_1970(year, month, day) * 24 + hour) * 3600 + minute * 60 + second;
    let thousandths: String = fraction.chars().chain("000".chars()).take(3).collect();
    Some(seconds * 1000 + thousandths.parse::<i64>().ok()?)
}

fn are_digits(text: &str) -> bool {
    text.bytes().all(|digit| digit.is_ascii_digit())
}

fn numbers(text: &str, between: char, digits: [usize; 3]) -> Option<[i64; 3]> {
    let mut parts = text.split(between);
    let mut read = [0; 3];
    for (number, length) in read.iter_mut().zip(digits) {
        let part = parts.next().filter(|part| part.len() == length && are_digits(part))?;
        *number = part.parse().ok()?;
    }
    parts.next().is_none().then_some(read)
}

fn days_in(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days of the Gregorian calendar, counted in eras of 400 years that begin in March.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// Monotonic seconds since the client was made. Wall clocks don't matter (rule 5).
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock(Instant);

impl Clock {
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    pub(crate) fn now(self) -> f64 {
        self.0.elapsed().as_secs_f64()
    }

    /// The instant of a time of this clock, for a timer; a time before the clock's start counts as its start.
    pub(crate) fn instant(self, at: f64) -> Instant {
        self.0 + std::time::Duration::try_from_secs_f64(at).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::parse_time;

    #[test]
    fn times_become_epoch_milliseconds() {
        assert_eq!(parse_time("1970-01-01T00:00:00Z"), Some(0));
        assert_eq!(parse_time("2026-11-23T17:00:00.123Z"), Some(1_795_453_200_123));
        assert_eq!(parse_time("2000-02-29T23:59:59.9999Z"), Some(951_868_799_999));
        assert_eq!(parse_time("9999-12-31T23:59:59.999Z"), Some(253_402_300_799_999));
        assert_eq!(parse_time("1969-12-31T23:59:59.9Z"), Some(-100));
    }

    #[test]
    fn what_is_no_time_is_none() {
        for text in [
            "",
            "2026-11-23T17:00:00",
            "2026-11-23T17:00:00+01:00",
            "2026-11-23 17:00:00Z",
            "2026-13-01T00:00:00Z",
            "2025-02-29T00:00:00Z",
            "1900-02-29T00:00:00Z",
            "2026-11-23T24:00:00Z",
            "2026-11-23T17:00:60Z",
            "2026-11-23T17:00:00.Z",
            "2026-11-23T17:00:00.1234567890Z",
            "0000-01-01T00:00:00Z",
            "26-11-23T17:00:00Z",
            "2026-11-23T17:00:00z",
            "2026-+1-23T17:00:00Z",
        ] {
            assert_eq!(parse_time(text), None, "{text}");
        }
    }
}
