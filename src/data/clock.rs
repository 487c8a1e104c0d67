//! The date and time for chat templates that print it (`strftime_now`).

use std::time::{SystemTime, UNIX_EPOCH};

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const WEEKDAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];
const SECONDS_PER_DAY: u64 = 86_400;

/// A moment in UTC, to the second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Clock {
    seconds: u64,
}

impl Clock {
    /// A clock that stands at so many seconds after the start of 1970.
    pub(super) fn at(seconds: u64) -> Self {
        Clock { seconds }
    }

    /// A clock that stands at this moment.
    pub(super) fn now() -> Self {
        Clock::at(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()))
    }

    /// The moment in the notation of `strftime`, or which directive is unknown.
    pub(super) fn format(&self, format: &str) -> Result<String, String> {
        let mut text = String::new();
        let mut rest = format.chars();
        while let Some(c) = rest.next() {
            if c != '%' {
                text.push(c);
                continue;
            }
            let padded = !rest.as_str().starts_with('-');
            let directive = if padded { rest.next() } else { rest.nth(1) };
            let directive = directive.ok_or("the time format ends with %")?;
            text.push_str(&self.directive(directive, padded)?);
        }
        Ok(text)
    }

    fn directive(&self, directive: char, padded: bool) -> Result<String, String> {
        let Date { year, month, day, day_of_year, weekday } = self.date();
        let (hour, minute, second) = (self.seconds / 3600 % 24, self.seconds / 60 % 60, self.seconds % 60);
        let number = |value: u64, width: usize| if padded { format!("{value:0width$}") } else { value.to_string() };
        Ok(match directive {
            'Y' => year.to_string(),
            'y' => number(year % 100, 2),
            'm' => number(month as u64 + 1, 2),
            'd' => number(day, 2),
            'e' => format!("{day:2}"),
            'j' => number(day_of_year, 3),
            'B' => MONTHS[month].into(),
            'b' => MONTHS[month][..3].into(),
            'A' => WEEKDAYS[weekday].into(),
            'a' => WEEKDAYS[weekday][..3].into(),
            'H' => number(hour, 2),
            'I' => number((hour + 11) % 12 + 1, 2),
            'M' => number(minute, 2),
            'S' => number(second, 2),
            'p' => if hour < 12 { "AM" } else { "PM" }.into(),
            'Z' => String::new(),
            '%' => "%".into(),
            'F' => self.format("%Y-%m-%d")?,
            'T' => self.format("%H:%M:%S")?,
            other => return Err(format!("the time format has the unknown directive %{other}")),
        })
    }

    fn date(&self) -> Date {
        let mut day = self.seconds / SECONDS_PER_DAY;
        let weekday = ((day + 4) % 7) as usize; // the first day of 1970 was a Thursday
        let mut year = 1970;
        while day >= days_in_year(year) {
            day -= days_in_year(year);
            year += 1;
        }
        let day_of_year = day + 1;
        let mut month = 0;
        while day >= days_in_month(year, month) {
            day -= days_in_month(year, month);
            month += 1;
        }
        Date { year, month, day: day + 1, day_of_year, weekday }
    }
}

/// A date: month from 0, day and day of the year from 1, weekday from 0 for Sunday.
struct Date {
    year: u64,
    month: usize,
    day: u64,
    day_of_year: u64,
    weekday: usize,
}

fn is_leap(year: u64) -> bool {
    year.is_multiple_of(4) && !year.is_multiple_of(100) || year.is_multiple_of(400)
}

fn days_in_year(year: u64) -> u64 {
    if is_leap(year) { 366 } else { 365 }
}

fn days_in_month(year: u64, month: usize) -> u64 {
    match month {
        1 if is_leap(year) => 29,
        1 => 28,
        3 | 5 | 8 | 10 => 30,
        _ => 31,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Expected texts are those of Python's `datetime.fromtimestamp(s, timezone.utc).strftime(format)`.
    #[test]
    fn dates_are_those_of_python() {
        let format = "%A %a %d %-d %e %B %b %m %Y %y %j %H:%M:%S %I %p %%";
        for (seconds, text) in [
            (0, "Thursday Thu 01 1  1 January Jan 01 1970 70 001 00:00:00 12 AM %"),
            (951_868_799, "Tuesday Tue 29 29 29 February Feb 02 2000 00 060 23:59:59 11 PM %"),
            (1_735_646_400, "Tuesday Tue 31 31 31 December Dec 12 2024 24 366 12:00:00 12 PM %"),
            (4_107_542_400, "Monday Mon 01 1  1 March Mar 03 2100 00 060 00:00:00 12 AM %"),
        ] {
            assert_eq!(Clock::at(seconds).format(format).unwrap(), text);
        }
        assert!(Clock::at(0).format("%Q").is_err() && Clock::at(0).format("%").is_err());
    }
}
