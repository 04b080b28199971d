//! MS-DOS dates and times, which have years 1980 to 2107 and steps of two seconds.

/// The DOS date (high half) and time (low half) of `seconds` since 1970, in UTC; the nearest there is
/// where the year has none.
pub fn dos_time(seconds: i64) -> u32 {
    const FIRST: i64 = 315_532_800; // 1980-01-01 00:00:00
    const LAST: i64 = 4_354_819_198; // 2107-12-31 23:59:58
    let seconds = seconds.clamp(FIRST, LAST);
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = civil(days);
    let date = ((year - 1980) << 9) | (month << 5) | day;
    let time = ((second / 3600) << 11) | ((second / 60 % 60) << 5) | (second % 60 / 2);
    // Both halves have 16 bits for every year in range.
    ((date << 16) | time) as u32
}

/// Year, month and day of a day counted from 1970-01-01: Howard Hinnant's `civil_from_days`, which counts
/// years from March so that the leap day is the last.
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 {
        from_march + 3
    } else {
        from_march - 9
    };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(seconds: i64) -> (u32, u32, u32, u32, u32, u32) {
        let dos = dos_time(seconds);
        let (date, time) = (dos >> 16, dos & 0xffff);
        (
            (date >> 9) + 1980,
            date >> 5 & 15,
            date & 31,
            time >> 11,
            time >> 5 & 63,
            (time & 31) * 2,
        )
    }

    #[test]
    fn ok_dates_agree_with_the_calendar() {
        assert_eq!(fields(1_700_000_000), (2023, 11, 14, 22, 13, 20));
        assert_eq!(fields(951_782_399), (2000, 2, 28, 23, 59, 58));
        assert_eq!(fields(951_827_696), (2000, 2, 29, 12, 34, 56));
        assert_eq!(fields(1_735_689_600), (2025, 1, 1, 0, 0, 0));
    }

    #[test]
    fn ok_years_out_of_range_give_the_nearest() {
        assert_eq!(fields(0), (1980, 1, 1, 0, 0, 0));
        assert_eq!(fields(i64::MIN), (1980, 1, 1, 0, 0, 0));
        assert_eq!(fields(i64::MAX), (2107, 12, 31, 23, 59, 58));
        assert_eq!(fields(4_354_819_198), (2107, 12, 31, 23, 59, 58));
    }
}
