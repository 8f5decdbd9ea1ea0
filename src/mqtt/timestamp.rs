//! Timestamps of devices: RFC 3339, epoch seconds or milliseconds. The example sketch of the device protocol sends
//! milliseconds since boot as text, which is no time at all.

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};

/// A timestamp further ahead of the server's clock is ignored.
const MAX_AHEAD: TimeDelta = TimeDelta::minutes(5);
/// 2020-01-01T00:00:00Z in epoch seconds; an earlier timestamp is ignored.
const EARLIEST_S: i64 = 1_577_836_800;
/// A text of digits in the range of Arduino's `millis()` counts as epoch seconds only when it is so recent. `millis()`
/// runs through every number up to `u32::MAX` in 50 days, and for 30 of them through "times" since 2020; through this
/// window it runs in 86 s.
const MAX_TEXT_AGE: TimeDelta = TimeDelta::days(1);

/// The time that a JSON value stands for, if a device with a working clock could have sent it at `now`.
///
/// `raw` is the JSON text of the value: a string or a number.
pub(super) fn parse(raw: &str, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
    let text = match raw.strip_prefix('"') {
        Some(rest) => rest.strip_suffix('"')?,
        None => raw,
    };
    let at = match plain_utc(text) {
        Some(at) => at,
        None => any_form(text)?,
    };
    let may_be_uptime = raw.starts_with('"') && text.parse::<u32>().is_ok();
    if may_be_uptime && at < now - MAX_TEXT_AGE {
        return None;
    }
    // PostgreSQL stores microseconds and has no leap seconds: 23:59:60 becomes the next day's first second.
    let at = DateTime::from_timestamp_micros(at.timestamp_micros())?;
    (at.timestamp() >= EARLIEST_S && at <= now + MAX_AHEAD).then_some(at)
}

/// The form that most devices send, `2026-02-13T12:00:00.000Z` with up to nine digits after the point; `None` for any other
/// form, which the library reads.
fn plain_utc(text: &str) -> Option<DateTime<Utc>> {
    let (seconds, rest) = text.as_bytes().split_first_chunk::<19>()?;
    let separators = [4, 7, 10, 13, 16].map(|at| seconds[at]);
    let fraction = rest.strip_suffix(b"Z")?;
    if separators != *b"--T::" {
        return None;
    }
    let nanos = match fraction.split_first() {
        None => 0,
        Some((b'.', digits)) if (1..=9).contains(&digits.len()) => {
            let digits = digits.iter().chain(std::iter::repeat(&b'0'));
            digits.take(9).try_fold(0, |n, digit| Some(10 * n + digit_of(*digit)?))?
        }
        Some(_) => return None,
    };
    let two = |at: usize| Some(10 * digit_of(seconds[at])? + digit_of(seconds[at + 1])?);
    let year = i32::try_from(100 * two(0)? + two(2)?).ok()?;
    let date = NaiveDate::from_ymd_opt(year, two(5)?, two(8)?)?;
    Some(date.and_hms_nano_opt(two(11)?, two(14)?, two(17)?, nanos)?.and_utc())
}

fn digit_of(byte: u8) -> Option<u32> {
    byte.is_ascii_digit().then(|| u32::from(byte - b'0'))
}

fn any_form(text: &str) -> Option<DateTime<Utc>> {
    // A date has a colon or a `T` as well. Some firmware prints numbers with an exponent.
    if text.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'e' | b'E' | b'+' | b'-')) {
        return epoch(text.parse().ok()?);
    }
    // RFC 3339 wants `+01:00`; C's `%z` prints `+0100`, and some print `+01`.
    let c_offset = || DateTime::parse_from_str(text, "%Y-%m-%dT%H:%M:%S%.f%#z");
    Some(DateTime::parse_from_rfc3339(text).or_else(|_| c_offset()).ok()?.with_timezone(&Utc))
}

/// Seconds and milliseconds can't be confused: read as seconds, today's milliseconds lie tens of thousands of years
/// ahead.
fn epoch(value: f64) -> Option<DateTime<Utc>> {
    const EARLIEST_MS: f64 = EARLIEST_S as f64 * 1000.0;
    let ms = if value >= EARLIEST_MS { value } else { value * 1000.0 };
    if !(0.0..1e15).contains(&ms) {
        return None;
    }
    #[expect(clippy::cast_possible_truncation, reason = "bounded above")]
    DateTime::from_timestamp_micros((ms * 1000.0).round() as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> DateTime<Utc> {
        "2026-02-13T12:00:00Z".parse().unwrap()
    }

    #[test]
    fn every_form_of_the_protocol_is_read() {
        for raw in [
            r#""2026-02-13T11:59:00.000Z""#,
            r#""2026-02-13T12:59:00+01:00""#,
            r#""2026-02-13T12:59:00+0100""#,
            r#""2026-02-13T17:29:00.000+0530""#,
            r#""2026-02-13T11:59:00+00""#,
            "1770983940",
            "1770983940000",
            "1770983940.0",
            "1.77098394e9",
            "1.77098394E+12",
            r#""1770983940000""#,
            r#""1770983940""#,
        ] {
            assert_eq!(parse(raw, now()), Some("2026-02-13T11:59:00Z".parse().unwrap()), "{raw}");
        }
    }

    #[test]
    fn what_is_read_without_the_library_the_library_reads_too() {
        let seed = fastrand::u64(..);
        println!("seed {seed}");
        let mut random = fastrand::Rng::with_seed(seed);
        let mut n_read = 0;
        for _ in 0..100_000 {
            let mut text = b"2024-02-29T23:59:09.123456789Z".to_vec();
            text.drain(random.usize(19..28)..29);
            for _ in 0..random.usize(0..3) {
                let at = random.usize(..text.len());
                text[at] = b"0123456789.-:TZ+ /"[random.usize(..18)];
            }
            let text = String::from_utf8(text).unwrap();
            if let Some(at) = plain_utc(&text) {
                assert_eq!(DateTime::parse_from_rfc3339(&text).map(|at| at.to_utc()), Ok(at), "{text}");
                n_read += 1;
            }
        }
        assert!(n_read > 40_000, "{n_read} of 100,000");
    }

    #[test]
    fn milliseconds_since_boot_are_never_taken_for_a_time() {
        let day = 86_400_000_u32;
        for uptime in [day, 1_577_836_800, 19 * day, 20 * day, 1_770_983_940 - 86_400_000, u32::MAX] {
            assert_eq!(parse(&format!(r#""{uptime}""#), now()), None, "{uptime}");
        }
        let text = |at: &str| parse(&format!(r#""{}""#, at.parse::<DateTime<Utc>>().unwrap().timestamp()), now());
        assert!(text("2026-02-12T12:00:00Z").is_some(), "a clock that counts seconds, a day of backlog");
        assert_eq!(text("2026-02-12T11:59:59Z"), None);
        // The sketch sends a text, so a number is not in doubt.
        assert!(parse("1577836800", now()).is_some());
    }

    #[test]
    fn implausible_times_are_ignored() {
        for raw in [
            r#""123456""#,
            "123456",
            "0",
            "-5",
            "1e99",
            "null",
            "true",
            "{}",
            r#""""#,
            r#"".""#,
            r#""yesterday""#,
            r#""2026-02-13T12:00:00""#,
            r#""2019-12-31T23:59:59Z""#,
            r#""2026-02-13T12:05:01Z""#,
            r#""+999999-01-01T00:00:00Z""#,
            "99999999999999999999999",
        ] {
            assert_eq!(parse(raw, now()), None, "{raw}");
        }
        assert!(parse(r#""2026-02-13T12:05:00Z""#, now()).is_some());
        let leap = parse(r#""2020-01-31T23:59:60.5Z""#, now()).unwrap();
        assert_eq!(leap, "2020-02-01T00:00:00.5Z".parse::<DateTime<Utc>>().unwrap());
        assert_eq!(leap.timestamp_subsec_micros(), 500_000);
    }
}
